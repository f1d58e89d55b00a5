"""Engines: windows of a waveform in, logits out.

Shapes: W windows, T samples, C classes.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from birdmix.bundle.manifest import Manifest, read_manifest


class Engine(Protocol):
    """A model ready to listen.

    Attributes:
        manifest: What the model is.
    """

    manifest: Manifest

    def __call__(self, waveforms: np.ndarray) -> np.ndarray:
        """Return the logits, float32 [W, C], of waveforms, float32 [W, T]."""


def open_engine(bundle: Path) -> Engine:
    """Open a bundle for listening.

    Raises:
        ValueError: If the bundle is missing, damaged or of another format.
    """
    manifest = read_manifest(bundle)
    # Imported here, so that an engine without torch can stand beside it.
    from birdmix.inference.torch_engine import TorchEngine

    return TorchEngine(bundle, manifest)

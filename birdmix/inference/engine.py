"""Engines: windows of a waveform in, logits out.

Shapes: W windows, T samples, C classes, F' frames of the feature map.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from birdmix.bundle.manifest import Manifest, read_manifest


class Heard(NamedTuple):
    """Logits of windows, each class's log-odds, and of their frames where the head hears them.

    Attributes:
        clip: float32 [W, C].
        frames: float32 [W, C, F'], evenly spaced over the window; None if the head hears clips.
    """

    clip: np.ndarray
    frames: np.ndarray | None = None


class Engine(Protocol):
    """A model ready to listen: an ear, which turns waveforms to pictures, and a judge of them.

    Attributes:
        manifest: What the model is.
        name: Which engine it is, and its precision: ``openvino f32``.
        ear: Engines whose ears are equal take each other's pictures: a mel is computed once.
        batch: Windows that are best heard at a time.
        side_by_side: Threads that may call it at a time, to keep all processors busy.
    """

    manifest: Manifest
    name: str
    ear: Hashable
    batch: int
    side_by_side: int

    def hear(self, waveforms: np.ndarray) -> Any:
        """Turn waveforms, float32 [W, T], into what ``judge`` takes."""

    def judge(self, pictures: Any) -> Heard:
        """Return the logits of pictures."""


def open_engine(bundle: Path, name: str = "auto") -> Engine:
    """Open a bundle for listening.

    Args:
        bundle: The bundle's folder.
        name: torch; or auto, the fastest that the bundle and this machine have.

    Raises:
        ValueError: If the bundle is missing, damaged or of another format.
    """
    manifest = read_manifest(bundle)
    # Imported here, so that an engine without torch can stand beside it.
    from birdmix.inference.torch_engine import TorchEngine

    return TorchEngine(bundle, manifest)

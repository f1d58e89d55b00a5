"""The base class of engines that run exported networks on a CPU, without torch.

Shapes: W windows, T samples, M mel bins, F frames.
"""

from collections.abc import Hashable

import numpy as np

from birdmix.bundle.manifest import Manifest
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.threads import num_processors


class ExportedEngine:
    """An engine of an exported network: each call uses one thread, so many may call at a time.

    Subclasses take ``(manifest, file, precision)`` and define ``infer``.

    Args:
        manifest: The bundle's manifest.
        name: Name and precision of the engine.
    """

    #: Measured: 1 to 16 windows at a time are equally fast, to within a tenth.
    batch_size = 4

    def __init__(self, manifest: Manifest, name: str) -> None:
        self.manifest, self.name = manifest, name
        self.log_mel = NumpyLogMel(manifest.log_mel)
        self.input_key: Hashable = ("numpy", repr(manifest.log_mel))
        self.num_samples: int | None = manifest.samples_per_window
        self.num_threads = num_processors()

    def preprocess(self, waveforms: np.ndarray) -> np.ndarray:
        """Compute log-mels, float32 [W, 1, M, F], of waveforms, float32 [W, T]."""
        return self.log_mel(waveforms)

    @classmethod
    def check_processor_supports_precision(cls, precision: str) -> None:
        """Refuse to export in a precision that this processor cannot compute in.

        Args:
            precision: One that the engine has on some processors.

        Raises:
            ValueError: With the remedy.
        """

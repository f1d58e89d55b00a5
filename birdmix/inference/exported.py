"""What the engines of exported networks share. None of it needs torch.

Shapes: W windows, T samples, M mel bins, F frames.
"""

from collections.abc import Hashable

import numpy as np

from birdmix.bundle.manifest import Manifest
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.inference.engine import processors


class ExportedEngine:
    """An engine whose every call takes one thread; as many may call as there are processors.

    Args:
        manifest: The bundle's manifest.
        name: Which engine it is, and its precision.
    """

    #: Measured: 1 to 16 windows at a time are heard equally fast, to within a tenth.
    batch = 4

    def __init__(self, manifest: Manifest, name: str) -> None:
        self.manifest, self.name = manifest, name
        self.log_mel = NumpyLogMel(manifest.log_mel)
        self.ear: Hashable = ("numpy", repr(manifest.log_mel))
        self.num_samples: int | None = manifest.num_samples
        self.side_by_side = processors()

    def hear(self, waveforms: np.ndarray) -> np.ndarray:
        """Turn waveforms, float32 [W, T], into log-mels, float32 [W, 1, M, F]."""
        return self.log_mel(waveforms)

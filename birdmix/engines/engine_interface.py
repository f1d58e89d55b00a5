"""The interface of inference engines (torch, ONNX Runtime, OpenVINO): waveforms to logits.

Shapes: W windows, T samples, C classes, F' frames of the feature map.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

import numpy as np

from birdmix.bundle.manifest import Manifest


class EngineOutput(NamedTuple):
    """Logits of windows: log-odds of each class, also over time if the head computes them.

    Attributes:
        logits: Float32 [W, C].
        frame_logits: Float32 [W, C, F'], frames evenly spaced over the window; None if the head has
            no frame logits.
    """

    logits: np.ndarray
    frame_logits: np.ndarray | None = None


class Engine(Protocol):
    """A model that is ready to run, in two steps: ``preprocess``, then ``infer``.

    Attributes:
        manifest: Manifest of the bundle.
        name: Name and precision of the engine, as ``openvino f32``.
        input_key: Engines with equal keys take the same model inputs, which are computed once.
        num_samples: The only length T of waveforms that it takes; None if it takes any.
        batch_size: Windows per call that are computed fastest.
        num_threads: Threads that may call it at a time, enough to keep all processors busy.
    """

    manifest: Manifest
    name: str
    input_key: Hashable
    num_samples: int | None
    batch_size: int
    num_threads: int

    def preprocess(self, waveforms: np.ndarray) -> Any:
        """Compute model inputs, the log-mels that ``infer`` takes.

        Args:
            waveforms: Float32 [W, T] at the sample rate of the manifest.
        """

    def infer(self, inputs: Any) -> EngineOutput:
        """Compute the logits of model inputs, those of ``preprocess``."""

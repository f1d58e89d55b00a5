"""The ONNX Runtime engine: an exported network on the CPU, without torch."""

from pathlib import Path

import numpy as np
import onnxruntime

from birdmix.bundle.manifest import Manifest
from birdmix.engines.engine_interface import EngineOutput
from birdmix.engines.exported_engine import ExportedEngine


class OnnxEngine(ExportedEngine):
    """A network that ONNX Runtime runs; each call runs in the thread that makes it.

    Args:
        manifest: The bundle's manifest.
        file: The exported network.
        precision: Precision of the network: f32 or int8.
    """

    def __init__(self, manifest: Manifest, file: Path, precision: str) -> None:
        super().__init__(manifest, f"onnx {precision}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )

    def infer(self, inputs: np.ndarray) -> EngineOutput:
        """Compute the logits of log-mels, float32 [W, 1, M, F]."""
        return EngineOutput(*self.session.run(None, {"mel": inputs}))

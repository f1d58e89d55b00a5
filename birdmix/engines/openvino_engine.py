"""The OpenVINO engine: an exported network on the CPU, without torch."""

import functools
import threading
from pathlib import Path

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from birdmix.bundle.manifest import Manifest
from birdmix.engines.engine_interface import EngineOutput
from birdmix.engines.exported_engine import ExportedEngine

# OpenVINO's names of the precisions. Without a hint it computes in bfloat16 where it can.
_HINTS = {"f32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine(ExportedEngine):
    """A network that OpenVINO runs; each thread that calls it has its own inference request.

    Args:
        manifest: The bundle's manifest.
        file: The exported network.
        precision: Precision of the network: f32, bf16 or int8. On a processor without bfloat16 a
            bf16 network is computed in float32, and named so.
    """

    def __init__(self, manifest: Manifest, file: Path, precision: str) -> None:
        core = _core()
        if precision == "bf16" and not _has_bf16(core):
            precision = "f32"
        super().__init__(manifest, f"openvino {precision}")
        properties = {
            "NUM_STREAMS": self.num_threads,
            "INFERENCE_NUM_THREADS": self.num_threads,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            # Other processes and threads of ours use the same processors.
            "ENABLE_CPU_PINNING": False,
        }
        # core.read_model would try the readers of all formats, and print the error of each.
        reader = FrontEndManager().load_by_framework("onnx")
        self.network = core.compile_model(reader.convert(reader.load(str(file))), "CPU", properties)
        self.thread_local = threading.local()

    def infer(self, inputs: np.ndarray) -> EngineOutput:
        """Compute the logits of log-mels, float32 [W, 1, M, F]."""
        if not hasattr(self.thread_local, "request"):
            self.thread_local.request = self.network.create_infer_request()
        outputs = self.thread_local.request.infer({"mel": inputs}, share_inputs=True)
        return EngineOutput(*outputs.values())

    @classmethod
    def check_processor_supports_precision(cls, precision: str) -> None:
        """Refuse to export in bf16 on a processor without bfloat16.

        Raises:
            ValueError: With the remedy.
        """
        if precision == "bf16" and not _has_bf16(_core()):
            raise ValueError(
                "precision=bf16: this processor has no bfloat16 to check it with; use "
                "precision=f32, or export on a processor that has bfloat16"
            )


@functools.cache
def _core() -> openvino.Core:
    """Return the core of this process, which is never unloaded.

    Its CPU plugin gives the thread that loads it a stack for signal handlers. Unloaded by another
    thread, it would leave that thread with a stack that was freed, and the next signal would end
    the process.
    """
    return openvino.Core()


def _has_bf16(core: openvino.Core) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

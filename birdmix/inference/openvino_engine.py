"""The OpenVINO engine: an exported network on the CPU, without torch."""

import functools
import threading
from pathlib import Path

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from birdmix.bundle.manifest import Manifest
from birdmix.inference.engine import Heard
from birdmix.inference.exported import ExportedEngine

# What OpenVINO calls the precisions. Of its own accord it takes bfloat16 where there is any.
_HINTS = {"f32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine(ExportedEngine):
    """A network that OpenVINO runs; each thread that calls has a request of its own.

    Args:
        manifest: The bundle's manifest.
        file: The exported network.
        precision: What it was exported in. Where a processor has no bfloat16, bf16 is heard in
            float32, and the engine's name says so.
    """

    def __init__(self, manifest: Manifest, file: Path, precision: str) -> None:
        core = _core()
        if precision == "bf16" and not _has_bf16(core):
            precision = "f32"
        super().__init__(manifest, f"openvino {precision}")
        wanted = {
            "NUM_STREAMS": self.side_by_side,
            "INFERENCE_NUM_THREADS": self.side_by_side,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            # Other processes and threads of ours want the same processors.
            "ENABLE_CPU_PINNING": False,
        }
        # core.read_model would try the readers of all formats, and print what each of them says.
        reader = FrontEndManager().load_by_framework("onnx")
        self.network = core.compile_model(reader.convert(reader.load(str(file))), "CPU", wanted)
        self.own = threading.local()

    def judge(self, pictures: np.ndarray) -> Heard:
        """Return the logits of log-mels, float32 [W, 1, M, F]."""
        if not hasattr(self.own, "request"):
            self.own.request = self.network.create_infer_request()
        heard = self.own.request.infer({"mel": pictures}, share_inputs=True)
        return Heard(*heard.values())


def has_bf16() -> bool:
    """Tell whether this processor computes in bfloat16."""
    return _has_bf16(_core())


@functools.cache
def _core() -> openvino.Core:
    """Return the core of this process, which is never unloaded.

    Its CPU plugin gives the thread that loads it a stack for signal handlers. Unloaded by another
    thread it would leave that thread with a stack that is gone, and the next signal would end the
    process.
    """
    return openvino.Core()


def _has_bf16(core: openvino.Core) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

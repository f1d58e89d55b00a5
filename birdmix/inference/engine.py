"""Engines: windows of a waveform in, logits out.

Shapes: W windows, T samples, C classes, F' frames of the feature map.
"""

import math
import os
from collections.abc import Hashable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from birdmix.bundle.exports import exported_file
from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.suggest import check_choice

#: Engines of exported networks, and the library of each.
EXPORTED = {"onnx": "onnxruntime", "openvino": "openvino"}

#: All names of engines.
ENGINES = ("auto", "torch", *EXPORTED)

# What NVIDIA's driver leaves, under Linux and in its guest under Windows.
_GPU = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


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
        num_samples: The only length T of windows that it hears; None if it hears any.
        batch: Windows that are best heard at a time.
        side_by_side: Threads that may call it at a time, to keep all processors busy.
    """

    manifest: Manifest
    name: str
    ear: Hashable
    num_samples: int | None
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
        name: torch, onnx or openvino; or auto: torch on a GPU, else the export that was measured to
            be the fastest of those whose library is here, else torch.

    Raises:
        ValueError: If the bundle is missing, damaged or of another format, or lacks the engine's
            export; or if the engine's library is not installed.
    """
    check_choice("engine", name, ENGINES)
    manifest = read_manifest(bundle)
    kind = _fastest(manifest) if name == "auto" else name
    # Imported here: each needs a library that the others do without.
    if kind == "torch":
        check_installed("torch", "torch", "pip install birdmix, or take an exported engine")
        from birdmix.inference.torch_engine import TorchEngine

        return TorchEngine(bundle, manifest)
    return _open_exported(bundle, manifest, kind)


def network_of(bundle: Path, manifest: Manifest, kind: str) -> Path:
    """Return where the network lies that a bundle was exported to, for onnx or openvino.

    Raises:
        ValueError: If it was not exported, or the network is missing or damaged.
    """
    if kind not in manifest.exports:
        raise ValueError(
            f"engine={kind}: {bundle} is not exported to it; "
            f"birdmix export --bundle {bundle} --engine {kind}"
        )
    return exported_file(bundle, kind, manifest.exports[kind])


def fastest_export(manifests: Sequence[Manifest]) -> str:
    """Return which export was measured to be the fastest of those that all bundles have.

    Returns:
        onnx or openvino, whose library is here; torch if there is none.
    """
    there = [
        kind
        for kind, library in EXPORTED.items()
        if all(kind in each.exports for each in manifests) and find_spec(library)
    ]
    took = {kind: sum(_milliseconds(each, kind) for each in manifests) for kind in there}
    return min(there, key=lambda kind: took[kind], default="torch")


def _open_exported(bundle: Path, manifest: Manifest, kind: str) -> Engine:
    file = network_of(bundle, manifest, kind)
    check_installed(kind, EXPORTED[kind], "pip install 'birdmix[export]'")
    return exported_engine(kind, manifest, file, manifest.exports[kind].precision)


def exported_engine(kind: str, manifest: Manifest, file: Path, precision: str) -> Engine:
    """Make the engine of an exported network."""
    if kind == "openvino":
        from birdmix.inference.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(manifest, file, precision)
    from birdmix.inference.onnx_engine import OnnxEngine

    return OnnxEngine(manifest, file, precision)


def check_installed(engine: str, library: str, remedy: str) -> None:
    """Refuse an engine whose library is not there.

    Raises:
        ValueError: With the remedy.
    """
    if find_spec(library) is None:
        raise ValueError(f"engine={engine}: {library} is not installed; {remedy}")


def _fastest(manifest: Manifest) -> str:
    if any(each.exists() for each in _GPU) and find_spec("torch") is not None:
        from birdmix.inference.torch_engine import has_gpu

        if has_gpu():
            return "torch"
    return fastest_export([manifest])


def _milliseconds(manifest: Manifest, kind: str) -> float:
    took = manifest.exports[kind].milliseconds
    return math.inf if took is None else took


def processors() -> int:
    """Return how many processors this process has: torchrun's others on this machine have theirs.

    OMP_NUM_THREADS does not count: torchrun sets it to 1 whatever there is.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)

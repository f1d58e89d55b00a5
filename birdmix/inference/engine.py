"""Engines: windows of a waveform in, logits out.

Shapes: W windows, T samples, C classes, F' frames of the feature map.
"""

import math
import os
import warnings
from collections.abc import Hashable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from birdmix.bundle.exports import export_again, exported_file
from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.suggest import check_choice, last_line

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
            be the fastest of those whose library is here, else torch. Where one of them cannot be
            used, auto warns and goes on with the next.

    Raises:
        ValueError: If the bundle is missing, damaged or of another format, or lacks the engine's
            export; if the engine's library is not installed, or refuses the network.
    """
    check_choice("engine", name, ENGINES)
    manifest = read_manifest(bundle)
    *others, last = _candidates(manifest) if name == "auto" else [name]
    for kind in others:
        try:
            return _open(bundle, manifest, kind)
        except ValueError as error:
            warnings.warn(f"{error}; going on without engine={kind}", stacklevel=2)
    return _open(bundle, manifest, last)


def _open(bundle: Path, manifest: Manifest, kind: str) -> Engine:
    # Imported here: each needs a library that the others do without.
    if kind != "torch":
        return _open_exported(bundle, manifest, kind)
    check_installed("torch", "torch", "pip install birdmix, or take an exported engine")
    from birdmix.inference.torch_engine import TorchEngine

    engine = TorchEngine(bundle, manifest)
    try:
        _try(engine)
    except Exception as error:  # whatever a network raises for inputs that it was not made for
        raise ValueError(
            f"{bundle}: torch does not run it on windows of {manifest.segment_seconds:g} s "
            f"({last_line(error)}); write the bundle again"
        ) from error
    return engine


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


def engines_by_speed(manifests: Sequence[Manifest]) -> list[str]:
    """Return the engines that bundles can listen with where there is no GPU, the fastest first.

    Returns:
        The exports that all bundles have and whose library is here, as they were measured when
        they were made; then torch.
    """
    there = [
        kind
        for kind, library in EXPORTED.items()
        if all(kind in each.exports for each in manifests) and find_spec(library)
    ]
    took = {kind: sum(_milliseconds(each, kind) for each in manifests) for kind in there}
    return [*sorted(there, key=lambda kind: took[kind]), "torch"]


def _open_exported(bundle: Path, manifest: Manifest, kind: str) -> Engine:
    file, made = network_of(bundle, manifest, kind), manifest.exports[kind]
    check_installed(kind, EXPORTED[kind], "pip install 'birdmix[export]'")
    try:
        return exported_engine(kind, manifest, file, made.precision)
    except Exception as error:  # whatever a library raises for a network that it cannot run
        raise ValueError(
            f"{file}: {EXPORTED[kind]} does not run it ({last_line(error)}); "
            f"{export_again(bundle, kind, made)}"
        ) from error


def exported_engine(kind: str, manifest: Manifest, file: Path, precision: str) -> Engine:
    """Make the engine of an exported network, and try it on a window of silence.

    Raises:
        ValueError: If what it gives are no logits of the bundle's classes.
        Exception: Whatever its library raises for a network that it cannot run.
    """
    engine = _exported_engine(kind, manifest, file, precision)
    _try(engine)
    return engine


def _exported_engine(kind: str, manifest: Manifest, file: Path, precision: str) -> Engine:
    if kind == "openvino":
        from birdmix.inference.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(manifest, file, precision)
    from birdmix.inference.onnx_engine import OnnxEngine

    return OnnxEngine(manifest, file, precision)


def _try(engine: Engine) -> None:
    """Predict a window of silence, and refuse what are no logits of the bundle's classes."""
    manifest = engine.manifest
    heard = engine.judge(engine.hear(np.zeros((1, manifest.num_samples), np.float32)))
    num_classes, in_frames = len(manifest.labels), manifest.model.head == "sed"
    if heard.clip.shape != (1, num_classes) or (heard.frames is not None) is not in_frames:
        frames = "frames" if in_frames else "no frames"
        raise ValueError(
            f"it gives {list(heard.clip.shape)} for a window, not [1, {num_classes}] and {frames}"
        )
    if heard.frames is not None and heard.frames.shape[:-1] != (1, num_classes):
        raise ValueError(
            f"it gives frames of {list(heard.frames.shape)}, not [1, {num_classes}, F]"
        )
    for logits in heard:
        if logits is None:
            continue
        if logits.dtype != np.float32 or not np.isfinite(logits).all():
            raise ValueError("it gives logits that are not finite numbers of float32")


def check_installed(engine: str, library: str, remedy: str) -> None:
    """Refuse an engine whose library is not there.

    Raises:
        ValueError: With the remedy.
    """
    if find_spec(library) is None:
        raise ValueError(f"engine={engine}: {library} is not installed; {remedy}")


def _candidates(manifest: Manifest) -> list[str]:
    """Return the engines to try, the one that is wanted most first."""
    *exported, torch = engines_by_speed([manifest])
    if any(each.exists() for each in _GPU) and find_spec("torch") is not None:
        from birdmix.inference.torch_engine import has_gpu

        if has_gpu():
            return [torch, *exported]
    return [*exported, torch]


def _milliseconds(manifest: Manifest, kind: str) -> float:
    took = manifest.exports[kind].milliseconds
    return math.inf if took is None else took


def processors() -> int:
    """Return how many processors this process has: torchrun's others on this machine have theirs.

    OMP_NUM_THREADS does not count: torchrun sets it to 1 whatever there is.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)

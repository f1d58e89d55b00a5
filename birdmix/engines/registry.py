"""Engines by name: their libraries, opening them, and choosing the fastest.

A new engine is a module with a class, and a line in ``ENGINES``. The modules are imported when they
are needed, since each imports a library that the other engines do without.
"""

import math
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from birdmix.bundle.export_records import export_remedy, verify_exported_file
from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.engines.engine_interface import Engine
from birdmix.messages import check_choice, last_line


class EngineKind(NamedTuple):
    """An engine's library, class and precisions; its module is not imported yet.

    Attributes:
        library: Package that it needs.
        module: Module of ``birdmix.engines``.
        class_name: Class in it.
        precisions: Precisions of the exported networks that it runs; empty for an engine that runs
            the bundle's weights.
    """

    library: str
    module: str
    class_name: str
    precisions: tuple[str, ...] = ()

    def load_class(self) -> Any:
        """Import the class of the engine."""
        return getattr(import_module(f"birdmix.engines.{self.module}"), self.class_name)


#: All engines. Those of exported networks are subclasses of ``ExportedEngine``.
ENGINES: dict[str, EngineKind] = {
    "torch": EngineKind("torch", "torch_engine", "TorchEngine"),
    "onnx": EngineKind("onnxruntime", "onnx_engine", "OnnxEngine", ("f32", "int8")),
    "openvino": EngineKind(
        "openvino", "openvino_engine", "OpenVinoEngine", ("f32", "bf16", "int8")
    ),
}

#: Engines of exported networks.
EXPORTED_ENGINES = {name: kind for name, kind in ENGINES.items() if kind.precisions}

#: Values of --engine.
ENGINE_NAMES = ("auto", *ENGINES)

# Device files of NVIDIA's driver, under Linux and in its guest under Windows.
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def open_engine(bundle: Path, name: str = "auto") -> Engine:
    """Open a bundle for prediction.

    Args:
        bundle: The bundle's folder.
        name: torch, onnx or openvino; or auto: torch on a GPU, else the export that was measured to
            be the fastest of those whose library is installed, else torch. If one of them cannot be
            used, auto warns and continues with the next.

    Raises:
        ValueError: If the bundle is missing, damaged or of another format, or has no export for the
            engine; if the engine's library is not installed, or cannot run the network.
    """
    check_choice("engine", name, ENGINE_NAMES)
    manifest = read_manifest(bundle)
    *others, last = _candidates(manifest) if name == "auto" else [name]
    for candidate in others:
        try:
            return _open_candidate(bundle, manifest, candidate)
        except ValueError as error:
            warnings.warn(f"{error}; continuing without engine={candidate}", stacklevel=2)
    return _open_candidate(bundle, manifest, last)


def open_exported_engine(name: str, manifest: Manifest, file: Path, precision: str) -> Engine:
    """Open the engine of an exported network, and run it on a window of silence.

    Args:
        name: An engine of ``EXPORTED_ENGINES``.
        manifest: Manifest of the bundle.
        file: The exported network.
        precision: Precision of the network.

    Raises:
        ValueError: If its outputs are not logits of the bundle's classes.
        Exception: Whatever its library raises for a network that it cannot run.
    """
    engine: Engine = EXPORTED_ENGINES[name].load_class()(manifest, file, precision)
    _check_output(engine)
    return engine


def find_exported_network(bundle: Path, manifest: Manifest, name: str) -> Path:
    """Return the file of a bundle's network that was exported for an engine.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest.
        name: An engine of ``EXPORTED_ENGINES``.

    Raises:
        ValueError: If the bundle was not exported, or the network is missing or damaged.
    """
    if name not in manifest.exports:
        raise ValueError(
            f"engine={name}: {bundle} is not exported to it; "
            f"birdmix export --bundle {bundle} --engine {name}"
        )
    return verify_exported_file(bundle, name, manifest.exports[name])


def engines_by_speed(manifests: Sequence[Manifest]) -> list[str]:
    """Return the engines that can run bundles on a machine without a GPU, the fastest first.

    Returns:
        The exports that all bundles have and whose library is installed, by the times measured when
        they were made; then torch.
    """
    available = [
        name
        for name, kind in EXPORTED_ENGINES.items()
        if all(name in manifest.exports for manifest in manifests) and find_spec(kind.library)
    ]
    times = {
        name: sum(_milliseconds(manifest, name) for manifest in manifests) for name in available
    }
    return [*sorted(available, key=lambda name: times[name]), "torch"]


def check_installed(engine: str, library: str, remedy: str) -> None:
    """Refuse an engine whose library is not installed.

    Args:
        engine: Name of the engine, for the message.
        library: Package that it needs.
        remedy: How to install it, for the message.

    Raises:
        ValueError: With the remedy.
    """
    if find_spec(library) is None:
        raise ValueError(f"engine={engine}: {library} is not installed; {remedy}")


def _open_candidate(bundle: Path, manifest: Manifest, name: str) -> Engine:
    if name in EXPORTED_ENGINES:
        return _open_export(bundle, manifest, name)
    kind = ENGINES[name]
    check_installed(name, kind.library, "pip install birdmix, or use an exported engine")
    engine: Engine = kind.load_class()(bundle, manifest)
    try:
        _check_output(engine)
    except Exception as error:  # whatever a network raises for inputs that it was not made for
        raise ValueError(
            f"{bundle}: {name} cannot run it on windows of {manifest.segment_seconds:g} s "
            f"({last_line(error)}); write the bundle again"
        ) from error
    return engine


def _open_export(bundle: Path, manifest: Manifest, name: str) -> Engine:
    file, export = find_exported_network(bundle, manifest, name), manifest.exports[name]
    library = ENGINES[name].library
    check_installed(name, library, "pip install 'birdmix[export]'")
    try:
        return open_exported_engine(name, manifest, file, export.precision)
    except Exception as error:  # whatever a library raises for a network that it cannot run
        raise ValueError(
            f"{file}: {library} cannot run it ({last_line(error)}); "
            f"{export_remedy(bundle, name, export)}"
        ) from error


def _check_output(engine: Engine) -> None:
    """Run an engine on a window of silence, and refuse outputs that are not its classes' logits."""
    manifest = engine.manifest
    output = engine.infer(engine.preprocess(np.zeros((1, manifest.samples_per_window), np.float32)))
    logits, frame_logits = output
    num_classes, has_frames = len(manifest.labels), manifest.model.has_frame_logits
    if logits.shape != (1, num_classes) or (frame_logits is not None) is not has_frames:
        expected = "with" if has_frames else "without"
        raise ValueError(
            f"its logits of a window are {list(logits.shape)}; expected [1, {num_classes}], "
            f"{expected} frame logits"
        )
    if frame_logits is not None and frame_logits.shape[:-1] != (1, num_classes):
        raise ValueError(
            f"its frame logits are {list(frame_logits.shape)}, not [1, {num_classes}, F']"
        )
    for array in output:
        if array is None:
            continue
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError("its logits are not finite numbers of float32")


def _candidates(manifest: Manifest) -> list[str]:
    """Return the engines to try, in order of preference."""
    *exported, torch = engines_by_speed([manifest])
    if any(file.exists() for file in _GPU_FILES) and find_spec("torch") is not None:
        from birdmix.engines.torch_engine import has_gpu

        if has_gpu():
            return [torch, *exported]
    return [*exported, torch]


def _milliseconds(manifest: Manifest, name: str) -> float:
    milliseconds = manifest.exports[name].milliseconds
    return math.inf if milliseconds is None else milliseconds

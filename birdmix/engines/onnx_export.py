"""Export of a bundle's network to ONNX, compared at once with torch on the golden windows.

Shapes: W windows, M mel bins, F frames, C classes, F' frames of the feature map.
"""

import importlib.metadata
import statistics
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from birdmix.bundle.bundle_weights import load_classifier
from birdmix.bundle.export_records import PRECISIONS, ExportRecord, sha256_of
from birdmix.bundle.golden_storage import GoldenWindows, read_golden
from birdmix.bundle.manifest import Manifest, read_manifest, write_bundle_file_list, write_manifest
from birdmix.engines.agreement import MIN_WINDOWS, Agreement, measure_agreement
from birdmix.engines.engine_interface import Engine, EngineOutput
from birdmix.engines.quantisation import quantise
from birdmix.engines.registry import (
    ENGINES,
    EXPORTED_ENGINES,
    check_installed,
    open_exported_engine,
)
from birdmix.files import atomic_path
from birdmix.messages import check_choice, first_line, last_line
from birdmix.model.classifier import Classifier
from birdmix.partial_files import remove_partials

#: Version of ONNX's operators; both engines have supported it since 2023.
_OPSET = 18


def export_network(bundle: Path, engine: str, precision: str = "f32") -> ExportRecord:
    """Add an exported network to a bundle; it is not written if it differs from torch.

    Args:
        bundle: The bundle's folder.
        engine: onnx or openvino.
        precision: f32; bf16, which OpenVINO computes in on processors that have it; or int8.

    Returns:
        The entry of the bundle's manifest.

    Raises:
        ValueError: If the bundle is damaged or has no golden windows, the engine is not installed
            or cannot compute in such a precision here, or the exported network differs from torch.
    """
    check_choice("engine", engine, EXPORTED_ENGINES)
    check_choice("precision", precision, PRECISIONS)
    check_installed(engine, ENGINES[engine].library, "pip install 'birdmix[export]'")
    check_installed(engine, "onnx", "pip install 'birdmix[export]'")
    _check_precision(engine, precision)
    manifest, golden = read_manifest(bundle), _read_golden(bundle, precision)
    final = Path(bundle) / f"network-{engine}.onnx"
    write_bundle_file_list(bundle)
    remove_partials(bundle)
    with atomic_path(final) as partial:
        _write_network(load_classifier(bundle, manifest), golden, partial)
        if precision == "int8":
            quantise(partial, golden.inputs)
        network, output = _run_exported(engine, manifest, partial, precision, golden)
        measured = _check_agreement(network.name, output, precision, golden)
        export = ExportRecord(
            file=final.name,
            sha256=sha256_of(partial),
            precision=precision,
            num_windows=len(golden.logits),
            difference=measured.difference,
            rank_agreement=measured.rank,
            top_agreement=measured.top,
            versions=_versions(engine),
            milliseconds=_milliseconds(network, golden),
        )
    write_manifest(bundle, replace(manifest, exports={**manifest.exports, engine: export}))
    return export


def _check_precision(engine: str, precision: str) -> None:
    kind = ENGINES[engine]
    if precision not in kind.precisions:
        others = [name for name, other in ENGINES.items() if precision in other.precisions]
        raise ValueError(
            f"precision={precision}: engine={engine} does not support it; use "
            f"{' or '.join(f'engine={name}' for name in others)}"
        )
    if precision == "bf16":
        kind.load_class().check_processor_supports_precision(precision)


def _read_golden(bundle: Path, precision: str) -> GoldenWindows:
    golden = read_golden(bundle)
    if precision != "f32" and len(golden.logits) < MIN_WINDOWS:
        raise ValueError(
            f"precision={precision}: {bundle} has {len(golden.logits)} golden windows, too few to "
            f"rank; make at least {MIN_WINDOWS} with --windows FOLDER, or use precision=f32"
        )
    return golden


def _versions(engine: str) -> dict[str, str]:
    packages = ("torch", "onnx", ENGINES[engine].library)
    return {name: importlib.metadata.version(name) for name in packages}


def _write_network(classifier: Classifier, golden: GoldenWindows, file: Path) -> None:
    """Write a classifier as ONNX, for any number of windows of one length."""
    names = ["logits"] if golden.frame_logits is None else ["logits", "frame_logits"]
    with warnings.catch_warnings():
        # The exporter by torch.export takes ten times as long, and needs packages of its own.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="Constant folding")
        try:
            torch.onnx.export(
                _TupleClassifier(classifier),
                (torch.from_numpy(golden.inputs[:1].astype(np.float32)),),
                str(file),
                dynamo=False,
                opset_version=_OPSET,
                input_names=["mel"],
                output_names=names,
                dynamic_axes={name: {0: "windows"} for name in ("mel", *names)},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise ValueError(
                f"this network cannot be written in ONNX ({first_line(error)}); use engine=torch"
            ) from error


class _TupleClassifier(nn.Module):
    """A classifier whose logits are a plain tuple."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, mel: Tensor) -> tuple[Tensor, ...]:
        logits = self.classifier(mel)
        return tuple(each for each in logits if each is not None)


def _run_exported(
    name: str, manifest: Manifest, file: Path, precision: str, golden: GoldenWindows
) -> tuple[Engine, EngineOutput]:
    """Return the engine of a network, and its output for the golden windows.

    Raises:
        ValueError: If the engine cannot run the network.
    """
    inputs = golden.inputs.astype(np.float32)
    try:
        engine = open_exported_engine(name, manifest, file, precision)
        outputs = [engine.infer(batch) for batch in _batches(inputs, engine.batch_size)]
    except Exception as error:  # whatever a library raises for a network that it cannot run
        others = " or ".join(other for other in ENGINES if other != name)
        raise ValueError(
            f"engine={name} cannot run {manifest.model.backbone} on log-mels of "
            f"{inputs.shape[2]} x {inputs.shape[3]} ({last_line(error)}); use {others}"
        ) from error
    logits, frame_logits = zip(*outputs, strict=True)
    has_frames = golden.frame_logits is not None
    return engine, EngineOutput(
        np.concatenate(logits), np.concatenate(frame_logits) if has_frames else None
    )


def _batches(inputs: np.ndarray, size: int) -> list[np.ndarray]:
    return [inputs[at : at + size] for at in range(0, len(inputs), size)]


def _milliseconds(engine: Engine, golden: GoldenWindows) -> float:
    """Return the time per golden window in one thread, in ms: the median over batches.

    The engine has run the same batches before.
    """
    times = []
    for batch in _batches(golden.inputs.astype(np.float32), engine.batch_size):
        started = time.perf_counter()
        engine.infer(batch)
        times.append(1000 * (time.perf_counter() - started) / len(batch))
    return round(statistics.median(times), 3)


def _check_agreement(
    name: str, output: EngineOutput, precision: str, golden: GoldenWindows
) -> Agreement:
    """Compare the output of an exported network with that of torch.

    Raises:
        ValueError: If they differ by more than the precision allows.
    """
    measured = measure_agreement(output, EngineOutput(golden.logits, golden.frame_logits))
    violation = measured.describe_exceeded_limit(precision)
    if violation:
        remedy = "use precision=f32"
        if precision == "f32":
            remedy = "if the weights have changed, make new golden windows with --windows FOLDER"
        raise ValueError(
            f"{name} differs from torch and is not written: over {len(golden.logits)} golden "
            f"windows {violation}; {remedy}"
        )
    return measured

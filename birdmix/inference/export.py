"""Export: a bundle's network in ONNX, checked at once against torch on the golden windows.

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

from birdmix.bundle.exports import PRECISIONS, Export, sha256_of
from birdmix.bundle.golden import Golden, read_golden
from birdmix.bundle.manifest import Manifest, claim_bundle, read_manifest, write_manifest
from birdmix.bundle.weights import load_classifier
from birdmix.files import atomic_path
from birdmix.inference.agreement import MIN_WINDOWS, Agreement, agreement
from birdmix.inference.engine import EXPORTED, Engine, Heard, check_installed, exported_engine
from birdmix.inference.quantise import quantise
from birdmix.model.classifier import Classifier
from birdmix.partials import remove_partials
from birdmix.suggest import check_choice, first_line, last_line

#: Version of ONNX's operators; both engines have known it since 2023.
_OPSET = 18


def export(bundle: Path, engine: str, precision: str = "f32") -> Export:
    """Add an exported network to a bundle; it is not written where it differs from torch.

    Args:
        bundle: The bundle's folder.
        engine: onnx or openvino.
        precision: f32; bf16, which OpenVINO computes in on processors that have it; or int8.

    Raises:
        ValueError: If the bundle is damaged or has no golden windows, the engine is not installed
            or has no such precision here, or the exported network differs from torch.
    """
    check_choice("engine", engine, EXPORTED)
    check_choice("precision", precision, PRECISIONS)
    check_installed(engine, EXPORTED[engine], "pip install 'birdmix[export]'")
    check_installed(engine, "onnx", "pip install 'birdmix[export]'")
    if precision == "bf16":
        _check_bf16(engine)
    manifest, golden = read_manifest(bundle), _golden(bundle, precision)
    final = Path(bundle) / f"network-{engine}.onnx"
    claim_bundle(bundle)
    remove_partials(bundle)
    with atomic_path(final) as partial:
        _write_network(load_classifier(bundle, manifest), golden, partial)
        if precision == "int8":
            quantise(partial, golden.pictures)
        network, heard = _heard(engine, manifest, partial, precision, golden)
        near = _check(network.name, heard, precision, golden)
        made = Export(
            file=final.name,
            sha256=sha256_of(partial),
            precision=precision,
            num_windows=len(golden.clip),
            difference=near.difference,
            rank_agreement=near.rank,
            top_agreement=near.top,
            versions=_versions(engine),
            milliseconds=_milliseconds(network, golden),
        )
    write_manifest(bundle, replace(manifest, exports={**manifest.exports, engine: made}))
    return made


def _golden(bundle: Path, precision: str) -> Golden:
    golden = read_golden(bundle)
    if precision != "f32" and len(golden.clip) < MIN_WINDOWS:
        raise ValueError(
            f"precision={precision}: {bundle} has {len(golden.clip)} golden windows, too few to "
            f"rank; make at least {MIN_WINDOWS} with --windows FOLDER, or take precision=f32"
        )
    return golden


def _versions(engine: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "onnx", EXPORTED[engine])}


def _write_network(classifier: Classifier, golden: Golden, file: Path) -> None:
    """Write a classifier as ONNX: any number of windows, of one length."""
    names = ["clip"] if golden.frames is None else ["clip", "frames"]
    with warnings.catch_warnings():
        # The exporter by torch.export takes ten times as long and packages that it alone needs.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="Constant folding")
        try:
            torch.onnx.export(
                _Network(classifier),
                (torch.from_numpy(golden.pictures[:1].astype(np.float32)),),
                str(file),
                dynamo=False,
                opset_version=_OPSET,
                input_names=["mel"],
                output_names=names,
                dynamic_axes={name: {0: "windows"} for name in ("mel", *names)},
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise ValueError(
                f"ONNX cannot say what this network does ({first_line(error)}); engine=torch "
                "hears it"
            ) from error


class _Network(nn.Module):
    """A classifier whose logits are a plain tuple."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, mel: Tensor) -> tuple[Tensor, ...]:
        logits = self.classifier(mel)
        return tuple(each for each in logits if each is not None)


def _heard(
    kind: str, manifest: Manifest, file: Path, precision: str, golden: Golden
) -> tuple[Engine, Heard]:
    """Return an engine, and what it says of the golden windows.

    Raises:
        ValueError: If the engine does not run such a network.
    """
    pictures = golden.pictures.astype(np.float32)
    try:
        engine = exported_engine(kind, manifest, file, precision)
        heard = [engine.judge(batch) for batch in _batches(pictures, engine.batch)]
    except Exception as error:  # whatever a library raises for a network that it cannot run
        others = " or ".join(other for other in ("torch", *EXPORTED) if other != kind)
        raise ValueError(
            f"engine={kind} does not run {manifest.model.backbone} on pictures of "
            f"{pictures.shape[2]} x {pictures.shape[3]} ({last_line(error)}); take {others}"
        ) from error
    clips, frames = zip(*heard, strict=True)
    in_frames = golden.frames is not None
    return engine, Heard(np.concatenate(clips), np.concatenate(frames) if in_frames else None)


def _batches(pictures: np.ndarray, size: int) -> list[np.ndarray]:
    return [pictures[at : at + size] for at in range(0, len(pictures), size)]


def _milliseconds(engine: Engine, golden: Golden) -> float:
    """Return what this thread takes for a golden window: the median of batches met before."""
    took = []
    for batch in _batches(golden.pictures.astype(np.float32), engine.batch):
        began = time.perf_counter()
        engine.judge(batch)
        took.append(1000 * (time.perf_counter() - began) / len(batch))
    return round(statistics.median(took), 3)


def _check(name: str, heard: Heard, precision: str, golden: Golden) -> Agreement:
    """Hold what an exported network says against what torch said.

    Raises:
        ValueError: If it is too far off.
    """
    near = agreement(heard, Heard(golden.clip, golden.frames))
    lacks = near.lacks(precision)
    if lacks:
        remedy = "take precision=f32"
        if precision == "f32":
            remedy = "if the weights are others now, make golden windows with --windows FOLDER"
        raise ValueError(
            f"{name} does not hear as torch does and is not written: over {len(golden.clip)} "
            f"golden windows {lacks}; {remedy}"
        )
    return near


def _check_bf16(engine: str) -> None:
    if engine != "openvino":
        raise ValueError(f"precision=bf16: engine={engine} has none; engine=openvino has")
    from birdmix.inference.openvino_engine import has_bf16

    if not has_bf16():
        raise ValueError(
            "precision=bf16: this processor has no bfloat16 to check it with; take precision=f32, "
            "or export on one that has"
        )

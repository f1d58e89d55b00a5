"""A bundle's weights: written and read with safetensors, never unpickled."""

from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from birdmix.bundle.manifest import MANIFEST, WEIGHTS, Manifest, write_manifest
from birdmix.files import atomic_directory
from birdmix.model.classifier import Classifier
from birdmix.model.size_limit import shapes_only
from birdmix.suggest import first_few, first_line
from birdmix.tensor_headers import TensorInfo, read_header

# Layers register some tensors twice while they are built, and buffers that are no weights.
_SPARE = 4


def write_bundle(folder: Path, manifest: Manifest, weights: dict[str, Tensor]) -> None:
    """Write a bundle, whole or not at all.

    Args:
        folder: The bundle's folder.
        manifest: What the model is; torch's version is added.
        weights: The classifier's state.
    """
    with atomic_directory(folder, "bundle") as partial:
        tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
        (partial / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
        versions = {"torch": torch.__version__.split("+")[0], **manifest.versions}
        write_manifest(partial, replace(manifest, versions=versions))


def load_classifier(folder: Path, manifest: Manifest) -> Classifier:
    """Rebuild a bundle's classifier, in eval mode.

    Raises:
        ValueError: If the weights are missing, damaged, not finite or of another architecture.
    """
    # The weights stand in the bundle: nothing is to be fetched.
    settings = replace(manifest.model, pretrained=False, weights=None)

    def build() -> Classifier:
        return Classifier(settings, len(manifest.labels), softmax=manifest.softmax)

    header = _header(folder)
    num_values = sum(info.num_values for info in header.values())
    try:
        with shapes_only(_SPARE * len(header) + 1_000, _SPARE * num_values + 2**26):
            shapes = build().state_dict()
    except ValueError as error:
        raise ValueError(f"{Path(folder) / MANIFEST}: {error}") from error
    if faults := _faults(shapes, header):
        raise _unloadable(folder, f"they are not of this model: {faults}")
    classifier = build()
    try:
        classifier.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        raise _unloadable(folder, first_line(error)) from error
    return classifier.eval()


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the state of a bundle's classifier.

    Raises:
        ValueError: If the weights are missing, damaged or not finite.
    """
    _header(folder)  # which may be too large to read
    try:
        weights = safetensors.torch.load_file(Path(folder) / WEIGHTS)
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise _unloadable(folder, first_line(error)) from error
    wrong = [n for n, each in weights.items() if not torch.isfinite(each.float()).all()]
    if wrong:
        raise _unloadable(folder, f"{len(wrong)} tensors are not finite: {first_few(wrong)}")
    return weights


def _header(folder: Path) -> dict[str, TensorInfo]:
    try:
        return read_header(Path(folder) / WEIGHTS)
    except (OSError, ValueError) as error:
        raise _unloadable(folder, first_line(error)) from error


def _faults(own: dict[str, Tensor], header: dict[str, TensorInfo]) -> str:
    """Say which tensors of a file are not those of a network; empty if all are."""
    other = [
        f"{name} is {info.dtype} {list(info.shape)} instead of {list(own[name].shape)}"
        for name, info in header.items()
        if name in own
        and (
            info.shape != tuple(own[name].shape)
            or ("F" in info.dtype) is not own[name].is_floating_point()
        )
    ]
    missing = [f"{name} is missing" for name in own if name not in header]
    unknown = [f"{name[:100]} is of no layer" for name in header if name not in own]
    return first_few([*other, *missing, *unknown])


def _unloadable(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"{Path(folder) / WEIGHTS}: the weights do not load ({reason}); write the bundle again"
    )

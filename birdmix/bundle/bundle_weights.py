"""A bundle's weights, written and read with safetensors instead of pickle."""

from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from birdmix.bundle.manifest import MANIFEST, WEIGHTS, Manifest, write_manifest
from birdmix.files import atomic_directory
from birdmix.messages import first_few, first_line
from birdmix.model.classifier import Classifier
from birdmix.model.size_limit import meta_device_with_size_limit
from birdmix.safetensors_header import TensorInfo, read_header

# Factor of the limit on tensors while a model is built: layers register some tensors twice, and
# buffers that are not weights.
_LIMIT_FACTOR = 4


def write_bundle(folder: Path, manifest: Manifest, weights: dict[str, Tensor]) -> None:
    """Write a bundle atomically.

    Args:
        folder: The bundle's folder.
        manifest: Description of the model; torch's version is added.
        weights: The classifier's state dict.
    """
    with atomic_directory(folder, "bundle") as partial:
        tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
        (partial / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
        versions = {"torch": torch.__version__.split("+")[0], **manifest.versions}
        write_manifest(partial, replace(manifest, versions=versions))


def load_classifier(folder: Path, manifest: Manifest) -> Classifier:
    """Build a bundle's classifier with its weights, in eval mode.

    Raises:
        ValueError: If the weights are missing, damaged, not finite or of another architecture.
    """
    # The weights are in the bundle: nothing is downloaded.
    settings = replace(manifest.model, pretrained=False, weights=None)

    def build() -> Classifier:
        return Classifier(settings, len(manifest.labels), softmax=manifest.softmax)

    header = _header(folder)
    num_values = sum(info.num_values for info in header.values())
    try:
        with meta_device_with_size_limit(
            _LIMIT_FACTOR * len(header) + 1_000, _LIMIT_FACTOR * num_values + 2**26
        ):
            shapes = build().state_dict()
    except ValueError as error:
        raise ValueError(f"{Path(folder) / MANIFEST}: {error}") from error
    if differences := _differences(shapes, header):
        raise _weights_error(folder, f"they are not of this model: {differences}")
    classifier = build()
    try:
        classifier.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        raise _weights_error(folder, first_line(error)) from error
    return classifier.eval()


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the state dict of a bundle's classifier.

    Raises:
        ValueError: If the weights are missing, damaged or not finite.
    """
    _header(folder)  # refuses a header that is too large to read
    try:
        weights = safetensors.torch.load_file(Path(folder) / WEIGHTS)
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise _weights_error(folder, first_line(error)) from error
    bad = [name for name, w in weights.items() if not torch.isfinite(w.float()).all()]
    if bad:
        raise _weights_error(folder, f"{len(bad)} tensors are not finite: {first_few(bad)}")
    return weights


def _header(folder: Path) -> dict[str, TensorInfo]:
    try:
        return read_header(Path(folder) / WEIGHTS)
    except (OSError, ValueError) as error:
        raise _weights_error(folder, first_line(error)) from error


def _differences(state: dict[str, Tensor], header: dict[str, TensorInfo]) -> str:
    """Return which tensors of a file differ from those of a network; empty if none do."""
    other = [
        f"{name} is {info.dtype} {list(info.shape)} instead of {list(state[name].shape)}"
        for name, info in header.items()
        if name in state
        and (
            info.shape != tuple(state[name].shape)
            or ("F" in info.dtype) is not state[name].is_floating_point()
        )
    ]
    missing = [f"{name} is missing" for name in state if name not in header]
    unknown = [f"{name[:100]} is not a tensor of the model" for name in header if name not in state]
    return first_few([*other, *missing, *unknown])


def _weights_error(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"{Path(folder) / WEIGHTS}: the weights do not load ({reason}); write the bundle again"
    )

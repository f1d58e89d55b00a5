"""A bundle's weights: written and read with safetensors, never unpickled."""

from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from birdmix.bundle.manifest import WEIGHTS, Manifest, write_manifest
from birdmix.files import atomic_directory
from birdmix.model.classifier import Classifier
from birdmix.suggest import first_line


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
        ValueError: If the weights are missing, damaged or of another architecture.
    """
    # The weights stand in the bundle: nothing is to be fetched.
    settings = replace(manifest.model, pretrained=False, weights=None)
    classifier = Classifier(settings, len(manifest.labels), softmax=manifest.softmax)
    weights = read_weights(folder)
    try:
        classifier.load_state_dict(weights)
    except RuntimeError as error:
        raise _unloadable(folder, error) from error
    return classifier.eval()


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the state of a bundle's classifier.

    Raises:
        ValueError: If the weights are missing or damaged.
    """
    try:
        return safetensors.torch.load_file(Path(folder) / WEIGHTS)
    except (OSError, safetensors.SafetensorError) as error:
        raise _unloadable(folder, error) from error


def _unloadable(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{Path(folder) / WEIGHTS}: the weights do not load ({first_line(error)}); "
        "write the bundle again"
    )

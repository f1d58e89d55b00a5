"""Reading weights by name from a safetensors or pth file, without running code from it."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import safetensors.torch
import timm.models
import torch
from torch import Tensor

from birdmix.messages import first_line
from birdmix.model.safe_torch_load import safe_torch_load
from birdmix.safetensors_header import read_header

#: Names of weight files on the Hugging Face hub.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")

_REMEDY = "save only the weights: torch.save(model.state_dict(), FILE)"
# Keys of the weights in files of common training scripts; averaged ones first, as in timm.
_STATE_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
# Keys of birdmix's own checkpoints, which store averaged weights separately.
_CHECKPOINT_KEYS = {"format", "position", "model", "average"}


def read_weight_file(file: Path) -> dict[str, Tensor]:
    """Return the weights in a file, by name.

    Args:
        file: A safetensors file, or a file of ``torch.save`` with tensors only.

    Raises:
        ValueError: If there is no such file, or it is damaged or holds anything but weights.
    """
    if file.is_dir():
        candidates = (file / name for name in HUB_FILES)
        suggested = next((each for each in candidates if each.is_file()), "a file in it")
        raise ValueError(
            f"model.weights={file} is a folder; use {suggested}, or, for a run or a bundle of "
            f"birdmix, set init_from={file}"
        )
    if not file.is_file():
        raise ValueError(f"model.weights={file}: there is no such file")
    content = _load_content(file)
    if isinstance(content, dict) and content.keys() >= _CHECKPOINT_KEYS:
        raise ValueError(
            f"model.weights={file} is a checkpoint of birdmix; use init_from=RUN_DIR for the "
            "weights of its run"
        )
    if isinstance(content, dict):
        content = next((content[n] for n in _STATE_KEYS if content.get(n) is not None), content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ValueError(f"model.weights={file} holds other data than weights by name; {_REMEDY}")
    return timm.models.clean_state_dict(content)


def _load_content(file: Path) -> Any:
    """Return a weight file's content; raise ValueError if damaged or not only tensors."""
    try:
        if _is_safetensors(file):
            read_header(file)  # refuses headers that are too large to read
            return safetensors.torch.load_file(file)
        # timm's own training script saves its arguments too.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return safe_torch_load(file)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"model.weights={file}: damaged, or a pickle of other data than tensors, which could "
            f"run code and is not opened; {_REMEDY}"
        ) from error
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f"model.weights={file}: damaged ({first_line(error)}); download it again"
        ) from error


def _is_safetensors(file: Path) -> bool:
    """Return whether a file begins as safetensors do: 8 bytes of size, then a JSON object.

    The name is not used: cached files have no suffix.
    """
    with file.open("rb") as stream:
        return len(stream.read(8)) == 8 and stream.read(1) == b"{"

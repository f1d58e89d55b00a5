"""A file of weights, read without running any code in it."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import safetensors.torch
import timm.models
import torch
from torch import Tensor

from birdmix.model.torch_file import load_torch_file
from birdmix.suggest import first_line
from birdmix.tensor_headers import read_header

#: What files of weights are called where models are shared.
FILES = ("model.safetensors", "pytorch_model.bin")

_REMEDY = "save the weights alone: torch.save(model.state_dict(), FILE)"
# Where training scripts lay weights within what they save; averaged ones come first, as in timm.
_PLACES = ("state_dict_ema", "model_ema", "state_dict", "model")
# Of birdmix's own checkpoints, whose averaged weights lie apart.
_OF_A_RUN = {"format", "position", "model", "average"}


def read_weight_file(file: Path) -> dict[str, Tensor]:
    """Return the weights in a file by name: safetensors, or a pickle of tensors.

    Raises:
        ValueError: If there is none, or it is damaged or holds something else.
    """
    if file.is_dir():
        found = next((file / name for name in FILES if (file / name).is_file()), "the file in it")
        raise ValueError(
            f"model.weights={file} is a folder; name {found}, or, where it is a run or a bundle of "
            f"birdmix, set init_from={file}"
        )
    if not file.is_file():
        raise ValueError(f"model.weights={file}: there is no such file")
    content = _content(file)
    if isinstance(content, dict) and content.keys() >= _OF_A_RUN:
        raise ValueError(
            f"model.weights={file} is a checkpoint of birdmix; init_from=RUN_DIR takes the weights "
            "that its run kept"
        )
    if isinstance(content, dict):
        content = next((content[n] for n in _PLACES if content.get(n) is not None), content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(each, Tensor) for name, each in content.items()
    ):
        raise ValueError(f"model.weights={file} holds more than weights by name; {_REMEDY}")
    return timm.models.clean_state_dict(content)


def _content(file: Path) -> Any:
    try:
        if _is_safetensors(file):
            read_header(file)  # which may be too large to read
            return safetensors.torch.load_file(file)
        # timm's own training script saves its arguments too.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return load_torch_file(file)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"model.weights={file}: damaged, or a pickle of more than tensors, which could run "
            f"code and is not opened; {_REMEDY}"
        ) from error
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f"model.weights={file}: damaged ({first_line(error)}); fetch it again"
        ) from error


def _is_safetensors(file: Path) -> bool:
    """Tell by the header, the size of a JSON object and that; files in caches have no suffix."""
    with file.open("rb") as stream:
        return len(stream.read(8)) == 8 and stream.read(1) == b"{"

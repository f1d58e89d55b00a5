"""Checkpoints: plain tensors, numbers and strings, written whole, read without unpickling."""

import pickle
from pathlib import Path
from typing import Any

import torch

from birdmix.files import atomic_path

LAST = "last.ckpt"

_FORMAT = 2


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Replace a run's last checkpoint; whatever happens, a whole one stands."""
    with atomic_path(run / LAST) as partial:
        torch.save({"format": _FORMAT, **state}, partial)


def load_checkpoint(run: Path) -> dict[str, Any]:
    """Read a run's last checkpoint onto the CPU.

    Raises:
        ValueError: If there is none, or it is damaged or of another format.
    """
    file = Path(run) / LAST
    if not file.is_file():
        raise ValueError(f"{file}: no checkpoint to go on from; name a run directory that has one")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file}: damaged or not a checkpoint ({reason})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{file}: a checkpoint of another birdmix; use the one that wrote it")
    return state

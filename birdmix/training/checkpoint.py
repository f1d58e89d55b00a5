"""Checkpoints: plain tensors, numbers and strings, written whole, read without unpickling."""

import dataclasses
import errno
import io
import os
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from birdmix.files import atomic_path
from birdmix.model.torch_file import load_torch_file
from birdmix.suggest import first_few, first_line
from birdmix.training.position import Position
from birdmix.training.settings import CheckpointSettings

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"

_FORMAT = 3

# An epoch's end is saved if the last save took at most this share of the time since.
_MAX_COST = 0.01

# What a checkpoint holds, by its types.
_PARTS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("position", "data", "made_on", "model", "optimizer", "precision"), (dict,)),
    "average": (dict, type(None)),
    "figures": (list,),
    "audit": (list,),
}


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Replace a run's last checkpoint and keep the one before; whatever happens, one stands.

    Raises:
        OSError: If it cannot be written; what stood before still stands.
    """
    if not run.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "the run directory was removed or renamed while the run went on", str(run)
        )
    data = io.BytesIO()  # torch's own writer hides why a file cannot be written
    torch.save({"format": _FORMAT, **state}, data)
    with atomic_path(run / LAST, is_ours=True) as partial:
        with partial.open("wb") as stream:
            stream.write(data.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        if zipfile.is_zipfile(run / LAST):  # one that was torn is not worth the one before
            os.replace(run / LAST, run / PREVIOUS)


def load_checkpoint(run: Path) -> dict[str, Any]:
    """Read a run's last whole checkpoint onto the CPU.

    If the last one is damaged or missing, the one before is taken, with a warning.

    Raises:
        ValueError: If there is none, or all are damaged or of another format.
    """
    problems: list[ValueError] = []
    for file in (Path(run) / LAST, Path(run) / PREVIOUS):
        try:
            state = _read(file)
        except ValueError as error:
            problems.append(error)
            continue
        if problems:
            warnings.warn(f"{problems[0]}; going on from {file.name} instead", stacklevel=2)
        return state
    raise problems[0]


def has_checkpoint(run: Path) -> bool:
    """Tell whether a run has been saved, be it damaged or not."""
    return (run / LAST).exists() or (run / PREVIOUS).exists()


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: there is no such checkpoint")
    try:
        state = load_torch_file(file)
        if zipfile.ZipFile(file).testzip() is not None:  # torch itself looks at no checksum
            raise RuntimeError("checksum is wrong")
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{file}: damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{file}: a checkpoint of another birdmix; use the one that wrote it")
    wrong = [name for name, types in _PARTS.items() if not isinstance(state.get(name, ()), types)]
    if not wrong and not _is_position(state["position"]):
        wrong = ["position"]
    if wrong:
        raise ValueError(f"{file}: damaged or not a checkpoint (no {first_few(wrong)} in it)")
    return state


def _is_position(fields: dict[str, Any]) -> bool:
    """Tell whether this says where a run stands."""
    counts = [fields.get(name) for name in ("epoch", "batch", "step", "log_bytes")]
    monitored = fields.get("monitored")
    return (
        fields.keys() == {field.name for field in dataclasses.fields(Position)}
        and all(type(count) is int and count >= 0 for count in counts)
        and isinstance(monitored, list)
        and all(isinstance(each, int | float) for each in (*monitored, fields["loss_sum"]))
    )


class Saves:
    """When a run saves; what a save holds does not depend on it."""

    def __init__(self, settings: CheckpointSettings) -> None:
        self.settings = settings
        self.step = 0
        self.cost = 0.0
        self.at = time.monotonic()

    def due(self, step: int) -> bool:
        """Tell whether a run at an optimizer step has gone on for long enough without a save."""
        every_steps = self.settings.every_steps
        return time.monotonic() - self.at >= self.settings.every_minutes * 60 or (
            every_steps is not None and step - self.step >= every_steps
        )

    def cheap(self) -> bool:
        """Tell whether a save would cost little beside what was done since the last one."""
        return self.cost <= _MAX_COST * (time.monotonic() - self.at)

    def save(self, run: Path, state: dict[str, Any], step: int, write: bool) -> None:
        """Save, if this process is the one that writes, and note when and for how long."""
        began = time.monotonic()
        if write:
            save_checkpoint(run, state)
        self.step, self.at = step, time.monotonic()
        self.cost = self.at - began

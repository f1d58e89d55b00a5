"""Checkpoints: tensors, numbers and text, written atomically and loaded without running code."""

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
from birdmix.messages import first_few, first_line
from birdmix.model.safe_torch_load import safe_torch_load
from birdmix.training.run_position import RunPosition
from birdmix.training.settings import CheckpointSettings

LAST_CHECKPOINT = "last.ckpt"
PREVIOUS_CHECKPOINT = "previous.ckpt"

_FORMAT = 4

# The end of an epoch is saved if the last save took at most this fraction of the time since.
_MAX_COST = 0.01

# Types of a checkpoint's entries, by key.
_ENTRY_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("position", "data", "environment", "model", "optimizer", "precision"), (dict,)
    ),
    "average": (dict, type(None)),
    "column_sources": (list,),
    "mix_stats": (list,),
}


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Write a run's last checkpoint, and keep the one before; at any moment one is complete.

    Args:
        run: Run directory.
        state: Content of the checkpoint.

    Raises:
        OSError: If it cannot be written; the checkpoints before are unchanged.
    """
    if not run.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "the run directory was removed or renamed during the run", str(run)
        )
    data = io.BytesIO()  # torch's own writer does not report why a file cannot be written
    torch.save({"format": _FORMAT, **state}, data)
    with atomic_path(run / LAST_CHECKPOINT, is_ours=True) as partial:
        with partial.open("wb") as stream:
            stream.write(data.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
        # An incomplete file must not replace the one before.
        if zipfile.is_zipfile(run / LAST_CHECKPOINT):
            os.replace(run / LAST_CHECKPOINT, run / PREVIOUS_CHECKPOINT)


def load_checkpoint(run: Path) -> dict[str, Any]:
    """Load a run's last complete checkpoint to the CPU.

    If the last one is damaged or missing, the one before is loaded, with a warning.

    Args:
        run: Run directory.

    Raises:
        ValueError: If there is no checkpoint, or all are damaged or of another format.
    """
    problems: list[ValueError] = []
    for file in (Path(run) / LAST_CHECKPOINT, Path(run) / PREVIOUS_CHECKPOINT):
        try:
            state = _read_checkpoint(file)
        except ValueError as error:
            problems.append(error)
            continue
        if problems:
            warnings.warn(f"{problems[0]}; resuming from {file.name} instead", stacklevel=2)
        return state
    raise problems[0]


def has_checkpoint(run: Path) -> bool:
    """Return whether a run directory has a checkpoint, damaged or not."""
    return (run / LAST_CHECKPOINT).exists() or (run / PREVIOUS_CHECKPOINT).exists()


def _read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the content of a checkpoint file; raise ValueError if it is damaged or missing."""
    if not file.is_file():
        raise ValueError(f"{file}: there is no such checkpoint")
    try:
        state = safe_torch_load(file)
        if zipfile.ZipFile(file).testzip() is not None:  # torch does not verify checksums
            raise RuntimeError("checksum is wrong")
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{file}: damaged or not a checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{file}: written by another version of birdmix; use that version")
    wrong = [
        name for name, types in _ENTRY_TYPES.items() if not isinstance(state.get(name, ()), types)
    ]
    if not wrong and not _is_position(state["position"]):
        wrong = ["position"]
    if wrong:
        raise ValueError(
            f"{file}: damaged or not a checkpoint (missing or invalid: {first_few(wrong)})"
        )
    return state


def _is_position(fields: dict[str, Any]) -> bool:
    """Return whether a dict holds the fields of a ``RunPosition``."""
    counts = [fields.get(name) for name in ("epoch", "batch", "step", "log_bytes")]
    monitored = fields.get("monitored")
    return (
        fields.keys() == {field.name for field in dataclasses.fields(RunPosition)}
        and all(type(count) is int and count >= 0 for count in counts)
        and isinstance(monitored, list)
        and all(isinstance(value, int | float) for value in (*monitored, fields["loss_sum"]))
    )


class CheckpointSchedule:
    """The schedule of a run's checkpoints; results do not depend on it.

    Args:
        settings: Longest time and most optimizer steps between checkpoints.
    """

    def __init__(self, settings: CheckpointSettings) -> None:
        self.settings = settings
        self.last_step = 0
        self.last_duration_seconds = 0.0
        self.last_time = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Return whether a checkpoint is due at an optimizer step."""
        every_steps = self.settings.every_steps
        return time.monotonic() - self.last_time >= self.settings.every_minutes * 60 or (
            every_steps is not None and step - self.last_step >= every_steps
        )

    def is_saving_cheap(self) -> bool:
        """Return whether a checkpoint would take at most 1 % of the time since the last one."""
        return self.last_duration_seconds <= _MAX_COST * (time.monotonic() - self.last_time)

    def save(self, run: Path, state: dict[str, Any], step: int, write: bool) -> None:
        """Save a checkpoint, and record its time and duration.

        Args:
            run: Run directory.
            state: Content of the checkpoint.
            step: Optimizer step.
            write: Whether this process writes the file.
        """
        start = time.monotonic()
        if write:
            save_checkpoint(run, state)
        self.last_step, self.last_time = step, time.monotonic()
        self.last_duration_seconds = self.last_time - start

"""What the runs of a comparison cost: seconds of an optimizer step, and memory."""

import json
import math
from pathlib import Path

import pandas as pd
import torch

from birdmix.config.schema import Config
from birdmix.files import write_text
from birdmix.json_data import read_json
from birdmix.training.phase_timer import TIMINGS_FILE
from birdmix.training.run_position import TrainingHook

#: File in a run directory: the most memory that training took.
PEAK_MEMORY = "peak_memory.json"

# Phases of an optimizer step; validation and saving are none of it.
_PHASES = ("loading", "transfer", "mixing", "mel", "model")

_PROC = Path("/proc/self")


class PeakMemoryFile(TrainingHook):
    """Training hook that writes the most memory that training took since the run was started.

    On a GPU it is the memory that torch allocated there, on a CPU that of the whole process, which
    Linux counts.

    Args:
        directory: Run directory.
        device: Device of the training.
    """

    def __init__(self, directory: Path, device: torch.device) -> None:
        self.file, self.device = directory / PEAK_MEMORY, device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _reset_peak_of_process()

    def before_validation(self) -> None:
        """Write the peak so far."""
        on_gpu = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else _peak_of_process()
        if peak is not None:
            text = json.dumps({"bytes": peak, "device": self.device.type}) + "\n"
            write_text(self.file, text, is_ours=True)


def _reset_peak_of_process() -> None:
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:  # another operating system, or not allowed: the peak is then that since start
        return


def _peak_of_process() -> int | None:
    try:
        lines = (_PROC / "status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return None if kilobytes is None else 1024 * int(kilobytes)


def seconds_per_step(config: Config, directory: Path) -> float:
    """Return the median over epochs of the seconds of an optimizer step; NaN if unknown.

    Args:
        config: Settings of the run.
        directory: Run directory.
    """
    file = directory / TIMINGS_FILE
    if not file.is_file():
        return math.nan
    table = pd.read_csv(file)
    seconds = table[[f"{phase}_seconds" for phase in _PHASES]].sum(axis=1)
    per_segment = (seconds / table["segments"]).where(table["segments"] > 0)
    return float(per_segment.median() * config.data.batch_size * config.trainer.accumulate)


def peak_memory_gib(directory: Path) -> float:
    """Return the peak memory of a run in GiB; NaN if it is unknown."""
    try:
        return float(read_json(directory / PEAK_MEMORY)["bytes"]) / (1 << 30)
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan

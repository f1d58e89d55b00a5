"""Time per phase of training, measured on the device, and its file ``timings.csv``."""

import csv
import time
from pathlib import Path

import torch

from birdmix.training.run_position import RunPosition, TrainingHook

TIMINGS_FILE = "timings.csv"

#: File with the seconds of the whole run since its last start.
TOTAL_TIME_FILE = "timings.json"

#: Phases of training, in their order.
PHASES = ("loading", "transfer", "mixing", "mel", "model", "validation", "saving")


class PhaseTimer:
    """Measures the time of each phase of training.

    On a GPU the end of a phase is an event in its queue: a phase is the time that the GPU spent on
    it, and ``loading`` is the time that it waited for data. Nothing is synchronised before
    ``read_and_reset``.

    Args:
        device: Device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.events: list[tuple[str, torch.cuda.Event]] = []
        self.last = time.perf_counter()
        if self.on_gpu:
            self._record("loading")

    def end_phase(self, phase: str) -> None:
        """Add the time since the end of the last phase to this one."""
        if self.on_gpu:
            self._record(phase)
            if len(self.events) > 512 and self.events[256][1].query():
                self._add_event_times(256)
            return
        now = time.perf_counter()
        self.seconds[phase] += now - self.last
        self.last = now

    def read_and_reset(self) -> dict[str, float]:
        """Return the seconds of each phase since the last call, and start again at 0."""
        if self.on_gpu:
            self.events[-1][1].synchronize()
            self._add_event_times(len(self.events) - 1)
        seconds = self.seconds
        self.seconds = dict.fromkeys(PHASES, 0.0)
        return seconds

    def _record(self, phase: str) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.events.append((phase, event))

    def _add_event_times(self, count: int) -> None:
        """Add up the times up to event ``count``, which stays as the start of the next phase."""
        for (_, previous), (phase, event) in zip(
            self.events, self.events[1 : count + 1], strict=False
        ):
            self.seconds[phase] += previous.elapsed_time(event) / 1000
        del self.events[:count]


class EpochTimingsFile(TrainingHook):
    """Training hook that writes a row of ``timings.csv`` for each epoch.

    Times are not in ``metrics.csv``, because that file is the same for every run of one
    configuration. After a resume, an epoch's row holds the time since the resume.

    Args:
        run: Run directory.
    """

    def __init__(self, run: Path) -> None:
        self.file = run / TIMINGS_FILE
        self.segments = 0

    def on_batch(self, position: RunPosition, num_examples: int) -> None:
        """Count the training segments."""
        self.segments += num_examples

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Write the epoch's row."""
        row = {"epoch": int(metrics["epoch"]), "segments": self.segments}
        columns = {f"{phase}_seconds": f"{value:.3f}" for phase, value in seconds.items()}
        with self.file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*row, *columns])
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerow({**row, **columns})
        self.segments = 0

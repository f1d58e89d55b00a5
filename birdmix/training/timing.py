"""Where an epoch's time goes: measured on the device, written beside the run's exact figures."""

import csv
import time
from pathlib import Path

import torch

from birdmix.training.position import Position

TIMINGS = "timings.csv"

#: Seconds of the whole run, since it was last started.
TOTAL = "timings.json"

#: Parts of a run's time, in the order of the flow.
PARTS = ("loading", "transfer", "mixing", "mel", "model", "validation", "saving")


class Clock:
    """Adds up the time of each part of the work.

    On a GPU the marks are events in its own queue, so that a part is what the GPU spent on it, and
    ``loading`` is what it waited for. Nothing there waits for a mark before ``lap`` is called.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.events: list[tuple[str, torch.cuda.Event]] = []
        self.last = time.perf_counter()
        if self.on_gpu:
            self._record("loading")

    def mark(self, part: str) -> None:
        """Book the time since the mark before to a part."""
        if self.on_gpu:
            self._record(part)
            if len(self.events) > 512 and self.events[256][1].query():
                self._collect(256)
            return
        now = time.perf_counter()
        self.seconds[part] += now - self.last
        self.last = now

    def lap(self) -> dict[str, float]:
        """Return the seconds of each part since the lap before."""
        if self.on_gpu:
            self.events[-1][1].synchronize()
            self._collect(len(self.events) - 1)
        seconds = self.seconds
        self.seconds = dict.fromkeys(PARTS, 0.0)
        return seconds

    def _record(self, part: str) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.events.append((part, event))

    def _collect(self, count: int) -> None:
        """Read the first marks; the one that they end with stays, to measure the next by."""
        for (_, before), (part, event) in zip(
            self.events, self.events[1 : count + 1], strict=False
        ):
            self.seconds[part] += before.elapsed_time(event) / 1000
        del self.events[:count]


class TimingsFile:
    """A hook of the loop: a row of ``timings.csv`` for each epoch.

    Times are no function of a configuration, so they have a file of their own: ``metrics.csv`` is
    the same for every run of one. After a resume an epoch's row holds what was done since.

    Args:
        run: Run directory.
    """

    def __init__(self, run: Path) -> None:
        self.file = run / TIMINGS
        self.segments = 0

    def on_batch(self, position: Position, num_samples: int) -> None:
        """Count the segments."""
        self.segments += num_samples

    def on_validation(self) -> None:
        """Nothing to write."""

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Write the epoch's row."""
        row = {"epoch": int(metrics["epoch"]), "segments": self.segments}
        figures = {f"{part}_seconds": f"{value:.3f}" for part, value in seconds.items()}
        with self.file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*row, *figures])
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerow({**row, **figures})
        self.segments = 0

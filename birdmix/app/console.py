"""What a person sees while birdmix works: rich progress on a terminal, plain lines elsewhere."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from birdmix.files import shown
from birdmix.inference.listen import Listening

if TYPE_CHECKING:  # listening must not import what trains
    from birdmix.app.schema import Config
    from birdmix.recordings.settings import DataSettings
    from birdmix.training.position import Position

console = Console(highlight=False)

# Seconds between lines of progress where there is no terminal.
_SAY_EVERY = 60


def say(text: str) -> None:
    """Print a line."""
    console.print(shown(text), soft_wrap=True, markup=False)


@contextmanager
def speaking(aloud: bool) -> Iterator[None]:
    """Print nothing inside the block unless ``aloud``, and nobody around it is silent."""
    before = console.quiet
    console.quiet = before or not aloud
    try:
        yield
    finally:
        console.quiet = before


def warn(message: str) -> None:
    """Print a warning."""
    console.print(f"warning: {shown(message)}", style="yellow", soft_wrap=True, markup=False)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far some work is; yields a function of (done, total)."""
    with _progress() as bar:
        task = bar.add_task(description, total=None, rate="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def listening_progress(description: str) -> Iterator[Callable[[Listening], None]]:
    """Show how far listening is; yields a function of its books. Elsewhere a line each minute."""
    said_at = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[told]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(description, total=None, told="")

        def on_progress(books: Listening) -> None:
            nonlocal said_at
            told = listening_line(books)
            bar.update(task, completed=books.bytes_done, total=books.num_bytes, told=told)
            if not console.is_terminal and time.monotonic() - said_at > _SAY_EVERY:
                said_at = time.monotonic()
                say(f"{description}: {told}")

        yield on_progress


def listening_line(books: Listening) -> str:
    """Say how far listening is: recordings, hours, times real time, time left, failures."""
    told = (
        f"{books.done:,} of {books.num_files:,} recordings, {books.seconds / 3600:.1f} h, "
        f"{books.rate:.0f} x real time"
    )
    left = books.seconds_left
    if left is not None:
        told += f", {int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d} left"
    return told + (f", {len(books.failed):,} failed" if books.failed else "")


def heard_line(books: Listening) -> str:
    """Say what has been heard."""
    return (
        f"heard {books.done - len(books.failed):,} of {books.num_files:,} recordings, "
        f"{books.seconds / 3600:.2f} h of audio, {books.rate:.0f} x real time, "
        f"{len(books.failed):,} failed"
    )


class TrainingConsole:
    """A hook of the loop: a bar through the whole run, and two lines for each epoch.

    Args:
        config: The run's settings.
        batches_per_epoch: Batches of one epoch.
    """

    def __init__(self, config: "Config", batches_per_epoch: int) -> None:
        self.data = config.data
        self.num_epochs = num_epochs = config.trainer.max_epochs
        self.batches_per_epoch = batches_per_epoch
        self.bar = _progress()
        self.task = self.bar.add_task("training", total=num_epochs * batches_per_epoch, rate="")
        self._restart()

    def __enter__(self) -> "TrainingConsole":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def _restart(self) -> None:
        self.samples, self.since = 0, time.monotonic()
        self.trained_at = self.since

    def on_batch(self, position: "Position", num_samples: int) -> None:
        """Move the bar."""
        self.samples += num_samples
        self.trained_at = time.monotonic()
        self.bar.update(
            self.task,
            description=f"epoch {position.epoch + 1}/{self.num_epochs}",
            completed=position.epoch * self.batches_per_epoch + position.batch + 1,
            rate=f"{self._rate():.0f} segments/s",
        )

    def on_validation(self) -> None:
        """Say that the rate pauses."""
        self.bar.update(self.task, rate="validating")

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Print the epoch's figures, and where its time went."""
        figures = [f"loss {metrics['train_loss']:.4f}"]
        for name, short in _SHOWN.items():
            if name in metrics:
                figures.append(f"{short} {metrics[name]:.3f}")
        epoch = f"epoch {metrics['epoch']:>{len(str(self.num_epochs))}}/{self.num_epochs}"
        figures.append(f"{self._rate():.0f} segments/s, {time.monotonic() - self.since:.1f} s")
        say("  ".join([epoch, *figures]))
        say(" " * len(epoch) + "  " + time_line(seconds, self.data))
        if metrics["mix_nonfinite"]:
            warn(
                f"{metrics['mix_nonfinite']:.0f} mixed samples of this epoch were not finite and "
                "counted for nothing; look for recordings with NaN or infinite samples"
            )
        self._restart()

    def _rate(self) -> float:
        return self.samples / max(self.trained_at - self.since, 1e-9)


def time_line(seconds: dict[str, float], data: "DataSettings") -> str:
    """Say where an epoch's time went, the largest share first, and what to do if it was loading."""
    total = max(sum(seconds.values()), 1e-9)
    shares = {part: spent / total for part, spent in seconds.items() if spent >= 0.005 * total}
    ranked = sorted(shares, key=lambda part: -shares[part])
    line = "time: " + ", ".join(f"{part} {100 * shares[part]:.0f} %" for part in ranked)
    if ranked[:1] != ["loading"]:
        return line
    cores = os.cpu_count() or 1
    if data.num_workers < cores:
        return f"{line}; raise data.num_workers ({data.num_workers} now, {cores} cores here)"
    return (
        f"{line}; raise data.memory_gib to keep recordings decoded, or move them to a faster disk"
    )


_SHOWN = {
    "validation_macro_roc_auc": "ROC-AUC",
    "validation_top1_accuracy": "top-1",
    "validation_soundscape_macro_roc_auc": "soundscape ROC-AUC",
}


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print our own warnings as lines, without the place in the code that raised them."""
    original = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], filename: str, *rest: object) -> None:
        if category is UserWarning and "birdmix" in filename:
            warn(str(message))
        else:
            original(message, category, filename, *rest)  # type: ignore[arg-type]

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = original

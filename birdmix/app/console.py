"""What a person sees while birdmix works: rich progress on a terminal, plain lines elsewhere."""

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

from birdmix.inference.listen import Listening

if TYPE_CHECKING:  # listening must not import lightning
    from birdmix.training.loop import Position

console = Console(highlight=False)


def say(text: str) -> None:
    """Print a line."""
    console.print(text, soft_wrap=True, markup=False)


def warn(message: str) -> None:
    """Print a warning."""
    console.print(f"warning: {message}", style="yellow", soft_wrap=True, markup=False)


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
    """Show how far listening is; yields a function of its books."""
    with progress(description) as on_progress:
        yield lambda books: on_progress(books.done, books.num_files)


class TrainingConsole:
    """A hook of the loop: a bar through the whole run, and a line for each epoch.

    Args:
        num_epochs: Epochs in all.
        batches_per_epoch: Batches of one epoch.
    """

    def __init__(self, num_epochs: int, batches_per_epoch: int) -> None:
        self.num_epochs = num_epochs
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

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Print the epoch's line."""
        figures = [f"loss {metrics['train_loss']:.4f}"]
        for name, short in _SHOWN.items():
            if name in metrics:
                figures.append(f"{short} {metrics[name]:.3f}")
        seconds = time.monotonic() - self.since
        epoch = f"epoch {metrics['epoch']:>{len(str(self.num_epochs))}}/{self.num_epochs}"
        figures.append(f"{self._rate():.0f} segments/s, {seconds:.1f} s")
        say("  ".join([epoch, *figures]))
        if metrics["mix_nonfinite"]:
            warn(
                f"{metrics['mix_nonfinite']:.0f} mixed samples of this epoch were not finite and "
                "counted for nothing; look for recordings with NaN or infinite samples"
            )
        self._restart()

    def _rate(self) -> float:
        return self.samples / max(self.trained_at - self.since, 1e-9)


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

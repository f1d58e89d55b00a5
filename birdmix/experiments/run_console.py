"""Console output of a training run: a progress bar, and two lines per epoch."""

import os
import time

from birdmix.config.schema import Config
from birdmix.console import log_line, new_rich_progress, warn
from birdmix.recordings.settings import DataSettings
from birdmix.training.run_position import RunPosition, TrainingHook

# Short names of the metrics that are printed after each epoch.
_SHORT_NAMES = {
    "validation_macro_roc_auc": "ROC-AUC",
    "validation_top1_accuracy": "top-1",
    "validation_soundscape_macro_roc_auc": "soundscape ROC-AUC",
}


class RunConsole(TrainingHook):
    """Hook of the training loop: a progress bar for the whole run, and two lines per epoch.

    Args:
        config: The run's settings.
        batches_per_epoch: Batches of one epoch.
    """

    def __init__(self, config: Config, batches_per_epoch: int) -> None:
        self.data = config.data
        self.num_epochs = num_epochs = config.trainer.max_epochs
        self.batches_per_epoch = batches_per_epoch
        self.bar = new_rich_progress()
        self.task = self.bar.add_task("training", total=num_epochs * batches_per_epoch, rate="")
        self._start_epoch()

    def __enter__(self) -> "RunConsole":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def _start_epoch(self) -> None:
        self.num_examples, self.started_at = 0, time.monotonic()
        self.last_batch_at = self.started_at

    def on_batch(self, position: RunPosition, num_examples: int) -> None:
        """Advance the bar."""
        self.num_examples += num_examples
        self.last_batch_at = time.monotonic()
        self.bar.update(
            self.task,
            description=f"epoch {position.epoch + 1}/{self.num_epochs}",
            completed=position.epoch * self.batches_per_epoch + position.batch + 1,
            rate=f"{self._examples_per_second():.0f} segments/s",
        )

    def before_validation(self) -> None:
        """Show that the epoch is being validated."""
        self.bar.update(self.task, rate="validating")

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Print the epoch's metrics, and the shares of its time."""
        parts = [f"loss {metrics['train_loss']:.4f}"]
        for name, short in _SHORT_NAMES.items():
            if name in metrics:
                parts.append(f"{short} {metrics[name]:.3f}")
        epoch = f"epoch {metrics['epoch']:>{len(str(self.num_epochs))}}/{self.num_epochs}"
        duration = time.monotonic() - self.started_at
        parts.append(f"{self._examples_per_second():.0f} segments/s, {duration:.1f} s")
        log_line("  ".join([epoch, *parts]))
        log_line(" " * len(epoch) + "  " + format_time_shares(seconds, self.data))
        if metrics["mix_nonfinite"]:
            warn(
                f"{metrics['mix_nonfinite']:.0f} mixed examples of this epoch were not finite and "
                "not used in the loss; check the recordings for NaN or infinite samples"
            )
        self._start_epoch()

    def _examples_per_second(self) -> float:
        return self.num_examples / max(self.last_batch_at - self.started_at, 1e-9)


def format_time_shares(seconds: dict[str, float], data: DataSettings) -> str:
    """Return a line with the shares of an epoch's time, and a remedy if loading is the largest.

    Args:
        seconds: Seconds by activity.
        data: The run's data settings.
    """
    total = max(sum(seconds.values()), 1e-9)
    shares = {name: spent / total for name, spent in seconds.items() if spent >= 0.005 * total}
    ranked = sorted(shares, key=lambda name: -shares[name])
    line = "time: " + ", ".join(f"{name} {100 * shares[name]:.0f} %" for name in ranked)
    if ranked[:1] != ["loading"]:
        return line
    cores = os.cpu_count() or 1
    if data.num_workers < cores:
        return f"{line}; raise data.num_workers ({data.num_workers} now, {cores} cores here)"
    return (
        f"{line}; raise data.memory_gib to keep recordings decoded, or move them to a faster disk"
    )

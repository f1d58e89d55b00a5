"""The position of a run (epoch, batch, optimizer step), and the protocol of training hooks."""

from dataclasses import dataclass, field


@dataclass
class RunPosition:
    """The position of a run in its training; part of every checkpoint.

    Attributes:
        epoch: Number of finished epochs.
        batch: Batches of the current epoch that went into optimizer steps.
        step: Number of optimizer steps.
        loss_sum: Sum of the current epoch's batch losses.
        log_bytes: Length of ``metrics.csv`` at this position, in bytes.
        monitored: Value of the monitored metric in each finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    log_bytes: int = 0
    monitored: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.batch:
            return f"the end of epoch {self.epoch}"
        return f"batch {self.batch} of epoch {self.epoch + 1}"


class TrainingHook:
    """An observer of the training loop, which does nothing here; it must not change the run."""

    def on_batch(self, position: RunPosition, num_examples: int) -> None:
        """Called after each batch, with its number of examples over all processes."""

    def before_validation(self) -> None:
        """Called after an epoch's last optimizer step, before validation."""

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Called at the end of an epoch, before its checkpoint, with metrics and phase times."""

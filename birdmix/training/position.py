"""Where a run stands, and what listens to it."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass
class Position:
    """Where a run stands; part of every checkpoint.

    Attributes:
        epoch: Epochs finished.
        batch: Batches of the current epoch that went into optimizer steps.
        step: Optimizer steps taken.
        loss_sum: Sum of the current epoch's batch losses.
        log_bytes: Length of the metrics file that belongs to this position.
        monitored: The monitored figure of each finished epoch.
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


class Hook(Protocol):
    """Something beside the loop: it hears what happens and changes nothing."""

    def on_batch(self, position: Position, num_samples: int) -> None:
        """Hear that a batch was trained on."""

    def on_validation(self) -> None:
        """Hear that an epoch's last step is done and validation begins."""

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Hear an epoch's figures and where its time went, before its checkpoint is saved."""

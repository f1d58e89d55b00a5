"""All that the loop drives, in one place."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel

from birdmix.batch import Batch
from birdmix.keys import StepKeys
from birdmix.mix import Audit
from birdmix.model.settings import OptimSettings
from birdmix.training.checkpoint import Saves
from birdmix.training.log import MetricsLog
from birdmix.training.monitor import is_stalled
from birdmix.training.position import Hook, Position
from birdmix.training.processes import Processes
from birdmix.training.readback import Readback
from birdmix.training.settings import TrainerSettings
from birdmix.training.step import TrainingStep
from birdmix.training.stops import Stops
from birdmix.training.timing import Clock
from birdmix.training.validate import ValidationSet


@dataclass
class Training:
    """All that the loop drives.

    Attributes:
        processes: This process among the others, with its device and precision.
        model: The classifier; ``step.classifier`` is the same, wrapped by ``fabric``.
        step: The way from a batch to its loss.
        optimizer: Wrapped by ``fabric``.
        average: Average of the model's weights, if there is one.
        batches: Batches from ``position`` on, through all epochs: this process's share.
        batches_per_epoch: Batches of one epoch.
        recordings_of: Paths of the recordings in a batch, by epoch and batch.
        data: What the data are; a checkpoint goes on with the same only.
        validation: Sets that every epoch is judged by.
        monitor: The figure that tells better epochs from worse, if there is one.
        patience: Epochs without a better one after which the run ends.
        log: Where the figures go; None in all processes but the first.
        audit: The books of the current epoch's mixes: this process's share.
        clock: Where the time goes.
        stops: Ends that somebody asks for.
        saves: When to save.
        hooks: Told beside it.
        position: Where the run stands.
        losses: Losses of the last batches, by batch, that nobody has looked at yet.
    """

    processes: Processes
    model: nn.Module
    step: TrainingStep
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    batches: Iterable[Batch]
    batches_per_epoch: int
    recordings_of: Callable[[int, int], list[str]]
    data: dict[str, str]
    validation: Sequence[ValidationSet]
    monitor: str | None
    patience: int | None
    log: MetricsLog | None
    audit: Audit
    clock: Clock
    stops: Stops
    saves: Saves
    seed: int
    run_dir: Path
    optim: OptimSettings
    trainer: TrainerSettings
    hooks: Sequence[Hook] = ()
    position: Position = field(default_factory=Position)
    losses: deque[tuple[int, Readback]] = field(default_factory=deque)

    @property
    def fabric(self) -> Fabric:
        """Device and precision."""
        return self.processes.fabric

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return -(-self.batches_per_epoch // self.trainer.accumulate) * self.trainer.max_epochs

    @property
    def judged_model(self) -> nn.Module:
        """The model that is validated and kept: the average if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def is_done(self) -> bool:
        """Whether every epoch was trained, or hope for a better one was given up."""
        return self.position.epoch >= self.trainer.max_epochs or (
            self.monitor is not None
            and is_stalled(self.position.monitored, self.monitor, self.patience)
        )

    def keys(self, epoch: int, batch: int) -> StepKeys:
        """Return the keys of this process's share of a batch: all that is random about it."""
        done = (epoch + batch / self.batches_per_epoch) / self.trainer.max_epochs
        return StepKeys(self.seed, epoch, batch, self.processes.rank, progress=done)

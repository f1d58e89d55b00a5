"""All objects of a training run: model, optimizer, data, schedules and position."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel

from birdmix.loading.batch import Batch
from birdmix.mix import MixStats
from birdmix.model.optim_settings import OptimSettings
from birdmix.random_keys import StepKeys
from birdmix.training.async_scalar import AsyncScalar
from birdmix.training.checkpoint import CheckpointSchedule
from birdmix.training.distributed_processes import Processes
from birdmix.training.metrics_log import MetricsLog
from birdmix.training.monitor import is_stalled
from birdmix.training.phase_timer import PhaseTimer
from birdmix.training.run_position import RunPosition, TrainingHook
from birdmix.training.settings import TrainerSettings
from birdmix.training.stop_requests import StopRequests
from birdmix.training.training_step import TrainingStep
from birdmix.training.validation import ValidationSet


@dataclass
class TrainingRun:
    """The objects that the training loop works on.

    Attributes:
        processes: This process and the others, with device and precision.
        model: The classifier; ``step.classifier`` is the same, wrapped by ``fabric``.
        step: Computes the loss of a batch.
        optimizer: The optimizer, wrapped by ``fabric``.
        average: Average of the model's weights, or None.
        batches: Batches from ``position`` on, of all epochs: this process's share.
        batches_per_epoch: Batches per epoch.
        recording_paths: Returns the paths of the recordings in a batch, from its epoch and batch.
        data: Labels and digests of the recordings; a checkpoint is resumed with the same only.
        validation: Validation sets, evaluated after every epoch.
        monitor: Metric that ranks epochs, or None.
        patience: Epochs without improvement after which the run stops; None never stops.
        metrics_log: Writer of ``metrics.csv``; None in all processes but the first.
        mix_stats: Statistics of the current epoch's mixes: this process's share.
        timer: Measures the time of each phase.
        stop_requests: Stop requests: signals and the time limit.
        checkpoint_schedule: Schedule of the checkpoints.
        seed: Seed of the run.
        run_dir: Run directory.
        optim: Settings of the optimizer and its schedule.
        trainer: Settings of the loop.
        hooks: Observers of the loop.
        position: Epoch, batch and optimizer step of the run.
        losses: Losses of the last batches that were not read yet, with the batch index.
    """

    processes: Processes
    model: nn.Module
    step: TrainingStep
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    batches: Iterable[Batch]
    batches_per_epoch: int
    recording_paths: Callable[[int, int], list[str]]
    data: dict[str, str]
    validation: Sequence[ValidationSet]
    monitor: str | None
    patience: int | None
    metrics_log: MetricsLog | None
    mix_stats: MixStats
    timer: PhaseTimer
    stop_requests: StopRequests
    checkpoint_schedule: CheckpointSchedule
    seed: int
    run_dir: Path
    optim: OptimSettings
    trainer: TrainerSettings
    hooks: Sequence[TrainingHook] = ()
    position: RunPosition = field(default_factory=RunPosition)
    losses: deque[tuple[int, AsyncScalar]] = field(default_factory=deque)

    @property
    def fabric(self) -> Fabric:
        """Device and precision of this process."""
        return self.processes.fabric

    @property
    def total_steps(self) -> int:
        """Number of optimizer steps of the whole run."""
        return -(-self.batches_per_epoch // self.trainer.accumulate) * self.trainer.max_epochs

    @property
    def eval_model(self) -> nn.Module:
        """The model that is validated and exported: the average if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def is_done(self) -> bool:
        """Whether all epochs are finished, or training stops early."""
        return self.position.epoch >= self.trainer.max_epochs or (
            self.monitor is not None
            and is_stalled(self.position.monitored, self.monitor, self.patience)
        )

    def batch_random_keys(self, epoch: int, batch: int) -> StepKeys:
        """Return the random keys of this process's share of a batch.

        Args:
            epoch: Epoch, from 0.
            batch: Batch in the epoch, from 0.
        """
        return StepKeys.of_run(
            self.seed,
            epoch,
            batch,
            self.processes.rank,
            batches_per_epoch=self.batches_per_epoch,
            num_epochs=self.trainer.max_epochs,
        )

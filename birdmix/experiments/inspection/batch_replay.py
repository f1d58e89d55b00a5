"""Replay of batches: from a run's settings to the input of its network, as training prepares it.

The batches, their random keys, augmentations, masks and mixes are those of the training loop: all
are functions of the settings, the data and the position in the run, so nothing is trained for it.

Shapes: B batch, T samples, M mel bins, F frames, C classes.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.config.schema import Config
from birdmix.experiments.builders import (
    build_batch_sampler,
    build_training_loader,
    build_training_step,
)
from birdmix.loading.batch import Batch
from birdmix.loading.loader import end_workers
from birdmix.loading.run_data import RunData
from birdmix.mix import Examples
from birdmix.random_keys import StepKeys
from birdmix.training.distributed_processes import Processes
from birdmix.training.run_position import RunPosition
from birdmix.training.training_step import (
    AppliedOperator,
    PreparedBatch,
    TrainingStep,
    draw_hidden_layer,
)


class ReplayedBatch(NamedTuple):
    """A batch of a run, and all that was done to it.

    Attributes:
        position: Epoch and batch, both from 0.
        keys: Its random keys.
        batch: The batch as loaded, waveforms [B, T].
        applied: The mix operators that were applied, in order, those of features included.
        prepared: The network's input.
        hidden_layer: The layer at which features are mixed; None without such an operator.
        examples: What the loss gets: log-mels [B, 1, M, F] as x, targets, weights and known masks
            after all mixes.
    """

    position: tuple[int, int]
    keys: StepKeys
    batch: Batch
    applied: Sequence[AppliedOperator]
    prepared: PreparedBatch
    hidden_layer: str | None
    examples: Examples

    @property
    def name(self) -> str:
        """Epoch and batch from 1, as messages and ``metrics.csv`` count them."""
        epoch, batch = self.position
        return f"{epoch + 1}:{batch + 1}"

    @property
    def is_mixed(self) -> bool:
        """Whether any of its examples is mixed."""
        return not all(each.plan.is_identity for each in self.applied)


@dataclass(frozen=True)
class BatchReplay:
    """Replays the batches of a run from a position on.

    Attributes:
        config: The run's settings.
        data: The run's data.
        processes: Device of this process, and whose share of each batch is replayed.
        step: The training step, without a network.
        batches_per_epoch: Batches in an epoch.
    """

    config: Config
    data: RunData
    processes: Processes
    step: TrainingStep
    batches_per_epoch: int

    @staticmethod
    def of_run(config: Config, data: RunData, processes: Processes) -> "BatchReplay":
        """Build the replay of a run.

        Args:
            config: The run's settings.
            data: The run's data.
            processes: Device of this process, and whose share of each batch is replayed.

        Raises:
            ValueError: If settings and data do not fit together.
        """
        sampler = build_batch_sampler(config, data, RunPosition(), processes)
        device = processes.fabric.device
        step = build_training_step(config, torch.nn.Identity(), data.train, device)
        return BatchReplay(config, data, processes, step, sampler.batches_per_epoch)

    @property
    def num_batches(self) -> int:
        """Number of batches of the whole run."""
        return self.batches_per_epoch * self.config.trainer.max_epochs

    def replay(self, start: tuple[int, int]) -> Generator[ReplayedBatch, None, None]:
        """Yield the batches of the run, from epoch and batch ``start`` (both from 0) to its end."""
        position = RunPosition(epoch=start[0], batch=start[1])
        sampler = build_batch_sampler(self.config, self.data, position, self.processes)
        loader = build_training_loader(
            self.config, self.data, sampler, self.config.data.num_workers
        )
        positions = sampler.remaining_epochs_and_batches()
        try:
            # The positions second: after the last one the loader would be asked once more.
            for batch, (epoch, index) in zip(loader, positions, strict=False):
                yield self._replay_batch(self.processes.fabric.to_device(batch), epoch, index)
        finally:
            end_workers(loader)

    def _replay_batch(self, batch: Batch, epoch: int, index: int) -> ReplayedBatch:
        keys = StepKeys.of_run(
            self.config.seed,
            epoch,
            index,
            self.processes.rank,
            batches_per_epoch=self.batches_per_epoch,
            num_epochs=self.config.trainer.max_epochs,
        )
        applied: list[AppliedOperator] = []
        step = replace(self.step, observe_operator=applied.append)
        torch.manual_seed(keys.torch_seed("torch"))
        prepared = step.prepare_batch(batch, keys)
        mixed, _ = step.mix_features(prepared.batch, keys)  # of log-mels, for plan and labels
        return ReplayedBatch(
            position=(epoch, index),
            keys=keys,
            batch=batch,
            applied=applied,
            prepared=prepared,
            hidden_layer=draw_hidden_layer(step.mix_stages, keys),
            examples=mixed.examples._replace(x=prepared.batch.examples.x),
        )

    def waveforms(self, replayed: ReplayedBatch) -> Tensor:
        """Return the waveforms [B, T] after mix and augmentation, of which log-mels are made."""
        return self.step.mix_waveforms(replayed.batch, replayed.keys)[0].examples.x

    def clean_view(self, replayed: ReplayedBatch) -> Batch | None:
        """Return the unmixed view of a batch, log-mels as x; None if it has no weight."""
        if not self.step.mix_stages.clean_weight:
            return None
        return self.step.prepare_clean_view(replayed.batch, replayed.keys)

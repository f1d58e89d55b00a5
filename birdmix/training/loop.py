"""The loop: explicit, on Fabric, resumable at any optimizer step.

Nothing here has a random state. What a batch holds and how it is mixed are functions of the seed,
the epoch and the batch (``keys``); torch's own generators (dropout, drop path) are seeded from the
same before every batch. So a resumed run only needs weights, optimizer, average and position.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from birdmix.batch import Batch
from birdmix.keys import StepKeys
from birdmix.mix import Audit
from birdmix.model.optimizers import lr_factor
from birdmix.model.settings import OptimSettings
from birdmix.training.checkpoint import save_checkpoint
from birdmix.training.log import MetricsLog
from birdmix.training.settings import CheckpointSettings, TrainerSettings
from birdmix.training.step import TrainingStep
from birdmix.training.validate import ValidationSet, judge


@dataclass
class Position:
    """Where a run stands; part of every checkpoint.

    Attributes:
        epoch: Epochs finished.
        batch: Batches of the current epoch that went into optimizer steps.
        step: Optimizer steps taken.
        loss_sum: Sum of the current epoch's batch losses.
        log_bytes: Length of the metrics file that belongs to this position.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    log_bytes: int = 0


class Hook(Protocol):
    """Something beside the loop: it hears what happens and changes nothing."""

    def on_batch(self, position: Position, num_samples: int) -> None:
        """Hear that a batch was trained on."""

    def on_validation(self) -> None:
        """Hear that an epoch's last step is done and validation begins."""

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Hear an epoch's figures, before its checkpoint is saved."""


@dataclass
class Training:
    """All that the loop drives.

    Attributes:
        fabric: Device and precision.
        model: The classifier; ``step.classifier`` is the same, wrapped by ``fabric``.
        step: The way from a batch to its loss.
        optimizer: Wrapped by ``fabric``.
        average: Average of the model's weights, if there is one.
        batches: Batches from ``position`` on, through all epochs.
        batches_per_epoch: Batches of one epoch.
        data: What the data are; a checkpoint goes on with the same only.
        validation: Sets that every epoch is judged by.
        log: Where the figures go.
        audit: The books of the current epoch's mixes.
        hooks: Told beside it.
        position: Where the run stands.
    """

    fabric: Fabric
    model: nn.Module
    step: TrainingStep
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    batches: Iterable[Batch]
    batches_per_epoch: int
    data: dict[str, Any]
    validation: Sequence[ValidationSet]
    log: MetricsLog
    audit: Audit
    seed: int
    run_dir: Path
    optim: OptimSettings
    trainer: TrainerSettings
    checkpoint: CheckpointSettings
    hooks: Sequence[Hook] = ()
    position: Position = field(default_factory=Position)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return -(-self.batches_per_epoch // self.trainer.accumulate) * self.trainer.max_epochs

    @property
    def judged_model(self) -> nn.Module:
        """The model that is validated and kept: the average if there is one."""
        return self.model if self.average is None else self.average.module

    def keys(self, epoch: int, batch: int) -> StepKeys:
        """Return the keys of a batch: all that is random about it."""
        done = epoch + batch / self.batches_per_epoch
        return StepKeys(self.seed, epoch, batch, progress=done / self.trainer.max_epochs)

    def state(self) -> dict[str, Any]:
        """Return everything a checkpoint holds."""
        return {
            "position": asdict(self.position),
            "data": self.data,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "audit": self.audit.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint.

        Raises:
            ValueError: If the data are not those that it was trained on.
        """
        if state["data"] != self.data:
            raise ValueError(
                f"{self.run_dir}: the recordings or their labels changed since the checkpoint; "
                "put them back, or start a new run"
            )
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.audit.load_state_dict(state["audit"], self.fabric.device)
        self.position = Position(**state["position"])


def open_fabric(settings: TrainerSettings) -> Fabric:
    """Open the device and set the precision.

    Raises:
        ValueError: If the machine has no such device.
    """
    try:
        return Fabric(
            accelerator=settings.accelerator,
            devices=1,
            precision=settings.precision,  # type: ignore[arg-type]  # checked by its settings
        )
    except (RuntimeError, MisconfigurationException) as error:
        raise ValueError(
            f"trainer.accelerator={settings.accelerator} is not to be had here ({error}); "
            "use trainer.accelerator=auto"
        ) from error


def fit(run: Training) -> None:
    """Train from ``run.position`` to the last epoch, saving on the way."""
    batches = iter(run.batches)
    saved_at = time.monotonic()
    while run.position.epoch < run.trainer.max_epochs:
        run.step.classifier.train()
        while run.position.batch < run.batches_per_epoch:
            _optimizer_step(run, batches)
            if time.monotonic() - saved_at > run.checkpoint.every_minutes * 60:
                save_checkpoint(run.run_dir, run.state())
                saved_at = time.monotonic()
        _end_epoch(run)
        save_checkpoint(run.run_dir, run.state())
        saved_at = time.monotonic()


def _optimizer_step(run: Training, batches: Any) -> None:
    """Accumulate the gradients of some batches and take one step."""
    position = run.position
    count = min(run.trainer.accumulate, run.batches_per_epoch - position.batch)
    for index in range(position.batch, position.batch + count):
        keys = run.keys(position.epoch, index)
        torch.manual_seed(keys.integer("torch"))
        batch = run.fabric.to_device(next(batches))
        loss = run.step(batch, keys, run.audit)
        run.fabric.backward(loss / count)
        position.loss_sum += _finite(loss, position, index)
        for hook in run.hooks:
            hook.on_batch(position, len(batch.x))
    rate = run.optim.lr * lr_factor(position.step, run.num_steps, run.optim.warmup_share)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    if run.trainer.clip is not None:
        run.fabric.clip_gradients(run.step.classifier, run.optimizer, max_norm=run.trainer.clip)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        run.average.update_parameters(run.model)
    position.batch += count
    position.step += 1


def _end_epoch(run: Training) -> None:
    """Validate, tell, and move on to the next epoch."""
    done = run.position
    metrics = {
        "epoch": done.epoch + 1,
        "step": done.step,
        "lr": run.optimizer.param_groups[0]["lr"],
        "train_loss": done.loss_sum / run.batches_per_epoch,
    }
    for hook in run.hooks:
        hook.on_validation()
    for each in run.validation:
        metrics |= judge(run.fabric, run.judged_model, run.step.log_mel, each).metrics()
    metrics |= run.audit.report()
    run.audit.restart()
    log_bytes = run.log.append(metrics)
    run.position = Position(epoch=done.epoch + 1, step=done.step, log_bytes=log_bytes)
    for hook in run.hooks:
        hook.on_epoch(metrics)


def _finite(loss: Tensor, position: Position, batch: int) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ValueError(
            f"the loss of epoch {position.epoch + 1}, batch {batch + 1} is {value}; lower optim.lr "
            "or use trainer.precision=32-true; the last checkpoint stands as it was"
        )
    return value

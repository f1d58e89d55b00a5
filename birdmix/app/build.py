"""Builders: from settings to the objects that a run is made of."""

from dataclasses import replace
from pathlib import Path

import torch

from birdmix.app.data import Data
from birdmix.app.feed import build_batches, build_loader, build_validation
from birdmix.app.run_directory import claim_run_directory
from birdmix.app.schema import Config
from birdmix.app.stages import begin_from, check_stage
from birdmix.audio.augment import Augmentation
from birdmix.frontend.log_mel import LogMel
from birdmix.labels import Labels
from birdmix.loading.sampler import EpochBatches
from birdmix.mix import Audit, build_stages
from birdmix.model.classifier import Classifier, channels_last, compiled, synchronised
from birdmix.model.losses import build_loss
from birdmix.model.optimizers import build_optimizer, freeze, weight_average
from birdmix.recordings.table import Recordings
from birdmix.suggest import first_few
from birdmix.training.checkpoint import Saves
from birdmix.training.log import MetricsLog
from birdmix.training.position import Position
from birdmix.training.processes import Processes
from birdmix.training.run import Training
from birdmix.training.state import restore
from birdmix.training.step import TrainingStep
from birdmix.training.stops import Stops
from birdmix.training.timing import Clock
from birdmix.training.validate import monitored_figure


def build_step(
    config: Config, classifier: torch.nn.Module, train: Recordings, device: torch.device
) -> TrainingStep:
    """Make the way from a batch to its loss, on a device.

    Raises:
        ValueError: If the loss needs what the head or the recordings do not have.
    """
    has_frames = config.model.head == "sed"
    loss = build_loss(config.loss, train.label_counts(), len(train), has_frames)
    return TrainingStep(
        stages=build_stages(config.mix),
        log_mel=LogMel(config.frontend.log_mel).to(device),
        masking=config.frontend.masking,
        attenuation=config.frontend.attenuation,
        classifier=classifier,
        loss=loss.to(device),
        augmentation=Augmentation(config.data.augment_mixed, config.frontend.log_mel.sample_rate),
    )


def check_buildable(config: Config) -> None:
    """Build what needs no data, so that a wrong name is told before a long scan of recordings.

    Raises:
        ValueError: If an augmentation, the network, the optimizer or where weights come from is
            wrong.
    """
    if config.resume is None:
        check_stage(config)
    with torch.device("meta"):  # shapes without numbers
        settings = replace(config.model, pretrained=False, weights=None)
        model = Classifier(settings, 2, picture=_picture(config))
        freeze(model, config.optim.freeze)
        build_optimizer(model, config.optim)
    for key in ("augment", "augment_mixed"):
        try:
            Augmentation(getattr(config.data, key), config.frontend.log_mel.sample_rate)
        except ValueError as error:
            raise ValueError(f"data.{key}: {error}") from error


def build_training(
    config: Config,
    data: Data,
    run: Path,
    processes: Processes,
    state: dict | None = None,
    stops: Stops | None = None,
) -> Training:
    """Make all that the loop drives, at its start or where a checkpoint's ``state`` stands."""
    fabric = processes.fabric
    position = Position(**state["position"]) if state else Position()
    digests = _same_everywhere(data, processes)
    batches = build_batches(config, data, position, processes)
    validation = build_validation(config, data, processes)
    monitor = monitored_figure(validation, config.validation.monitor)
    if monitor is None and (config.validation.patience or config.checkpoint.best_k):
        raise ValueError(
            "validation.patience and checkpoint.best_k need something to validate on; hold out a "
            "fold with data.fold=0, or set validation.monitor=train_loss"
        )
    clock = Clock(fabric.device)
    torch.manual_seed(config.seed)
    model = build_model(config, data.labels, fabric.device, fresh=state is None)
    freeze(model, config.optim.freeze)
    optimizer = build_optimizer(model, config.optim)
    wrapped, optimizer = fabric.setup(model, optimizer)
    step = replace(build_step(config, wrapped, data.train, fabric.device), mark=clock.mark)
    training = Training(
        processes=processes,
        model=model,
        step=step,
        optimizer=optimizer,
        average=weight_average(model, config.optim.ema_decay) if config.optim.ema_decay else None,
        batches=build_loader(config, data, batches, config.data.num_workers),
        batches_per_epoch=batches.batches_per_epoch,
        recordings_of=lambda epoch, batch: _paths(data, batches, epoch, batch),
        data={
            "labels": ";".join(data.labels.codes),
            "recordings": "+".join(digests),
        },
        validation=validation,
        monitor=monitor,
        patience=config.validation.patience,
        log=None,
        audit=Audit(step.stages.slots),
        clock=clock,
        stops=stops or Stops(config.trainer.max_time),
        saves=Saves(config.checkpoint),
        seed=config.seed,
        run_dir=run,
        optim=config.optim,
        trainer=config.trainer,
    )
    if state:
        restore(training, state, other_data=config.resume_force)
    if processes.is_first:  # only now: it cuts the file back to where the checkpoint stands
        claim_run_directory(run, is_resumed=state is not None)
        training.log = MetricsLog(run, position.log_bytes)
    return training


def _same_everywhere(data: Data, processes: Processes) -> list[str]:
    """Return the digests of the recordings that are trained on, and of all others.

    Raises:
        ValueError: If one process could not read what another one could.
    """
    sets = (data.train, *data.pool.values(), *data.validation.values())
    digests = processes.gather([each.digest() for each in sets])
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise ValueError(
            f"processes {first_few([str(rank) for rank in others], 5)} read other recordings than "
            "process 0; look for files that are missing or unreadable on their machines"
        )
    return digests[0]


def build_model(
    config: Config, labels: Labels, device: torch.device, *, fresh: bool = True
) -> Classifier:
    """Make the classifier as the trainer wants it.

    Args:
        config: Says how.
        labels: Label set; a class each.
        device: Where it is to train.
        fresh: Whether it begins with the weights that the settings name; a checkpoint has its own.

    Raises:
        ValueError: If those cannot be had, or the trainer wants what the device cannot do.
    """
    settings = config.model if fresh else replace(config.model, pretrained=False, weights=None)
    softmax = config.loss.is_softmax
    model = Classifier(settings, len(labels), picture=_picture(config), softmax=softmax)
    if fresh and config.init_from is not None:
        begin_from(model, config, labels)
    if config.trainer.channels_last:
        model = channels_last(model)
    if config.trainer.sync_batch_norm:
        if device.type != "cuda":
            raise ValueError("trainer.sync_batch_norm=true needs GPUs; leave it out on others")
        model = synchronised(model)
    return compiled(model) if config.trainer.compile else model


def _picture(config: Config) -> tuple[int, int]:
    """Return the mel bins and frames of a segment."""
    log_mel = config.frontend.log_mel
    return log_mel.n_mels, log_mel.num_frames(log_mel.num_samples(config.data.segment_seconds))


def _paths(data: Data, batches: EpochBatches, epoch: int, batch: int) -> list[str]:
    rows = batches.rows(epoch)[batches.positions(batch)]
    return list(dict.fromkeys(data.train.take(rows).paths))

"""Builders: from settings to the objects that a run is made of."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from birdmix.app.data import Data
from birdmix.app.schema import Config
from birdmix.app.stages import begin_from
from birdmix.audio.augment import Augmentation
from birdmix.frontend.log_mel import LogMel
from birdmix.labels import Labels
from birdmix.loading.batches import Pooled, Segments
from birdmix.loading.judging import Windows, in_windows
from birdmix.loading.loader import loader
from birdmix.loading.sampler import EpochBatches, PooledBatches, appearances
from birdmix.mix import Audit, build_stages
from birdmix.model.classifier import Classifier, channels_last, compiled, synchronised
from birdmix.model.losses import build_loss
from birdmix.model.optimizers import build_optimizer, freeze, weight_average
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import Recordings, concatenated
from birdmix.training.checkpoint import Saves
from birdmix.training.log import MetricsLog
from birdmix.training.position import Position
from birdmix.training.processes import Processes
from birdmix.training.run import Training
from birdmix.training.state import restore
from birdmix.training.step import TrainingStep
from birdmix.training.stops import Stops
from birdmix.training.timing import Clock
from birdmix.training.validate import ValidationSet, monitored_figure


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


def check_augmentations(config: Config) -> None:
    """Build the augmentations, so that a wrong one is told before any work.

    Raises:
        ValueError: With the key, if one is wrong.
    """
    for key in ("augment", "augment_mixed"):
        try:
            Augmentation(getattr(config.data, key), config.frontend.log_mel.sample_rate)
        except ValueError as error:
            raise ValueError(f"data.{key}: {error}") from error


def build_segments(config: Config, data: Data) -> Segments:
    """Make the data set of training segments."""
    return _segments(config, data, data.train, "segment", config.data)


def build_pool(config: Config, data: Data) -> Segments | None:
    """Make the data set of what is only mixed in, if there is any."""
    if not data.pool:
        return None
    plain = DataSettings(min_overlap_seconds=config.data.min_overlap_seconds)
    return _segments(config, data, concatenated(data.pool.values()), "pool segment", plain)


def _segments(
    config: Config, data: Data, recordings: Recordings, purpose: str, settings: DataSettings
) -> Segments:
    log_mel = config.frontend.log_mel
    num_samples = log_mel.num_samples(config.data.segment_seconds)
    return Segments(
        recordings, data.store, num_samples, log_mel.sample_rate, config.seed, settings, purpose
    )


def build_loader(config: Config, data: Data, batches: EpochBatches, num_workers: int) -> DataLoader:
    """Make the loader of a run's batches, each with its share of the pool if there is one."""
    segments, pool = build_segments(config, data), build_pool(config, data)
    if pool is None:
        return loader(segments, batches, num_workers)
    sizes = [len(each) for each in data.pool.values()]
    size = config.data.pool.size or config.data.batch_size
    return loader(Pooled(segments, pool), PooledBatches(batches, sizes, size), num_workers)


def build_batches(
    config: Config, data: Data, position: Position, processes: Processes
) -> EpochBatches:
    """Make the order of this process's share of the run's batches from a position on.

    Raises:
        ValueError: If a batch is too small to be mixed.
    """
    batches = EpochBatches(
        appearances(data.train, config.data),
        config.data.batch_size,
        seed=config.seed,
        num_epochs=config.trainer.max_epochs,
        drop_last=config.data.drop_last,
        start=(position.epoch, position.batch),
        rank=processes.rank,
        num_processes=processes.size,
    )
    stages = build_stages(config.mix)
    if ("inject" in stages.waveform) is not bool(data.pool):
        raise ValueError(
            f"mix.inject.prob={config.mix.inject.prob} and data.pool.sources="
            f"{list(data.pool)} go together: one mixes in what the other brings"
        )
    num_sources = stages.num_batch_sources
    if batches.smallest_share < num_sources:
        share = "a batch" if processes.size == 1 else f"one of {processes.size} shares of a batch"
        raise ValueError(
            f"the mix joins {num_sources} samples, but {share} may hold only "
            f"{batches.smallest_share}; raise data.batch_size or set data.drop_last=true"
        )
    return batches


def validation_rows(config: Config, data: Data) -> dict[str, Recordings]:
    """Return what each validation set judges, a row each: recordings, or annotated windows."""
    rate = config.frontend.log_mel.sample_rate
    num_samples = config.frontend.log_mel.num_samples(config.data.segment_seconds)
    overlap = config.data.min_overlap_seconds
    return {
        name: in_windows(recordings, data.store, num_samples, rate, overlap)
        for name, recordings in data.validation.items()
    }


def build_validation(config: Config, data: Data, processes: Processes) -> list[ValidationSet]:
    """Make the sets that every epoch is judged by, each process its share."""
    rate = config.frontend.log_mel.sample_rate
    num_samples = config.frontend.log_mel.num_samples(config.data.segment_seconds)
    sets = []
    for name, rows in validation_rows(config, data).items():
        windows = Windows(
            rows,
            data.store,
            num_samples,
            rate,
            config.validation.max_windows,
            with_context=name == "validation_soundscape",
        )
        if not windows.keys:
            held_out = len(data.validation[name])
            raise ValueError(
                f"nothing is known of any window of the {held_out} recordings held out; set "
                "data.annotated, or hold out others (data.fold), or none (data.fold=null)"
            )
        batches = windows.in_batches(max(config.data.batch_size // processes.size, 1))
        share = batches[processes.rank :: processes.size]
        loaded = loader(windows, share, config.data.num_workers)
        sets.append(ValidationSet(name, windows.truth, windows.known, loaded, len(batches)))
    return sets


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
            f"processes {', '.join(map(str, others))} read other recordings than process 0; look "
            "for files that are missing or unreadable on their machines"
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
    model = Classifier(settings, len(labels))
    if fresh and config.init_from is not None:
        begin_from(model, config, labels)
    if config.trainer.channels_last:
        model = channels_last(model)
    if config.trainer.sync_batch_norm:
        if device.type != "cuda":
            raise ValueError("trainer.sync_batch_norm=true needs GPUs; leave it out on others")
        model = synchronised(model)
    return compiled(model) if config.trainer.compile else model


def _paths(data: Data, batches: EpochBatches, epoch: int, batch: int) -> list[str]:
    rows = batches.rows(epoch)[batches.positions(batch)]
    return list(dict.fromkeys(data.train.take(rows).paths))

"""Builders: from settings to the objects that a run is made of."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from birdmix.app.console import progress, say
from birdmix.app.schema import Config
from birdmix.frontend.log_mel import LogMel
from birdmix.labels import Labels
from birdmix.mix import Audit, build_stages
from birdmix.model.classifier import Classifier, channels_last, compiled, synchronised
from birdmix.model.optimizers import build_optimizer, weight_average
from birdmix.recordings.batches import EpochBatches, Segments, Windows, loader
from birdmix.recordings.demo import DemoSettings, ensure_demo
from birdmix.recordings.folds import split
from birdmix.recordings.readers import read_source
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.store import Store, open_store
from birdmix.recordings.table import DataSource, Recordings
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


@dataclass(frozen=True)
class OpenSet:
    """Recordings and where their samples come from."""

    recordings: Recordings
    store: Store


@dataclass(frozen=True)
class Data:
    """A run's data.

    Attributes:
        train: To train on.
        validation: To be judged by, by the name that begins their metrics.
    """

    train: OpenSet
    validation: dict[str, OpenSet]

    @property
    def labels(self) -> Labels:
        """The label set."""
        return self.train.recordings.labels


def open_data(settings: DataSettings, sample_rate: int, processes: Processes | None = None) -> Data:
    """Read the recordings, split them and open them; the demo is made first if need be."""
    if settings.source == "demo" and settings.root is not None:
        if processes is None or processes.is_first:
            _make_demo(Path(settings.root), settings.demo)
        if processes is not None:
            processes.gather(None)  # the others wait until it is made
    source = read_source(settings)
    recordings, store = _open(source.recordings, settings, sample_rate)
    validation = {}
    if settings.fold is not None:
        recordings, held_out = split(recordings, settings.num_folds, settings.fold)
        validation["validation"] = OpenSet(held_out, store)
    if source.soundscapes is not None:
        validation["validation_soundscape"] = OpenSet(
            *_open(source.soundscapes, settings, sample_rate)
        )
    _tell(source, recordings, validation)
    return Data(OpenSet(recordings, store), validation)


def _make_demo(root: Path, settings: DemoSettings) -> None:
    with progress("singing the demo") as on_progress:
        if ensure_demo(root, settings, on_progress):
            say(f"made a demo of synthetic birds in {root}")


def _open(
    recordings: Recordings, settings: DataSettings, sample_rate: int
) -> tuple[Recordings, Store]:
    with progress("opening recordings") as on_progress:
        return open_store(
            recordings, sample_rate, settings.memory_gib, settings.max_bad_fraction, on_progress
        )


def _tell(source: DataSource, train: Recordings, validation: dict[str, OpenSet]) -> None:
    held_out = validation.get("validation")
    parts = [f"{len(train)} recordings of {len(train.labels)} classes to train on"]
    if held_out is not None:
        parts.append(f"{len(held_out.recordings)} held out")
    if source.soundscapes is not None:
        parts.append(f"{len(source.soundscapes)} labelled soundscape windows")
    say(", ".join(parts))
    present = {code for codes in train.table["codes"] for code in codes}
    absent = [code for code in train.labels.codes if code not in present]
    if absent:
        say(f"no recording to train on for {len(absent)} classes: {', '.join(absent)}")


def build_step(config: Config, classifier: torch.nn.Module) -> TrainingStep:
    """Make the way from a batch to its loss."""
    return TrainingStep(
        stages=build_stages(config.mix),
        log_mel=LogMel(config.frontend.log_mel),
        masking=config.frontend.masking,
        classifier=classifier,
        smoothing=config.loss.smoothing,
    )


def build_segments(config: Config, data: Data) -> Segments:
    """Make the data set of training segments."""
    rate = config.frontend.log_mel.sample_rate
    num_samples = config.frontend.log_mel.num_samples(config.data.segment_seconds)
    return Segments(data.train.recordings, data.train.store, num_samples, rate, config.seed)


def build_batches(
    config: Config, data: Data, position: Position, processes: Processes
) -> EpochBatches:
    """Make the order of this process's share of the run's batches from a position on.

    Raises:
        ValueError: If a batch is too small to be mixed.
    """
    batches = EpochBatches(
        len(data.train.recordings),
        config.data.batch_size,
        seed=config.seed,
        num_epochs=config.trainer.max_epochs,
        segments_per_recording=config.data.segments_per_recording,
        drop_last=config.data.drop_last,
        start=(position.epoch, position.batch),
        rank=processes.rank,
        num_processes=processes.size,
    )
    num_sources = build_stages(config.mix).num_batch_sources
    if batches.smallest_share < num_sources:
        share = "a batch" if processes.size == 1 else f"one of {processes.size} shares of a batch"
        raise ValueError(
            f"the mix joins {num_sources} samples, but {share} may hold only "
            f"{batches.smallest_share}; raise data.batch_size or set data.drop_last=true"
        )
    return batches


def build_validation(config: Config, data: Data, processes: Processes) -> list[ValidationSet]:
    """Make the sets that every epoch is judged by, each process its share."""
    rate = config.frontend.log_mel.sample_rate
    num_samples = config.frontend.log_mel.num_samples(config.data.segment_seconds)
    sets = []
    for name, each in data.validation.items():
        windows = Windows(
            each.recordings, each.store, num_samples, rate, config.validation.max_windows
        )
        batches = windows.batches(max(config.data.batch_size // processes.size, 1))
        share = batches[processes.rank :: processes.size]
        loaded = loader(windows, share, config.data.num_workers)
        sets.append(ValidationSet(name, windows.targets.numpy(), loaded, len(batches)))
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
    digest = _same_everywhere(data, processes)
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
    model = build_model(config, len(data.labels), fabric.device)
    optimizer = build_optimizer(model, config.optim)
    wrapped, optimizer = fabric.setup(model, optimizer)
    step = build_step(config, wrapped)
    step = replace(step, log_mel=step.log_mel.to(fabric.device), mark=clock.mark)
    training = Training(
        processes=processes,
        model=model,
        step=step,
        optimizer=optimizer,
        average=weight_average(model, config.optim.ema_decay) if config.optim.ema_decay else None,
        batches=loader(build_segments(config, data), batches, config.data.num_workers),
        batches_per_epoch=batches.batches_per_epoch,
        recordings_of=lambda epoch, batch: _paths(data, batches, epoch, batch),
        data={
            "labels": ";".join(data.labels.codes),
            "recordings": digest,
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


def _same_everywhere(data: Data, processes: Processes) -> str:
    """Return the digest of the recordings that are trained on.

    Raises:
        ValueError: If one process could not read what another one could.
    """
    sets = (data.train, *data.validation.values())
    digests = processes.gather([each.recordings.digest() for each in sets])
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise ValueError(
            f"processes {', '.join(map(str, others))} read other recordings than process 0; look "
            "for files that are missing or unreadable on their machines"
        )
    return digests[0][0]


def build_model(config: Config, num_classes: int, device: torch.device) -> Classifier:
    """Make the classifier as the trainer wants it.

    Raises:
        ValueError: If it wants what the device cannot do.
    """
    model = Classifier(config.model, num_classes)
    if config.trainer.channels_last:
        model = channels_last(model)
    if config.trainer.sync_batch_norm:
        if device.type != "cuda":
            raise ValueError("trainer.sync_batch_norm=true needs GPUs; leave it out on others")
        model = synchronised(model)
    return compiled(model) if config.trainer.compile else model


def _paths(data: Data, batches: EpochBatches, epoch: int, batch: int) -> list[str]:
    rows = batches.rows(epoch)[batches.positions(batch)]
    return data.train.recordings.table["path"].iloc[rows].drop_duplicates().tolist()

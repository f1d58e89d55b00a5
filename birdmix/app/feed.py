"""Builders of what a run is fed with: from its data to the batches it trains and validates on."""

from torch.utils.data import DataLoader

from birdmix.app.data import Data
from birdmix.app.schema import Config
from birdmix.loading.batches import Pooled, Segments
from birdmix.loading.judging import Windows, in_windows
from birdmix.loading.loader import loader
from birdmix.loading.sampler import EpochBatches, PooledBatches, appearances
from birdmix.mix import build_stages
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import Recordings, concatenated
from birdmix.training.position import Position
from birdmix.training.processes import Processes
from birdmix.training.validate import ValidationSet


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


def build_validation(config: Config, data: Data, processes: Processes) -> list[ValidationSet]:
    """Make the sets that every epoch is judged by, each process its share."""
    rate = config.frontend.log_mel.sample_rate
    num_samples = config.frontend.log_mel.num_samples(config.data.segment_seconds)
    sets = []
    for name, recordings in data.validation.items():
        overlap = config.data.min_overlap_seconds
        rows = in_windows(recordings, data.store, num_samples, rate, overlap)
        windows = Windows(
            rows,
            data.store,
            num_samples,
            rate,
            config.validation.max_windows,
            with_context=name == "validation_soundscape",
        )
        if not windows.keys:
            raise ValueError(
                f"nothing is known of any window of the {len(recordings)} recordings held out; set "
                "data.annotated, or hold out others (data.fold), or none (data.fold=null)"
            )
        batches = windows.in_batches(max(config.data.batch_size // processes.size, 1))
        share = batches[processes.rank :: processes.size]
        loaded = loader(windows, share, config.data.num_workers)
        sets.append(ValidationSet(name, windows.truth, windows.known, loaded, len(batches), rows))
    return sets

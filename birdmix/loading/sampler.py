"""Samplers: which rows of the recordings table are drawn in an epoch, and in which order.

Shapes: N rows, C classes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from birdmix.random_keys import generator
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DataSettings

#: Epoch, position in the epoch, row of the recordings table.
SegmentKey = tuple[int, int, int]


class SegmentAndPoolKeys(NamedTuple):
    """Keys of a batch with a mix pool.

    Attributes:
        segments: Keys of its segments.
        pool: Keys of the segments of its mix pool.
    """

    segments: list[SegmentKey]
    pool: list[SegmentKey]


def compute_draws_per_epoch(recordings: Recordings, settings: DataSettings) -> np.ndarray:
    """Return the mean number of draws of each row per epoch, float64 [N].

    For all samplers but uniform it depends on the frequency of the row's rarest label, without
    labels whose target is less than half of the row's largest. Rows without labels count as rows of
    one common additional label.

    Args:
        recordings: Table of N rows.
        settings: The settings sampler, cap and segments_per_recording.
    """
    offsets, label = recordings.ragged_column("label")
    value, row = (
        recordings.ragged_column("value")[1],
        np.repeat(np.arange(len(recordings)), np.diff(offsets)),
    )
    largest = np.zeros(len(recordings))
    np.maximum.at(largest, row, value)
    counted = value >= largest[row] / 2
    counts = np.bincount(label[counted], minlength=len(recordings.labels))
    rarest_count = np.where(np.diff(offsets) > 0, np.inf, (np.diff(offsets) == 0).sum())
    np.minimum.at(rarest_count, row[counted], counts[label[counted]])
    mean_draws = settings.segments_per_recording
    if settings.sampler == "uniform":
        return np.full(len(rarest_count), float(mean_draws))
    if settings.sampler == "capped":
        return mean_draws * np.minimum(1, float(settings.cap or 1) / rarest_count)
    rate = 1 / rarest_count if settings.sampler == "inverse" else 1 / np.sqrt(rarest_count)
    return mean_draws * len(rate) * rate / rate.sum()


class SegmentBatchSampler(Sampler[list[SegmentKey]]):
    """Batch sampler of a run: the keys of the batches of all its epochs.

    One iteration covers all epochs, so that loader processes are not idle between epochs. It begins
    at ``start``, so that a resumed run continues with the next batch. With several processes each
    one takes every ``num_processes``-th key of a batch, so each key belongs to exactly one process.

    Args:
        draws_per_epoch: Mean number of draws of each row per epoch, float64 [N]; a row with 1.3 is
            drawn once or twice.
        batch_size: Keys in a batch of all processes.
        seed: Seed of the run.
        num_epochs: Number of epochs of the run.
        drop_last: Whether to leave out an epoch's last batch if it is incomplete.
        start: Epoch and batch to begin with.
        rank: Rank of this process.
        num_processes: Number of processes.

    Attributes:
        num_segments: Segments in an epoch.
        batches_per_epoch: Batches in an epoch.
        smallest_share: Smallest number of keys in any process's share of a batch.

    Raises:
        ValueError: If an epoch has no batch.
    """

    def __init__(
        self,
        draws_per_epoch: np.ndarray,
        batch_size: int,
        *,
        seed: int,
        num_epochs: int,
        drop_last: bool = True,
        start: tuple[int, int] = (0, 0),
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.draws_per_epoch = draws_per_epoch
        self.num_segments = round(draws_per_epoch.sum())
        self.batch_size = batch_size
        self.seed = seed
        self.num_epochs = num_epochs
        self.start = start
        self.rank = rank
        self.num_processes = num_processes
        num_complete, remainder = divmod(self.num_segments, batch_size)
        has_short_batch = bool(remainder) and not drop_last
        self.batches_per_epoch = num_complete + (1 if has_short_batch else 0)
        self.smallest_share = (remainder if has_short_batch else batch_size) // num_processes
        if not self.batches_per_epoch:
            raise ValueError(
                f"data.batch_size={batch_size}: an epoch has only {self.num_segments} segments; "
                "lower it, raise data.segments_per_recording, or set data.drop_last=false"
            )

    @property
    def max_waveforms_per_batch(self) -> int:
        """Maximum number of keys in one process's share of a batch."""
        return -(-self.batch_size // self.num_processes)

    def rows_of_epoch(self, epoch: int) -> np.ndarray:
        """Return the row at each position of an epoch, int64 [num_segments]."""
        rows = np.arange(len(self.draws_per_epoch))
        if np.ptp(self.draws_per_epoch) > 0:
            rows = generator(self.seed, "sampler", epoch).permutation(len(rows))
        # Systematic sampling: the draws of a row differ from their mean by less than one.
        cumulative = np.cumsum(self.draws_per_epoch[rows])
        offset = generator(self.seed, "sampler offset", epoch).random()
        points = (np.arange(self.num_segments) + offset) * (cumulative[-1] / self.num_segments)
        drawn = rows[np.searchsorted(cumulative, points, side="right").clip(max=len(rows) - 1)]
        return drawn[generator(self.seed, "order", epoch).permutation(self.num_segments)]

    def positions_of_batch(self, batch: int) -> range:
        """Return the positions in the epoch that belong to a batch of all processes."""
        begin = batch * self.batch_size
        return range(begin, min(begin + self.batch_size, self.num_segments))

    def remaining_epochs_and_batches(self) -> Iterator[tuple[int, int]]:
        """Yield epoch and number within the epoch of each batch, beginning at ``start``."""
        first_epoch, first_batch = self.start
        for epoch in range(first_epoch, self.num_epochs):
            for batch in range(first_batch if epoch == first_epoch else 0, self.batches_per_epoch):
                yield epoch, batch

    def __iter__(self) -> Iterator[list[SegmentKey]]:
        rows_epoch, rows = -1, np.zeros(0)
        for epoch, batch in self.remaining_epochs_and_batches():
            if epoch != rows_epoch:
                rows_epoch, rows = epoch, self.rows_of_epoch(epoch)
            share = self.positions_of_batch(batch)[self.rank :: self.num_processes]
            yield [(epoch, position, int(rows[position])) for position in share]

    def __len__(self) -> int:
        epoch, batch = self.start
        return (self.num_epochs - epoch) * self.batches_per_epoch - batch


class SegmentAndPoolBatchSampler(Sampler[SegmentAndPoolKeys]):
    """Batch sampler that adds keys of the mix pool to each batch.

    The sources of the mix pool take turns, so each gives equally many segments, whatever its size.
    A source draws all its rows before it repeats one, across epochs.

    Args:
        batches: Sampler of the training segments.
        source_sizes: Number of rows of each source, in the order of the pool's table.
        size: Pool segments in a batch of all processes.
    """

    def __init__(
        self, batches: SegmentBatchSampler, source_sizes: Sequence[int], size: int
    ) -> None:
        self.segments = batches
        self.source_sizes = source_sizes
        self.size = size
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def __iter__(self) -> Iterator[SegmentAndPoolKeys]:
        segments = self.segments
        for segment_keys, (epoch, batch) in zip(
            segments, segments.remaining_epochs_and_batches(), strict=True
        ):
            positions = range(batch * self.size, (batch + 1) * self.size)
            share = positions[segments.rank :: segments.num_processes]
            epoch_start = epoch * segments.batches_per_epoch * self.size
            pool_keys = [(epoch, at, self._row_at(epoch_start + at)) for at in share]
            yield SegmentAndPoolKeys(segment_keys, pool_keys)

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def max_waveforms_per_batch(self) -> int:
        """Maximum number of keys in one process's share of a batch and its mix pool."""
        return self.segments.max_waveforms_per_batch - (-self.size // self.segments.num_processes)

    def _row_at(self, position: int) -> int:
        """Return the row of the pool at a position, counted from the start of the run."""
        number, source = divmod(position, len(self.source_sizes))
        cycle, at = divmod(number, self.source_sizes[source])
        return sum(self.source_sizes[:source]) + int(self._cycle_order(source, cycle)[at])

    def _cycle_order(self, source: int, cycle: int) -> np.ndarray:
        """Return the order of a source's rows in one of its cycles through all of them."""
        if source not in self._orders or self._orders[source][0] != cycle:
            rng = generator(self.segments.seed, "pool order", source, cycle)
            self._orders[source] = (cycle, rng.permutation(self.source_sizes[source]))
        return self._orders[source][1]

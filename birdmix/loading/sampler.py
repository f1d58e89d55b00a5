"""Which rows come up in an epoch, and in which order.

Shapes: N rows, C classes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from birdmix.keys import generator
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import Recordings

#: Epoch, position in the epoch, row of the table.
SegmentKey = tuple[int, int, int]


class BatchKeys(NamedTuple):
    """What a batch is made of.

    Attributes:
        samples: Its segments.
        pool: The segments of its pool.
    """

    samples: list[SegmentKey]
    pool: list[SegmentKey]


def appearances(recordings: Recordings, settings: DataSettings) -> np.ndarray:
    """Return how often each row comes up in an epoch on average, float64 [N].

    A row with several labels comes up as often as its rarest label asks, those with less than half
    of the value of its surest left out; a row without any counts as one of a label of its own.
    """
    offsets, label = recordings.ragged("label")
    value, row = (
        recordings.ragged("value")[1],
        np.repeat(np.arange(len(recordings)), np.diff(offsets)),
    )
    surest = np.zeros(len(recordings))
    np.maximum.at(surest, row, value)
    held = value >= surest[row] / 2
    counts = np.bincount(label[held], minlength=len(recordings.labels))
    rarest = np.where(np.diff(offsets) > 0, np.inf, (np.diff(offsets) == 0).sum())
    np.minimum.at(rarest, row[held], counts[label[held]])
    each = settings.segments_per_recording
    if settings.sampler == "uniform":
        return np.full(len(rarest), float(each))
    if settings.sampler == "capped":
        return each * np.minimum(1, float(settings.cap or 1) / rarest)
    rate = 1 / rarest if settings.sampler == "inverse" else 1 / np.sqrt(rarest)
    return each * len(rate) * rate / rate.sum()


class EpochBatches(Sampler[list[SegmentKey]]):
    """The batches of a run, epoch after epoch, each a list of keys.

    One iteration spans all epochs, so that loader processes never idle between them; it begins
    where ``start`` says, so that a resumed run goes on with the very next batch. Several processes
    deal each batch out like cards: every position of an epoch comes up in exactly one of them.

    Args:
        appearances: How often each row comes up in an epoch, float64 [N]; with 1.3 it comes up
            once or twice.
        batch_size: Keys in a batch, over all processes.
        seed: Seed of the run.
        num_epochs: Epochs in all.
        drop_last: Whether a last, short batch is left out.
        start: Epoch and batch to begin with.
        rank: This process among those that share the batches.
        num_processes: Their number.

    Raises:
        ValueError: If an epoch would hold no batch.
    """

    def __init__(
        self,
        appearances: np.ndarray,
        batch_size: int,
        *,
        seed: int,
        num_epochs: int,
        drop_last: bool = True,
        start: tuple[int, int] = (0, 0),
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.appearances = appearances
        self.num_segments = round(appearances.sum())
        self.batch_size = batch_size
        self.seed = seed
        self.num_epochs = num_epochs
        self.start = start
        self.rank = rank
        self.num_processes = num_processes
        whole, rest = divmod(self.num_segments, batch_size)
        self.batches_per_epoch = whole + (1 if rest and not drop_last else 0)
        self.smallest_share = (rest if rest and not drop_last else batch_size) // num_processes
        if not self.batches_per_epoch:
            raise ValueError(
                f"data.batch_size={batch_size} is above the {self.num_segments} segments of an "
                "epoch; lower it, raise data.segments_per_recording, or set data.drop_last=false"
            )

    @property
    def num_waveforms(self) -> int:
        """Most keys in this process's share of a batch."""
        return -(-self.batch_size // self.num_processes)

    def rows(self, epoch: int) -> np.ndarray:
        """Return the row at each position of an epoch, int64 [segments]."""
        rows = np.arange(len(self.appearances))
        if np.ptp(self.appearances) > 0:
            rows = generator(self.seed, "sampler", epoch).permutation(len(rows))
        # Steps of one through the running sum: no row comes up more or less often than it must.
        reached = np.cumsum(self.appearances[rows])
        offset = generator(self.seed, "sampler offset", epoch).random()
        steps = (np.arange(self.num_segments) + offset) * (reached[-1] / self.num_segments)
        drawn = rows[np.searchsorted(reached, steps, side="right").clip(max=len(rows) - 1)]
        return drawn[generator(self.seed, "order", epoch).permutation(self.num_segments)]

    def positions(self, batch: int) -> range:
        """Return the positions that a batch of all processes holds."""
        begin = batch * self.batch_size
        return range(begin, min(begin + self.batch_size, self.num_segments))

    def batches(self) -> Iterator[tuple[int, int]]:
        """Yield epoch and number of each batch, from the start on."""
        first_epoch, first_batch = self.start
        for epoch in range(first_epoch, self.num_epochs):
            for batch in range(first_batch if epoch == first_epoch else 0, self.batches_per_epoch):
                yield epoch, batch

    def __iter__(self) -> Iterator[list[SegmentKey]]:
        drawn_for, rows = -1, np.zeros(0)
        for epoch, batch in self.batches():
            if epoch != drawn_for:
                drawn_for, rows = epoch, self.rows(epoch)
            share = self.positions(batch)[self.rank :: self.num_processes]
            yield [(epoch, position, int(rows[position])) for position in share]

    def __len__(self) -> int:
        epoch, batch = self.start
        return (self.num_epochs - epoch) * self.batches_per_epoch - batch


class PooledBatches(Sampler[BatchKeys]):
    """The batches of a run, each with segments of a pool.

    Every source of the pool gives as many, whatever its size, and goes through all its rows before
    one comes up again, over the epochs.

    Args:
        batches: The batches.
        sources: Number of rows of each source; the pool's table has them one below the other.
        size: Segments of the pool in a batch, over all processes.
    """

    def __init__(self, batches: EpochBatches, sources: Sequence[int], size: int) -> None:
        self.segments = batches
        self.sources = sources
        self.size = size
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def __iter__(self) -> Iterator[BatchKeys]:
        own = self.segments
        for samples, (epoch, batch) in zip(own, own.batches(), strict=True):
            positions = range(batch * self.size, (batch + 1) * self.size)
            share = positions[own.rank :: own.num_processes]
            before = epoch * own.batches_per_epoch * self.size
            yield BatchKeys(samples, [(epoch, at, self._row(before + at)) for at in share])

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def num_waveforms(self) -> int:
        """Most keys in this process's share of a batch and its pool."""
        return self.segments.num_waveforms - (-self.size // self.segments.num_processes)

    def _row(self, position: int) -> int:
        """Return the row at a position, counted from the beginning of the run."""
        turn, source = divmod(position, len(self.sources))
        lap, at = divmod(turn, self.sources[source])
        return sum(self.sources[:source]) + int(self._order(source, lap)[at])

    def _order(self, source: int, lap: int) -> np.ndarray:
        """Return the order of a source's rows in one of its laps."""
        if source not in self._orders or self._orders[source][0] != lap:
            rng = generator(self.segments.seed, "pool order", source, lap)
            self._orders[source] = (lap, rng.permutation(self.sources[source]))
        return self._orders[source][1]

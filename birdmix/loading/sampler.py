"""Batch samplers: which rows are in the batches of a run, and in which order.

Shapes: N training rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from birdmix.loading.row_streams import RowStream, Substitution, draw_systematically
from birdmix.random_keys import generator

#: Epoch, position in the epoch, row of ``RunData.batch_rows``.
SegmentKey = tuple[int, int, int]


class SegmentAndPoolKeys(NamedTuple):
    """Keys of a batch and of the pool segments that are mixed into it.

    Attributes:
        segments: Keys of its segments.
        pools: Keys of the segments of each pool, by name.
    """

    segments: list[SegmentKey]
    pools: dict[str, list[SegmentKey]]


class PoolShare(NamedTuple):
    """Rows of a pool in every batch.

    Attributes:
        stream: The rows of the pool, in the order in which they are used.
        size: Rows per batch of all processes.
    """

    stream: RowStream
    size: int

    def rows_of_batch(self, number: int) -> np.ndarray:
        """Return the rows of a batch, int64 [size].

        Args:
            number: Number of the batch, counted from the start of the run.
        """
        return self.stream.rows_at(range(number * self.size, (number + 1) * self.size))


class SegmentBatchSampler(Sampler[list[SegmentKey]]):
    """Batch sampler of a run: the keys of the batches of all its epochs.

    One iteration covers all epochs, so that loader processes are not idle between epochs. It begins
    at ``start``, so that a resumed run continues with the next batch. With several processes each
    one takes every ``num_processes``-th key of a batch, so each key belongs to exactly one process.

    A batch has training rows first, then the rows of each pool with a share of it. An epoch covers
    the training rows, so with shares of pools it has more batches.

    Args:
        draws_per_epoch: Mean number of draws of each training row per epoch, float64 [N]; a row
            with 1.3 is drawn once or twice.
        batch_size: Keys in a batch of all processes.
        seed: Seed of the run.
        num_epochs: Number of epochs of the run.
        drop_last: Whether to leave out an epoch's last batch if it is incomplete.
        start: Epoch and batch to begin with.
        rank: Rank of this process.
        num_processes: Number of processes.
        pool_shares: Shares of pools in a batch, together smaller than the batch.
        substitution: Replaces training rows by rows of a pool; None replaces none.

    Attributes:
        num_segments: Training segments in an epoch.
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
        pool_shares: Sequence[PoolShare] = (),
        substitution: Substitution | None = None,
    ) -> None:
        self.draws_per_epoch = draws_per_epoch
        self.num_segments = round(draws_per_epoch.sum())
        self.batch_size = batch_size
        self.seed = seed
        self.num_epochs = num_epochs
        self.start = start
        self.rank = rank
        self.num_processes = num_processes
        self.pool_shares = pool_shares
        self.substitution = substitution
        num_from_pools = sum(share.size for share in pool_shares)
        self.num_training_rows = batch_size - num_from_pools
        num_complete, remainder = divmod(self.num_segments, self.num_training_rows)
        has_short_batch = bool(remainder) and not drop_last
        self.batches_per_epoch = num_complete + (1 if has_short_batch else 0)
        smallest = remainder + num_from_pools if has_short_batch else batch_size
        self.smallest_share = smallest // num_processes
        self._epoch, self._rows = -1, np.zeros(0, np.int64)
        if not self.batches_per_epoch:
            of_them = f", {self.num_training_rows} of them training segments" * bool(num_from_pools)
            raise ValueError(
                f"data.batch_size={batch_size}{of_them}: an epoch has only {self.num_segments} "
                "segments; lower it, raise data.segments_per_recording, or set data.drop_last=false"
            )

    @property
    def max_waveforms_per_batch(self) -> int:
        """Maximum number of keys in one process's share of a batch."""
        return -(-self.batch_size // self.num_processes)

    def rows_of_epoch(self, epoch: int) -> np.ndarray:
        """Return the row at each position among an epoch's training rows, int64 [num_segments]."""
        if epoch != self._epoch:
            rows = draw_systematically(
                self.draws_per_epoch, lambda purpose: generator(self.seed, purpose, epoch)
            )
            if self.substitution is not None:
                rows = self.substitution.replace_rows(rows, epoch)
            self._epoch, self._rows = epoch, rows
        return self._rows

    def rows_of_batch(self, epoch: int, batch: int) -> np.ndarray:
        """Return the rows of a batch of all processes: training rows, then those of pools."""
        begin = batch * self.num_training_rows
        training_rows = self.rows_of_epoch(epoch)[begin : begin + self.num_training_rows]
        number = self.number_of_batch(epoch, batch)
        pool_rows = [share.rows_of_batch(number) for share in self.pool_shares]
        return np.concatenate([training_rows, *pool_rows])

    def number_of_batch(self, epoch: int, batch: int) -> int:
        """Return the number of a batch, counted from the start of the run."""
        return epoch * self.batches_per_epoch + batch

    def remaining_epochs_and_batches(self) -> Iterator[tuple[int, int]]:
        """Yield epoch and number within the epoch of each batch, beginning at ``start``."""
        first_epoch, first_batch = self.start
        for epoch in range(first_epoch, self.num_epochs):
            for batch in range(first_batch if epoch == first_epoch else 0, self.batches_per_epoch):
                yield epoch, batch

    def __iter__(self) -> Iterator[list[SegmentKey]]:
        for epoch, batch in self.remaining_epochs_and_batches():
            rows = self.rows_of_batch(epoch, batch).tolist()
            share = range(len(rows))[self.rank :: self.num_processes]
            yield [(epoch, batch * self.batch_size + at, rows[at]) for at in share]

    def __len__(self) -> int:
        epoch, batch = self.start
        return (self.num_epochs - epoch) * self.batches_per_epoch - batch


class SegmentAndPoolBatchSampler(Sampler[SegmentAndPoolKeys]):
    """Batch sampler that adds keys of pool segments to be mixed into each batch.

    Args:
        batches: Sampler of the batches' segments.
        pools: Rows of each pool to mix into a batch, by name.
    """

    def __init__(self, batches: SegmentBatchSampler, pools: Mapping[str, PoolShare]) -> None:
        self.segments = batches
        self.pools = pools

    def __iter__(self) -> Iterator[SegmentAndPoolKeys]:
        segments = self.segments
        for segment_keys, (epoch, batch) in zip(
            segments, segments.remaining_epochs_and_batches(), strict=True
        ):
            pool_keys = {}
            for name, pool in self.pools.items():
                rows = pool.rows_of_batch(segments.number_of_batch(epoch, batch)).tolist()
                share = range(pool.size)[segments.rank :: segments.num_processes]
                pool_keys[name] = [(epoch, batch * pool.size + at, rows[at]) for at in share]
            yield SegmentAndPoolKeys(segment_keys, pool_keys)

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def max_waveforms_per_batch(self) -> int:
        """Maximum number of keys in one process's share of a batch and its pools."""
        num_processes = self.segments.num_processes
        num_from_pools = sum(-(-pool.size // num_processes) for pool in self.pools.values())
        return self.segments.max_waveforms_per_batch + num_from_pools

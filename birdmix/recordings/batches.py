"""From table rows to batches: which segments, in which order, cut how.

A training sample is named by ``(epoch, position, row)``: the sampler yields these keys, and every
random choice about a sample is a function of the seed, its epoch and its position.

Shapes: B batch, T samples, C classes.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from birdmix.audio.decode import AudioError
from birdmix.batch import Batch
from birdmix.keys import generator
from birdmix.recordings.store import Store
from birdmix.recordings.table import Recordings
from birdmix.windows import MIN_TAIL_SECONDS, cut, loop, window_starts

#: Epoch, position in the epoch, row of the table.
SegmentKey = tuple[int, int, int]

#: Row of the table, first sample.
WindowKey = tuple[int, int]


class EpochBatches(Sampler[list[SegmentKey]]):
    """The batches of a run, epoch after epoch, each a list of keys.

    One iteration spans all epochs, so that loader processes never idle between them; it begins
    where ``start`` says, so that a resumed run goes on with the very next batch. Several processes
    deal each batch out like cards: every position of an epoch comes up in exactly one of them.

    Args:
        num_rows: Rows of the table.
        batch_size: Keys in a batch, over all processes.
        seed: Seed of the run.
        num_epochs: Epochs in all.
        segments_per_recording: How often each row comes up in an epoch.
        drop_last: Whether a last, short batch is left out.
        start: Epoch and batch to begin with.
        rank: This process among those that share the batches.
        num_processes: Their number.

    Raises:
        ValueError: If an epoch would hold no batch.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        *,
        seed: int,
        num_epochs: int,
        segments_per_recording: int = 1,
        drop_last: bool = True,
        start: tuple[int, int] = (0, 0),
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.num_segments = num_rows * segments_per_recording
        self.num_rows = num_rows
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

    def rows(self, epoch: int) -> np.ndarray:
        """Return the row at each position of an epoch, int64 [segments]."""
        order = generator(self.seed, "order", epoch).permutation(self.num_segments)
        return order % self.num_rows

    def positions(self, batch: int) -> range:
        """Return the positions that a batch of all processes holds."""
        begin = batch * self.batch_size
        return range(begin, min(begin + self.batch_size, self.num_segments))

    def __iter__(self) -> Iterator[list[SegmentKey]]:
        first_epoch, first_batch = self.start
        for epoch in range(first_epoch, self.num_epochs):
            rows = self.rows(epoch)
            for batch in range(first_batch if epoch == first_epoch else 0, self.batches_per_epoch):
                share = self.positions(batch)[self.rank :: self.num_processes]
                yield [(epoch, position, int(rows[position])) for position in share]

    def __len__(self) -> int:
        epoch, batch = self.start
        return (self.num_epochs - epoch) * self.batches_per_epoch - batch


class _Rows:
    """What both data sets share: rows of a table become batches."""

    def __init__(self, recordings: Recordings, store: Store, num_samples: int) -> None:
        self.store = store
        self.num_samples = num_samples
        self.paths = recordings.table["path"].to_numpy(object)
        self.targets = torch.from_numpy(recordings.targets())
        self.weights = torch.from_numpy(recordings.table["weight"].to_numpy(np.float32).copy())

    def _batch(self, waveforms: np.ndarray, rows: list[int]) -> Batch:
        target = self.targets[rows]
        return Batch(
            x=torch.from_numpy(waveforms),
            target=target,
            weight=self.weights[rows],
            known=torch.ones_like(target, dtype=torch.bool),
            row=torch.tensor(rows),
        )


class Segments(_Rows, Dataset[Batch]):
    """Random segments of recordings, for training; recordings that are too short are looped.

    Args:
        recordings: Table.
        store: Where samples come from.
        num_samples: Length of a segment T.
        sample_rate: Hz.
        seed: Seed of the run.
    """

    def __init__(
        self, recordings: Recordings, store: Store, num_samples: int, sample_rate: int, seed: int
    ) -> None:
        super().__init__(recordings, store, num_samples)
        self.seed = seed
        self.spans = _spans(recordings, store, sample_rate)

    def __getitems__(self, keys: list[SegmentKey]) -> Batch:
        """Load a batch."""
        waveforms = np.empty((len(keys), self.num_samples), np.float32)
        for waveform, key in zip(waveforms, keys, strict=True):
            waveform[:] = self._segment(key)
        return self._batch(waveforms, [row for _, _, row in keys])

    def _segment(self, key: SegmentKey) -> np.ndarray:
        epoch, position, row = key
        first, last = self.spans[row].tolist()
        rng = generator(self.seed, "segment", epoch, position)
        start = first + int(rng.integers(max(last - first - self.num_samples, 0) + 1))
        wanted = min(self.num_samples, last - first)
        return loop(self.store.read(self.paths[row], start, wanted), self.num_samples)


class Windows(_Rows, Dataset[Batch]):
    """Fixed windows of recordings, for validation; beyond a recording's end is silence.

    A row that is a whole recording gets evenly spaced windows; a row that is a part of one gets
    the one window around its centre.

    Args:
        recordings: Table.
        store: Where samples come from.
        num_samples: Length of a window T.
        sample_rate: Hz.
        max_windows: Most windows of one recording.
    """

    def __init__(
        self,
        recordings: Recordings,
        store: Store,
        num_samples: int,
        sample_rate: int,
        max_windows: int,
    ) -> None:
        super().__init__(recordings, store, num_samples)
        self.keys: list[WindowKey] = []
        spans = _spans(recordings, store, sample_rate)
        min_tail = int(MIN_TAIL_SECONDS * sample_rate)
        for row, whole in enumerate(recordings.table["start"].isna()):
            first, last = spans[row].tolist()
            starts = np.array([(first + last - num_samples) // 2])
            if whole:
                starts = window_starts(last, num_samples, num_samples, min_tail)
                starts = starts[
                    np.linspace(0, len(starts) - 1, min(len(starts), max_windows)).astype(int)
                ]
            self.keys.extend((row, start) for start in starts.tolist())

    def __getitems__(self, keys: list[WindowKey]) -> Batch:
        """Load a batch."""
        waveforms = np.empty((len(keys), self.num_samples), np.float32)
        for waveform, (row, start) in zip(waveforms, keys, strict=True):
            begin = max(start, 0)
            piece = self.store.read(self.paths[row], begin, start + self.num_samples - begin)
            waveform[:] = cut(piece, start - begin, self.num_samples)
        return self._batch(waveforms, [row for row, _ in keys])

    def batches(self, batch_size: int) -> list[list[WindowKey]]:
        """Return all keys, batch by batch."""
        return [self.keys[at : at + batch_size] for at in range(0, len(self.keys), batch_size)]


def _spans(recordings: Recordings, store: Store, sample_rate: int) -> np.ndarray:
    """Return the samples [first, last) that each row stands for, int64 [N, 2]."""
    table = recordings.table
    last = np.array([store.num_samples(path) for path in table["path"]], np.int64)
    start, end = table["start"].to_numpy(float), table["end"].to_numpy(float)
    spans = np.stack([np.zeros_like(last), last], axis=1)
    part = ~np.isnan(start)
    spans[part, 0] = np.rint(start[part] * sample_rate)
    spans[part, 1] = np.rint(end[part] * sample_rate)
    spans = np.minimum(spans, last[:, None])
    beyond = np.flatnonzero(spans[:, 0] >= spans[:, 1])
    if len(beyond):
        row = table.iloc[beyond[0]]
        raise ValueError(
            f"{row['path']}: the part from {row['start']:g} to {row['end']:g} s lies beyond its "
            "end; correct start and end, or remove the row"
        )
    return spans


def _as_it_is(batch: Any) -> Any:
    return batch


def _outlast_signals(worker: int) -> None:
    """Let the training process end first: a signal to the whole group must not stop a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux: who sends a signal can be known
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()


def _end_when_the_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class _Telling(Dataset[Any]):
    """Answers with words where a recording breaks: an error loses them between processes."""

    def __init__(self, dataset: Segments | Windows) -> None:
        self.dataset: Any = dataset

    def __getitems__(self, keys: list) -> Batch | str:
        try:
            return self.dataset.__getitems__(keys)
        except AudioError as error:
            return str(error)


class _Loader(DataLoader):
    """Raises what a worker tells."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, str):
                raise ValueError(
                    f"{batch}; it could be read when the run began: put it back as it was"
                )
            yield batch


def loader(
    dataset: Segments | Windows,
    batches: Sampler[list[SegmentKey]] | list[list[WindowKey]],
    num_workers: int,
) -> DataLoader:
    """Make the loader of a data set whose batches are given as lists of keys.

    A recording that breaks on the way raises a ``ValueError`` where the batch is asked for.
    """
    return _Loader(
        _Telling(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,  # a data set answers with a whole batch
        persistent_workers=num_workers > 0,
        worker_init_fn=_outlast_signals,
        pin_memory=torch.cuda.is_available(),
    )


def end_workers(batches: Iterable[Batch]) -> None:
    """End a loader's worker processes now.

    Left to the collector they may be asked to end too late, and are then waited for at the
    program's exit, five seconds each.
    """
    iterator: Any = getattr(batches, "_iterator", None)  # torch has no public name for it
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()

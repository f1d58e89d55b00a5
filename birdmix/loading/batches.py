"""The data set of training segments: keys become batches.

A training sample is named by ``(epoch, position, row)``: the sampler yields these keys, and every
random choice about a sample is a function of the seed, its epoch and its position.

Shapes: B batch, T samples, C classes, N rows.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from birdmix.audio.augment import Augmentation
from birdmix.batch import Batch
from birdmix.keys import generator
from birdmix.loading.cuts import Read, event_start, filled, loud_start, random_start, summed
from birdmix.loading.sampler import BatchKeys, SegmentKey
from birdmix.loading.store import Store
from birdmix.loading.targets import Targets
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import Recordings


class Rows:
    """What the data sets share: rows of a table become batches."""

    def __init__(
        self, recordings: Recordings, store: Store, sample_rate: int, targets: Targets
    ) -> None:
        self.store = store
        self.sample_rate = sample_rate
        self.targets = targets
        self.files = store.files_of(recordings)
        self.weights = recordings.column("weight")
        self.stack: Callable[[list[np.ndarray]], Tensor] = _stacked

    def batch(self, waveforms: list[np.ndarray], rows: list[int], spans: np.ndarray) -> Batch:
        """Join waveforms [T], their rows and what they span, in samples [B, 2]."""
        target, known = self.targets(np.array(rows), spans / self.sample_rate)
        return Batch(
            x=self.stack(waveforms),
            target=torch.from_numpy(target),
            weight=torch.from_numpy(self.weights[rows]),
            known=torch.from_numpy(known),
            row=torch.tensor(rows),
        )


def _stacked(waveforms: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(waveforms))


class Segments(Rows, Dataset[Batch]):
    """Segments of recordings, for training.

    Args:
        recordings: Table.
        store: Where samples come from.
        num_samples: Length of a segment T.
        sample_rate: Hz.
        seed: Seed of the run.
        settings: Where segments are cut, and what fills up those that are too short.
        purpose: Tells the randomness of one data set from that of another.
    """

    def __init__(
        self,
        recordings: Recordings,
        store: Store,
        num_samples: int,
        sample_rate: int,
        seed: int,
        settings: DataSettings | None = None,
        purpose: str = "segment",
    ) -> None:
        settings = settings or DataSettings()
        targets = Targets(recordings, settings.min_overlap_seconds)
        super().__init__(recordings, store, sample_rate, targets)
        self.num_samples = num_samples
        self.seed = seed
        self.purpose = purpose
        self.settings = settings
        self.augmentation = Augmentation(settings.augment, sample_rate)
        self.spans = spans_of(recordings, store, self.files, sample_rate)
        self.is_weak = _has_several_labels(recordings)
        self._sum_samples = round((settings.self_sum_seconds or 0) * sample_rate)

    def __getitems__(self, keys: list[SegmentKey]) -> Batch:
        """Load a batch."""
        drawn = [
            self._segment(row, generator(self.seed, self.purpose, epoch, position))
            for epoch, position, row in keys
        ]
        spans = np.array([span for _, span in drawn])
        return self.batch([waveform for waveform, _ in drawn], [row for _, _, row in keys], spans)

    def stack_by(self, stack: Callable[[list[np.ndarray]], Tensor]) -> None:
        """Let something else stack the waveforms of a batch."""
        self.stack = stack

    def _segment(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
        """Return a segment [T] of a row, and the samples that it spans."""
        first, last = self.spans[row].tolist()
        file = int(self.files[row])

        def read(start: int, num_samples: int) -> np.ndarray:
            return self.store.read(file, start, num_samples)

        if self._sum_samples and self.is_weak[row] and last - first > self.num_samples:
            start = random_start(first, last, self._sum_samples, rng)
            span = (start, min(start + self._sum_samples, last))
            waveform = summed(read, *span, self.num_samples)
        else:
            start = self._start(row, read, rng)
            span = (start, min(start + self.num_samples, last))
            piece = read(start, span[1] - start)
            waveform = filled(piece, self.num_samples, self.settings.short, rng)
        return self.augmentation(waveform, rng) if self.augmentation else waveform, span

    def _start(self, row: int, read: Read, rng: np.random.Generator) -> int:
        first, last = self.spans[row].tolist()
        if self.settings.segment == "start":
            return first
        if self.settings.segment == "energy":
            return loud_start(read, first, last, self.num_samples, rng)
        if self.settings.segment == "event":
            seconds = self.targets.events_of(row)
            if len(seconds):
                begin, end = np.rint(rng.choice(seconds) * self.sample_rate).astype(int).tolist()
                return event_start((begin, end), first, last, self.num_samples, rng)
        return random_start(first, last, self.num_samples, rng)


class Pooled(Dataset[Batch]):
    """Segments for training, each batch with segments of a pool to mix from.

    Args:
        segments: Those to train on.
        pool: Those to mix from.
    """

    def __init__(self, segments: Segments, pool: Segments) -> None:
        self.segments = segments
        self.pool = pool
        self.num_samples = segments.num_samples

    def stack_by(self, stack: Callable[[list[np.ndarray]], Tensor]) -> None:
        """Let something else stack the waveforms of a batch."""
        self.segments.stack_by(stack)
        self.pool.stack_by(stack)

    def __getitems__(self, keys: BatchKeys) -> Batch:
        """Load a batch: its own waveforms first, those of its pool after them."""
        batch = self.segments.__getitems__(keys.samples)
        return batch._replace(pool=self.pool.__getitems__(keys.pool))


def spans_of(
    recordings: Recordings, store: Store, files: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Return the samples [first, last) that each row stands for, int64 [N, 2]."""
    last = store.lengths[files]
    start, end = recordings.column("start"), recordings.column("end")
    spans = np.stack([np.zeros_like(last), last], axis=1)
    part = ~np.isnan(start)
    spans[part, 0] = np.rint(start[part] * sample_rate)
    spans[part, 1] = np.rint(end[part] * sample_rate)
    spans = np.minimum(spans, last[:, None])
    beyond = np.flatnonzero(spans[:, 0] >= spans[:, 1])
    if len(beyond):
        row = int(beyond[0])
        raise ValueError(
            f"{recordings.paths[row]}: the part from {start[row]:g} to {end[row]:g} s lies beyond "
            "its end; correct start and end, or remove the row"
        )
    return spans


def _has_several_labels(recordings: Recordings) -> np.ndarray:
    labels = np.diff(recordings.ragged("label")[0]) + np.diff(recordings.ragged("unknown")[0])
    return (labels > 1) & ~recordings.by_events

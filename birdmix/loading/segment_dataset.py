"""Data sets of training segments: batches from the sampler's keys.

The key of a training example is ``(epoch, position, row)``. All random choices for an example are
functions of the seed, its epoch and its position.

Shapes: B batch, T samples, C classes, N rows.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from birdmix.audio.augment import AugmentationChain
from birdmix.loading.audio_store import AudioStore
from birdmix.loading.batch import Batch
from birdmix.loading.sampler import SegmentAndPoolKeys, SegmentKey
from birdmix.loading.segment_extraction import (
    ReadSamples,
    draw_event_start,
    draw_loud_start,
    draw_random_start,
    fill_up,
    sum_consecutive_segments,
)
from birdmix.loading.span_targets import SpanTargets
from birdmix.mix import DrawContext, Examples
from birdmix.random_keys import generator
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DataSettings


class BaseDataset:
    """Base of the data sets: builds batches from rows of a recordings table.

    Args:
        recordings: Table of N rows.
        store: Store that the audio samples are read from.
        sample_rate: Hz.
        targets: Targets of time spans of the rows.
    """

    def __init__(
        self, recordings: Recordings, store: AudioStore, sample_rate: int, targets: SpanTargets
    ) -> None:
        self.store = store
        self.sample_rate = sample_rate
        self.targets = targets
        self.files = store.file_numbers_of_rows(recordings)
        self.weights = recordings.numeric_column("weight")
        self.groups = number_groups(recordings)
        self.stack: Callable[[list[np.ndarray]], Tensor] = _stack_waveforms

    def build_batch(self, waveforms: list[np.ndarray], rows: list[int], spans: np.ndarray) -> Batch:
        """Build a batch.

        Args:
            waveforms: float32 [T] each, B of them.
            rows: Row of each waveform.
            spans: Start and end of each waveform's span within its recording, in samples, [B, 2].
        """
        target, known = self.targets(np.array(rows), spans / self.sample_rate)
        examples = Examples(
            x=self.stack(waveforms),
            target=torch.from_numpy(target),
            weight=torch.from_numpy(self.weights[rows]),
            known=torch.from_numpy(known),
        )
        context = DrawContext.from_targets(target)._replace(
            row=np.array(rows), recording=self.files[rows], group=self.groups[rows]
        )
        return Batch(examples, context)


def _stack_waveforms(waveforms: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(waveforms))


class SegmentDataset(BaseDataset, Dataset[Batch]):
    """Data set of segments of recordings, for training.

    Args:
        recordings: Table of N rows.
        store: Store that the audio samples are read from.
        num_samples: Length of a segment T.
        sample_rate: Hz.
        seed: Seed of the run.
        settings: Positions of segments, filling of short recordings, augmentation.
        purpose: Purpose of the random keys, different for each data set of a run.

    Raises:
        ValueError: If a row's span lies beyond the end of its recording.
    """

    def __init__(
        self,
        recordings: Recordings,
        store: AudioStore,
        num_samples: int,
        sample_rate: int,
        seed: int,
        settings: DataSettings | None = None,
        purpose: str = "segment",
    ) -> None:
        settings = settings or DataSettings()
        targets = SpanTargets(recordings, settings.min_overlap_seconds)
        super().__init__(recordings, store, sample_rate, targets)
        self.num_samples = num_samples
        self.seed = seed
        self._set_options(settings, purpose)
        self.spans = compute_row_spans_in_samples(recordings, store, self.files, sample_rate)
        self.has_several_labels = _has_several_labels(recordings)

    def with_options(self, settings: DataSettings, purpose: str) -> "SegmentDataset":
        """Return a data set of other segments of the same rows.

        Args:
            settings: Positions of segments, filling of short recordings, augmentation.
            purpose: Purpose of its random keys.
        """
        assert settings.min_overlap_seconds == self.settings.min_overlap_seconds
        other = copy.copy(self)  # shares the table's columns
        other._set_options(settings, purpose)
        return other

    def _set_options(self, settings: DataSettings, purpose: str) -> None:
        self.settings = settings
        self.purpose = purpose
        self.augmentation = AugmentationChain(settings.augment, self.sample_rate)
        self._sum_samples = round((settings.self_sum_seconds or 0) * self.sample_rate)

    def __getitems__(self, keys: list[SegmentKey]) -> Batch:
        """Load the batch of a list of keys."""
        waveforms, spans = self.draw_segments(keys)
        return self.build_batch(waveforms, [row for _, _, row in keys], spans)

    def draw_segments(self, keys: list[SegmentKey]) -> tuple[list[np.ndarray], np.ndarray]:
        """Draw the segments of a list of keys.

        Args:
            keys: B keys.

        Returns:
            Waveforms, float32 [T] each; and their spans within their recordings in samples,
            int64 [B, 2].
        """
        segments = [
            self._draw_segment(row, generator(self.seed, self.purpose, epoch, position))
            for epoch, position, row in keys
        ]
        return [waveform for waveform, _ in segments], np.array([span for _, span in segments])

    def set_stack_function(self, stack: Callable[[list[np.ndarray]], Tensor]) -> None:
        """Set the function that stacks the waveforms of a batch.

        Args:
            stack: Function from waveforms, float32 [T] each, to a tensor [B, T].
        """
        self.stack = stack

    def _draw_segment(
        self, row: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Return a random segment of a row, [T], and its span within the recording in samples."""
        first, last = self.spans[row].tolist()
        file = int(self.files[row])

        def read(start: int, num_samples: int) -> np.ndarray:
            return self.store.read(file, start, num_samples)

        if self._sum_samples and self.has_several_labels[row] and last - first > self.num_samples:
            start = draw_random_start(first, last, self._sum_samples, rng)
            span = (start, min(start + self._sum_samples, last))
            waveform = sum_consecutive_segments(read, *span, self.num_samples)
        else:
            start = self._draw_start(row, read, rng)
            span = (start, min(start + self.num_samples, last))
            piece = read(start, span[1] - start)
            waveform = fill_up(piece, self.num_samples, self.settings.short, rng)
        return self.augmentation(waveform, rng) if self.augmentation else waveform, span

    def _draw_start(self, row: int, read: ReadSamples, rng: np.random.Generator) -> int:
        first, last = self.spans[row].tolist()
        if self.settings.segment == "start":
            return first
        if self.settings.segment == "energy":
            return draw_loud_start(read, first, last, self.num_samples, rng)
        if self.settings.segment == "event":
            seconds = self.targets.labelled_events(row)
            if len(seconds):
                begin, end = np.rint(rng.choice(seconds) * self.sample_rate).astype(int).tolist()
                return draw_event_start((begin, end), first, last, self.num_samples, rng)
        return draw_random_start(first, last, self.num_samples, rng)


class SegmentAndPoolDataset(Dataset[Batch]):
    """Data set of training segments in which each batch has pool segments to mix in.

    Args:
        segments: Segments to train on.
        pools: Segments of each pool, by name, made by ``segments.with_options``.
    """

    def __init__(self, segments: SegmentDataset, pools: Mapping[str, SegmentDataset]) -> None:
        self.segments = segments
        self.pools = pools
        self.num_samples = segments.num_samples

    def set_stack_function(self, stack: Callable[[list[np.ndarray]], Tensor]) -> None:
        """Set the function that stacks the waveforms of a batch.

        Args:
            stack: Function from waveforms, float32 [T] each, to a tensor [B, T].
        """
        self.segments.set_stack_function(stack)

    def __getitems__(self, keys: SegmentAndPoolKeys) -> Batch:
        """Load a batch: first its segments, then those of its pools."""
        batch = self.segments.__getitems__(keys.segments)
        waveforms: list[np.ndarray] = []
        spans = []
        for name, pool_keys in keys.pools.items():
            pool_waveforms, pool_spans = self.pools[name].draw_segments(pool_keys)
            waveforms += pool_waveforms
            spans.append(pool_spans)
        # One tensor for all pools, since joining large tensors would copy them.
        rows = [row for pool_keys in keys.pools.values() for _, _, row in pool_keys]
        pools = self.segments.build_batch(waveforms, rows, np.concatenate(spans))
        sizes = {name: len(pool_keys) for name, pool_keys in keys.pools.items()}
        context = batch.context.append_pools({"pools": pools.context})
        return batch._replace(context=context._replace(pool_sizes=sizes), pool=pools.examples)


def compute_row_spans_in_samples(
    recordings: Recordings, store: AudioStore, files: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Return the span of each row within its recording, in samples.

    Args:
        recordings: Table of N rows.
        store: Store of the recordings.
        files: File of each row in the store, int64 [N].
        sample_rate: Hz.

    Returns:
        First sample and end (exclusive) of each row, int64 [N, 2].

    Raises:
        ValueError: If a row's span lies beyond the end of its recording.
    """
    last = store.lengths[files]
    start, end = recordings.numeric_column("start"), recordings.numeric_column("end")
    spans = np.stack([np.zeros_like(last), last], axis=1)
    has_span = ~np.isnan(start)
    spans[has_span, 0] = np.rint(start[has_span] * sample_rate)
    spans[has_span, 1] = np.rint(end[has_span] * sample_rate)
    spans = np.minimum(spans, last[:, None])
    beyond = np.flatnonzero(spans[:, 0] >= spans[:, 1])
    if len(beyond):
        row = int(beyond[0])
        raise ValueError(
            f"{recordings.paths[row]}: the span from {start[row]:g} to {end[row]:g} s is beyond "
            "the end of the recording; correct start and end, or remove the row"
        )
    return spans


def number_groups(recordings: Recordings) -> np.ndarray:
    """Return a number for the group of each row, int64 [N], the same in all tables."""
    groups = recordings.table["group"].combine_chunks().dictionary_encode()
    numbers = [
        int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
        for name in groups.dictionary.to_pylist()
    ]
    return np.array(numbers, np.int64)[np.asarray(groups.indices)]


def _has_several_labels(recordings: Recordings) -> np.ndarray:
    """Return which rows without events have several labels, bool [N]; unknown ones count."""
    num_labels = np.diff(recordings.ragged_column("label")[0]) + np.diff(
        recordings.ragged_column("unknown")[0]
    )
    return (num_labels > 1) & ~recordings.rows_with_events_mask

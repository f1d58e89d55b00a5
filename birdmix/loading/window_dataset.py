"""Data set of validation windows, and conversion of recordings with events to such windows.

Shapes: B batch, T samples, C classes, N rows.
"""

import numpy as np
from torch.utils.data import Dataset

from birdmix.loading.audio_store import AudioStore
from birdmix.loading.batch import Batch
from birdmix.loading.segment_dataset import BaseDataset, compute_row_spans_in_samples
from birdmix.loading.span_targets import SpanTargets
from birdmix.recordings.recordings_table import Recordings, concatenate
from birdmix.windows import MIN_TAIL_SECONDS, extract_padded, window_starts

#: Row of the recordings table, and first sample of the window.
WindowKey = tuple[int, int]


class WindowDataset(BaseDataset, Dataset[Batch]):
    """Data set of fixed windows of recordings, for validation, padded with silence.

    A row has evenly spaced windows of its recording, or of its span of it. A span that fits into
    one window has it around its centre.

    Args:
        recordings: Table of N rows without events: see ``split_event_rows_into_windows``.
        store: Store that the audio samples are read from.
        num_samples: Length of a window T.
        sample_rate: Hz.
        max_windows: Maximum number of windows of one row.
        with_context: Whether the window around a short span includes the audio next to the span;
            otherwise this is replaced by silence, since the span's labels do not cover it.

    Attributes:
        keys: Keys of all windows.
        truth: Targets of the rows, float32 [N, C].
        known: Which of them are known, bool [N, C].

    Raises:
        ValueError: If a row's span lies beyond the end of its recording.
    """

    def __init__(
        self,
        recordings: Recordings,
        store: AudioStore,
        num_samples: int,
        sample_rate: int,
        max_windows: int,
        *,
        with_context: bool = False,
    ) -> None:
        super().__init__(recordings, store, sample_rate, SpanTargets(recordings))
        self.num_samples = num_samples
        self.keys: list[WindowKey] = []
        self.truth, self.known = self.targets(
            np.arange(len(recordings)), np.zeros((len(recordings), 2))
        )
        self.spans = compute_row_spans_in_samples(recordings, store, self.files, sample_rate)
        has_span = ~np.isnan(recordings.numeric_column("start"))
        centre = (
            (recordings.numeric_column("start") + recordings.numeric_column("end"))
            / 2
            * sample_rate
        )
        min_tail = int(MIN_TAIL_SECONDS * sample_rate)
        for row, (first, last) in enumerate(self.spans.tolist()):
            starts = first + window_starts(last - first, num_samples, num_samples, min_tail)
            starts = starts[
                np.linspace(0, len(starts) - 1, min(len(starts), max_windows)).astype(int)
            ]
            if has_span[row] and len(starts) == 1:
                starts = np.array([round(centre[row]) - num_samples // 2])
            self.keys.extend((row, start) for start in starts.tolist())
        if with_context:
            self.spans[has_span] = [0, np.iinfo(np.int64).max]

    def __getitems__(self, keys: list[WindowKey]) -> Batch:
        """Load the batch of a list of keys."""
        waveforms = []
        for row, start in keys:
            first, last = self.spans[row].tolist()
            begin, end = max(start, first), min(start + self.num_samples, last)
            piece = self.store.read(int(self.files[row]), begin, end - begin)
            waveforms.append(extract_padded(piece, start - begin, self.num_samples))
        starts = np.array([start for _, start in keys])
        spans = np.stack([starts, starts + self.num_samples], axis=1)
        return self.build_batch(waveforms, [row for row, _ in keys], spans)

    def split_keys_into_batches(self, batch_size: int) -> list[list[WindowKey]]:
        """Return the keys of all windows in lists of ``batch_size``; the last may be shorter."""
        return [self.keys[at : at + batch_size] for at in range(0, len(self.keys), batch_size)]


def split_event_rows_into_windows(
    recordings: Recordings,
    store: AudioStore,
    num_samples: int,
    sample_rate: int,
    min_overlap_seconds: float,
) -> Recordings:
    """Replace rows with events by adjacent windows with the labels of these events.

    Windows without any known label are left out. Rows without events are not changed.

    Args:
        recordings: Table.
        store: Store of the recordings.
        num_samples: Length of a window T.
        sample_rate: Hz.
        min_overlap_seconds: Overlap of an event with a window from which on the window has its
            label: see ``SpanTargets``.

    Returns:
        Table with the rows without events first, then the windows.
    """
    if not recordings.has_any_events:
        return recordings
    has_events = recordings.rows_with_events_mask
    unchanged, recordings = recordings.take(~has_events), recordings.take(has_events)
    lengths = store.lengths[store.file_numbers_of_rows(recordings)]
    min_tail = int(MIN_TAIL_SECONDS * sample_rate)
    starts = [window_starts(length, num_samples, num_samples, min_tail) for length in lengths]
    rows = np.repeat(np.arange(len(recordings)), [len(row_starts) for row_starts in starts])
    start = np.concatenate(starts) / sample_rate
    end = start + num_samples / sample_rate
    audio_spans = np.stack([start, np.minimum(end, lengths[rows] / sample_rate)], axis=1)
    target, known = SpanTargets(recordings, min_overlap_seconds)(rows, audio_spans)
    windows = recordings.take(rows).with_spans_and_labels(start, end, target, known)
    return concatenate([unchanged, windows.take(np.flatnonzero(known.any(axis=1)))])

"""The data set of validation windows, and annotated recordings as such windows.

Shapes: B batch, T samples, C classes, N rows.
"""

import numpy as np
from torch.utils.data import Dataset

from birdmix.batch import Batch
from birdmix.loading.batches import Rows, spans_of
from birdmix.loading.store import Store
from birdmix.loading.targets import Targets
from birdmix.recordings.table import Recordings, concatenated
from birdmix.windows import MIN_TAIL_SECONDS, cut, window_starts

#: Row of the table, first sample.
WindowKey = tuple[int, int]


class Windows(Rows, Dataset[Batch]):
    """Fixed windows of recordings, for validation; beyond a recording's end is silence.

    A row gets evenly spaced windows of its recording, or of its part of one. One that is shorter
    than a window gets one around its centre.

    Args:
        recordings: Table, without events: see ``in_windows``.
        store: Where samples come from.
        num_samples: Length of a window T.
        sample_rate: Hz.
        max_windows: Most windows of one row.
        with_context: Whether the window of a short part hears what is around it; otherwise that is
            silence, as the part's labels do not tell of it.
    """

    def __init__(
        self,
        recordings: Recordings,
        store: Store,
        num_samples: int,
        sample_rate: int,
        max_windows: int,
        *,
        with_context: bool = False,
    ) -> None:
        super().__init__(recordings, store, sample_rate, Targets(recordings))
        self.num_samples = num_samples
        self.keys: list[WindowKey] = []
        self.truth, self.known = self.targets(
            np.arange(len(recordings)), np.zeros((len(recordings), 2))
        )
        self.spans = spans_of(recordings, store, self.files, sample_rate)
        is_part = ~np.isnan(recordings.column("start"))
        centre = (recordings.column("start") + recordings.column("end")) / 2 * sample_rate
        min_tail = int(MIN_TAIL_SECONDS * sample_rate)
        for row, (first, last) in enumerate(self.spans.tolist()):
            starts = first + window_starts(last - first, num_samples, num_samples, min_tail)
            starts = starts[
                np.linspace(0, len(starts) - 1, min(len(starts), max_windows)).astype(int)
            ]
            if is_part[row] and len(starts) == 1:
                starts = np.array([round(centre[row]) - num_samples // 2])
            self.keys.extend((row, start) for start in starts.tolist())
        if with_context:
            self.spans[is_part] = [0, np.iinfo(np.int64).max]

    def __getitems__(self, keys: list[WindowKey]) -> Batch:
        """Load a batch."""
        waveforms = []
        for row, start in keys:
            first, last = self.spans[row].tolist()
            begin, end = max(start, first), min(start + self.num_samples, last)
            piece = self.store.read(int(self.files[row]), begin, end - begin)
            waveforms.append(cut(piece, start - begin, self.num_samples))
        starts = np.array([start for _, start in keys])
        spans = np.stack([starts, starts + self.num_samples], axis=1)
        return self.batch(waveforms, [row for row, _ in keys], spans)

    def in_batches(self, batch_size: int) -> list[list[WindowKey]]:
        """Return all keys, batch by batch."""
        return [self.keys[at : at + batch_size] for at in range(0, len(self.keys), batch_size)]


def in_windows(
    recordings: Recordings,
    store: Store,
    num_samples: int,
    sample_rate: int,
    min_overlap_seconds: float,
) -> Recordings:
    """Return recordings with events as annotated windows side by side, and all others as they are.

    Windows of which nothing is known are left out.

    Args:
        recordings: Table.
        store: Where samples come from.
        num_samples: Length of a window T.
        sample_rate: Hz.
        min_overlap_seconds: See ``Targets``.
    """
    if not recordings.has_events:
        return recordings
    marked = recordings.by_events
    others, recordings = recordings.take(~marked), recordings.take(marked)
    lengths = store.lengths[store.files_of(recordings)]
    min_tail = int(MIN_TAIL_SECONDS * sample_rate)
    grids = [window_starts(length, num_samples, num_samples, min_tail) for length in lengths]
    rows = np.repeat(np.arange(len(recordings)), [len(each) for each in grids])
    start = np.concatenate(grids) / sample_rate
    end = start + num_samples / sample_rate
    heard = np.stack([start, np.minimum(end, lengths[rows] / sample_rate)], axis=1)
    target, known = Targets(recordings, min_overlap_seconds)(rows, heard)
    windows = recordings.take(rows).as_parts(start, end, target, known)
    return concatenated([others, windows.take(np.flatnonzero(known.any(axis=1)))])

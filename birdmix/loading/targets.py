"""What a stretch of a recording is labelled with, and which of its labels are known.

Shapes: N rows, K stretches, C classes, E events.
"""

from typing import Any, NamedTuple

import numpy as np

from birdmix.recordings.table import Recordings

# Times come from samples and from texts: nobody annotates to the microsecond.
_EPSILON = 1e-6


class _Spans(NamedTuple):
    """The stretches of one row, [E] each."""

    start: np.ndarray
    end: np.ndarray


class Targets:
    """Targets of the rows of a table.

    A row that is labelled as a whole has the same targets wherever it is cut. One with events has
    those that a stretch holds enough of; a label it holds too little of is unknown, and where
    nobody has looked, or nobody has named what is heard, so is every label that is not there.

    Args:
        recordings: Table.
        min_overlap_seconds: How much of an event a stretch needs; all of a shorter one.
    """

    def __init__(self, recordings: Recordings, min_overlap_seconds: float = 0.0) -> None:
        self.num_classes = len(recordings.labels)
        self.min_overlap_seconds = min_overlap_seconds
        self._labels, self._label = recordings.ragged("label")
        self._value = recordings.ragged("value")[1]
        self._unknowns, self._unknown = recordings.ragged("unknown")
        self._events, self._event = recordings.ragged("events")
        self._looks, self._look = recordings.ragged("annotated")
        self.by_events = recordings.by_events
        self._throughout = recordings.table["annotated"].is_null().to_numpy()

    def __call__(self, rows: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the targets of stretches.

        Args:
            rows: Row of each stretch, int64 [K].
            seconds: Its start and end in the recording, float64 [K, 2].

        Returns:
            Targets in [0, 1], float32 [K, C]; and which of them are known, bool [K, C].
        """
        target = np.zeros((len(rows), self.num_classes), np.float32)
        known = np.ones(target.shape, bool)
        for at, row in enumerate(rows):
            if self.by_events[row]:
                self._by_events(row, seconds[at], target[at], known[at])
                continue
            columns = self._label[self._labels[row] : self._labels[row + 1]]
            target[at, columns] = self._value[self._labels[row] : self._labels[row + 1]]
            known[at, self._unknown[self._unknowns[row] : self._unknowns[row + 1]]] = False
        return target, known

    def events_of(self, row: int) -> np.ndarray:
        """Return start and end of the events of a row that somebody has named, float64 [E, 2]."""
        event = _row(self._event, self._events, row)
        named = self._event["label"][self._events[row] : self._events[row + 1]] >= 0
        return np.stack([event.start, event.end], axis=1)[named]

    def _by_events(
        self, row: int, seconds: np.ndarray, target: np.ndarray, known: np.ndarray
    ) -> None:
        """Fill in the target and the known labels of a stretch, [C] each."""
        begin, end = seconds
        event = _row(self._event, self._events, row)
        label = self._event["label"][self._events[row] : self._events[row + 1]]
        overlap = np.minimum(event.end, end) - np.maximum(event.start, begin)
        needed = np.minimum(self.min_overlap_seconds, event.end - event.start)
        point = (event.start == event.end) & (begin <= event.start) & (event.start < end)
        touched = point | (overlap > 0)
        inside = touched & (overlap >= needed - _EPSILON)
        named = label >= 0
        target[label[inside & named]] = 1
        if (touched & ~named).any() or not self._looked_at(row, begin, end):
            known[:] = False
        known[label[touched & ~inside & named]] = False
        known[label[inside & named]] = True

    def _looked_at(self, row: int, begin: float, end: float) -> bool:
        """Return whether somebody has looked at all of a stretch."""
        if self._throughout[row]:
            return True
        spans = _row(self._look, self._looks, row)
        reached = begin
        for at in np.argsort(spans.start):
            if spans.start[at] > reached + _EPSILON:
                break
            reached = max(reached, spans.end[at])
        return reached >= end - _EPSILON


def _row(fields: Any, offsets: np.ndarray, row: int) -> _Spans:
    own = slice(offsets[row], offsets[row + 1])
    return _Spans(fields["start"][own], fields["end"][own])

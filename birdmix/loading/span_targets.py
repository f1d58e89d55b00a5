"""Targets of time spans of recordings, and which of their labels are known.

Shapes: N rows, K spans, C classes, E events.
"""

from typing import Any, NamedTuple

import numpy as np

from birdmix.recordings.recordings_table import Recordings

# Tolerance in seconds: times are rounded by sample rates and by text, and no annotation is this
# exact.
_EPSILON = 1e-6


class _Spans(NamedTuple):
    """Start and end of the spans of one row in seconds, [E] each."""

    start: np.ndarray
    end: np.ndarray


class SpanTargets:
    """Targets of time spans, for the rows of a recordings table.

    A row without events has the same targets in every span. A span of a row with events has the
    labels of the events that overlap it enough. A label with a smaller overlap is unknown. Absent
    labels are unknown, too, if the span is not fully annotated, or an event in it has no label.

    Args:
        recordings: Table of N rows and C classes.
        min_overlap_seconds: Overlap of an event with a span from which on the span has its label;
            a shorter event must lie within the span.
    """

    def __init__(self, recordings: Recordings, min_overlap_seconds: float = 0.0) -> None:
        self.num_classes = len(recordings.labels)
        self.min_overlap_seconds = min_overlap_seconds
        self._label_offsets, self._label = recordings.ragged_column("label")
        self._value = recordings.ragged_column("value")[1]
        self._unknown_offsets, self._unknown = recordings.ragged_column("unknown")
        self._event_offsets, self._event = recordings.ragged_column("events")
        self._annotated_offsets, self._annotated = recordings.ragged_column("annotated")
        self._has_events = recordings.rows_with_events_mask
        self._fully_annotated = recordings.table["annotated"].is_null().to_numpy()

    def __call__(self, rows: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the targets of spans.

        Args:
            rows: Row of each span, int64 [K].
            seconds: Start and end of each span within its recording, float64 [K, 2].

        Returns:
            Targets in [0, 1], float32 [K, C]; and which of them are known, bool [K, C].
        """
        target = np.zeros((len(rows), self.num_classes), np.float32)
        known = np.ones(target.shape, bool)
        for at, row in enumerate(rows):
            if self._has_events[row]:
                self._fill_from_events(row, seconds[at], target[at], known[at])
                continue
            labels = slice(self._label_offsets[row], self._label_offsets[row + 1])
            target[at, self._label[labels]] = self._value[labels]
            unknown = slice(self._unknown_offsets[row], self._unknown_offsets[row + 1])
            known[at, self._unknown[unknown]] = False
        return target, known

    def labelled_events(self, row: int) -> np.ndarray:
        """Return start and end in seconds of a row's events that have a label, float64 [E, 2]."""
        event = _select_spans(self._event, self._event_offsets, row)
        has_label = self._event_labels(row) >= 0
        return np.stack([event.start, event.end], axis=1)[has_label]

    def _event_labels(self, row: int) -> np.ndarray:
        """Return the label of each event of a row, -1 for none, [E]."""
        return self._event["label"][self._event_offsets[row] : self._event_offsets[row + 1]]

    def _fill_from_events(
        self, row: int, seconds: np.ndarray, target: np.ndarray, known: np.ndarray
    ) -> None:
        """Fill in targets and known labels of one span, [C] each, from the row's events."""
        begin, end = seconds
        event = _select_spans(self._event, self._event_offsets, row)
        label = self._event_labels(row)
        overlap = np.minimum(event.end, end) - np.maximum(event.start, begin)
        needed = np.minimum(self.min_overlap_seconds, event.end - event.start)
        is_point = (event.start == event.end) & (begin <= event.start) & (event.start < end)
        overlaps = is_point | (overlap > 0)
        is_inside = overlaps & (overlap >= needed - _EPSILON)
        has_label = label >= 0
        target[label[is_inside & has_label]] = 1
        if (overlaps & ~has_label).any() or not self._is_annotated(row, begin, end):
            known[:] = False
        known[label[overlaps & ~is_inside & has_label]] = False
        known[label[is_inside & has_label]] = True

    def _is_annotated(self, row: int, begin: float, end: float) -> bool:
        """Return whether all of a span was annotated."""
        if self._fully_annotated[row]:
            return True
        spans = _select_spans(self._annotated, self._annotated_offsets, row)
        annotated_until = begin
        for at in np.argsort(spans.start):
            if spans.start[at] > annotated_until + _EPSILON:
                break
            annotated_until = max(annotated_until, spans.end[at])
        return annotated_until >= end - _EPSILON


def _select_spans(fields: Any, offsets: np.ndarray, row: int) -> _Spans:
    indices = slice(offsets[row], offsets[row + 1])
    return _Spans(fields["start"][indices], fields["end"][indices])

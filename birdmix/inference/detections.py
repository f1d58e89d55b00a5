"""Detections: where a species is called, of one recording at a time.

Shapes: W windows, C classes.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np

from birdmix.inference.overlaps import Overlap
from birdmix.windows import FLOOR, WindowPredictions, logit, probability

#: Windows nearer than this, in seconds, touch: starts and ends are rounded numbers.
_TOUCHING = 1e-6

#: Windows x classes that are looked at together: memory is bounded, whatever the thresholds.
_CELLS = 1 << 22


class Detection(NamedTuple):
    """A stretch of a recording in which a species is called.

    Attributes:
        start_seconds: Where the first of its windows starts.
        end_seconds: Where the last of them ends.
        column: Column of the species in the label set.
        confidence: Its highest probability.
        peak_seconds: The middle of the first window that has it.
    """

    start_seconds: float
    end_seconds: float
    column: int
    confidence: float
    peak_seconds: float


@dataclass(frozen=True)
class HeardRecording:
    """What came of a recording.

    Attributes:
        predictions: Of its windows.
        seconds: How long it is.
        deployment: The folder that it lies in, below the one listened to; its name at the top.
        began: When it began, with an offset from UTC if that is known; None if nothing tells.
        detections: Of all species, by their start, then column.
        copy_of: The recording that has the same bytes, if this one is a copy.
        overlap: The recordings of its deployment that it overlaps, if there are any.
    """

    predictions: WindowPredictions
    seconds: float
    deployment: str
    began: datetime | None
    detections: tuple[Detection, ...]
    copy_of: str = ""
    overlap: Overlap | None = None

    @property
    def path(self) -> str:
        """The recording, relative to the folder listened to."""
        return self.predictions.path


def detect(predictions: WindowPredictions, thresholds: np.ndarray) -> tuple[Detection, ...]:
    """Call species in a recording, and merge the neighbouring windows in which one is called.

    Windows are neighbours if the next one starts no later than the former ends.

    Args:
        predictions: Windows by their start.
        thresholds: Lowest probability at which each class is called, float64 [C]; NaN is never.

    Returns:
        By start, then column.
    """
    num_windows, num_classes = predictions.score.shape
    block = max(_CELLS // max(num_windows, 1), 1)
    found = [
        _runs(predictions, thresholds, slice(at, at + block)) for at in range(0, num_classes, block)
    ]
    start, end, column, confidence, peak = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((column, start))
    columns = (each[order].tolist() for each in (start, end, column, confidence, peak))
    return tuple(map(Detection._make, zip(*columns, strict=True)))


def _runs(
    predictions: WindowPredictions, thresholds: np.ndarray, classes: slice
) -> tuple[np.ndarray, ...]:
    """Return the fields of ``Detection``, each of all detections of some classes."""
    score, threshold = predictions.score[:, classes], thresholds[classes]
    column, window = np.nonzero((score >= _lowest_logit(threshold)).T)
    confidence = probability(score[window, column])
    called = confidence >= threshold[column]
    column, window, confidence = column[called], window[called], confidence[called]
    start, end = predictions.start_seconds[window], predictions.end_seconds[window]
    apart = (column[1:] != column[:-1]) | (start[1:] > end[:-1] + _TOUCHING)
    first = np.flatnonzero(np.r_[np.ones(min(len(column), 1), bool), apart])
    last = np.r_[first[1:], len(column)][: len(first)] - 1
    highest = np.maximum.reduceat(confidence, first) if len(first) else confidence
    run = np.repeat(np.arange(len(first)), last - first + 1)
    surest = np.flatnonzero(confidence == highest[run])
    peak = surest[np.unique(run[surest], return_index=True)[1]]
    middle = (start[peak] + end[peak]) / 2
    return start[first], end[last], column[first] + classes.start, highest, middle


def _lowest_logit(threshold: np.ndarray) -> np.ndarray:
    """Return logits a little below thresholds: it spares the probability of most windows."""
    return np.where(threshold <= FLOOR, -np.inf, logit(threshold) - 1e-6)

"""Detections: spans of a recording in which a species' probability reaches its threshold.

Shapes: W windows, C classes.
"""

from typing import NamedTuple

import numpy as np

from birdmix.windows import MIN_PROBABILITY, logit, probability

#: Probability from which a species is detected, if neither a bundle nor the user sets one.
DEFAULT_THRESHOLD = 0.5

#: Windows nearer than this, in seconds, touch: starts and ends are rounded numbers.
_TOUCHING = 1e-6

#: Windows x classes that are processed together, so that memory is bounded for any thresholds.
_BLOCK_CELLS = 1 << 22


class Detection(NamedTuple):
    """A time span of a recording in which a species is detected.

    Attributes:
        start_seconds: Start of its first window.
        end_seconds: End of its last window.
        column: Column of the species in the label set.
        confidence: Its highest probability.
        peak_seconds: The middle of the first window with that probability.
    """

    start_seconds: float
    end_seconds: float
    column: int
    confidence: float
    peak_seconds: float


def find_detections(
    start: np.ndarray, end: np.ndarray, logits: np.ndarray, thresholds: np.ndarray
) -> tuple[Detection, ...]:
    """Find the windows that reach a species' threshold, and merge those that are neighbours.

    Windows are neighbours if the next one starts no later than the former ends.

    Args:
        start: Starts of the windows in seconds, rising, float64 [W].
        end: Their ends, float64 [W].
        logits: Float32 [W, C].
        thresholds: Lowest probability at which each class is detected, float64 [C]; NaN is never.

    Returns:
        By start, then column.
    """
    num_windows, num_classes = logits.shape
    block = max(_BLOCK_CELLS // max(num_windows, 1), 1)
    runs = [
        _find_runs(start, end, logits, thresholds, slice(at, at + block))
        for at in range(0, num_classes, block)
    ]
    columns = list(map(np.concatenate, zip(*runs, strict=True)))
    order = np.lexsort((columns[2], columns[0]))
    columns = [each[order].tolist() for each in columns]
    return tuple(map(Detection._make, zip(*columns, strict=True)))


def _find_runs(
    start: np.ndarray,
    end: np.ndarray,
    logits: np.ndarray,
    thresholds: np.ndarray,
    classes: slice,
) -> tuple[np.ndarray, ...]:
    """Return the fields of ``Detection``, each of all detections of some classes."""
    logits, threshold = logits[:, classes], thresholds[classes]
    candidate = logits >= _lowest_logit(threshold)
    if not candidate.any():  # most short recordings: the rest takes twenty calls
        return (*np.empty((2, 0)), np.empty(0, np.int64), *np.empty((2, 0)))
    column, window = np.nonzero(candidate.T)
    confidence = probability(logits[window, column])
    reached = confidence >= threshold[column]
    column, window, confidence = column[reached], window[reached], confidence[reached]
    start, end = start[window], end[window]
    apart = (column[1:] != column[:-1]) | (start[1:] > end[:-1] + _TOUCHING)
    first = np.flatnonzero(np.r_[np.ones(min(len(column), 1), bool), apart])
    last = np.r_[first[1:], len(column)][: len(first)] - 1
    highest = np.maximum.reduceat(confidence, first) if len(first) else confidence
    run = np.repeat(np.arange(len(first)), last - first + 1)
    at_highest = np.flatnonzero(confidence == highest[run])
    peak = at_highest[np.unique(run[at_highest], return_index=True)[1]]
    middle = (start[peak] + end[peak]) / 2
    return start[first], end[last], column[first] + classes.start, highest, middle


def _lowest_logit(threshold: np.ndarray) -> np.ndarray:
    """Return logits a little below thresholds: most windows then need no exact probability."""
    return np.where(threshold <= MIN_PROBABILITY, -np.inf, logit(threshold) - 1e-6)

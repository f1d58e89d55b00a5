"""Detections: times at which a species' probability reaches its threshold, by recording.

Shapes: W windows, C classes.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.inference.overlaps import OverlapGroup
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.labels import Labels
from birdmix.windows import MIN_PROBABILITY, logit, probability

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


@dataclass(frozen=True)
class RecordingResult:
    """Predictions of a recording, and what the tables add to them.

    Attributes:
        predictions: Of the species reported, smoothed and ranked; with all warnings.
        deployment: The folder of the recording, relative to the folder predicted; at the top that
            folder's name.
        recorded_at: When it began, in the time zone of the tables, with an offset from UTC if that
            is known; None if unknown.
        detections: Of all species, by their start, then column.
        copy_of: The recording with the same bytes, if this one is a copy; else empty.
        overlap: The recordings of its deployment that overlap in time, if it is one of them.
    """

    predictions: RecordingPredictions
    deployment: str
    recorded_at: datetime | None
    detections: tuple[Detection, ...]
    copy_of: str = ""
    overlap: OverlapGroup | None = None

    @property
    def path(self) -> str:
        """The recording, relative to the folder predicted."""
        return self.predictions.path


@dataclass(frozen=True)
class SharedMetadata:
    """What all recordings of a prediction have in common.

    Attributes:
        labels: The species of the detections' columns.
        folder: The folder predicted.
        band: Lowest and highest frequency of the models' inputs, in Hz.
        channel: The channel decoded, counted from 1; 1 where all are mixed.
    """

    labels: Labels
    folder: Path
    band: tuple[float, float]
    channel: int


def find_detections(
    predictions: RecordingPredictions, thresholds: np.ndarray
) -> tuple[Detection, ...]:
    """Find the windows that reach a species' threshold, and merge those that are neighbours.

    Windows are neighbours if the next one starts no later than the former ends.

    Args:
        predictions: Windows by their start.
        thresholds: Lowest probability at which each class is detected, float64 [C]; NaN is never.

    Returns:
        By start, then column.
    """
    num_windows, num_classes = predictions.logits.shape
    block = max(_BLOCK_CELLS // max(num_windows, 1), 1)
    runs = [
        _find_runs(predictions, thresholds, slice(at, at + block))
        for at in range(0, num_classes, block)
    ]
    start, end, column, confidence, peak = map(np.concatenate, zip(*runs, strict=True))
    order = np.lexsort((column, start))
    columns = (each[order].tolist() for each in (start, end, column, confidence, peak))
    return tuple(map(Detection._make, zip(*columns, strict=True)))


def _find_runs(
    predictions: RecordingPredictions, thresholds: np.ndarray, classes: slice
) -> tuple[np.ndarray, ...]:
    """Return the fields of ``Detection``, each of all detections of some classes."""
    logits, threshold = predictions.logits[:, classes], thresholds[classes]
    column, window = np.nonzero((logits >= _lowest_logit(threshold)).T)
    confidence = probability(logits[window, column])
    reached = confidence >= threshold[column]
    column, window, confidence = column[reached], window[reached], confidence[reached]
    start, end = predictions.start_seconds[window], predictions.end_seconds[window]
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

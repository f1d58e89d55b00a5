"""Fallback plan: variants of prediction of a competition's rows, from slow to fast.

Shapes: R rows, W windows, M models, C species.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from birdmix.engines.engine_interface import Engine
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import PredictSettings
from birdmix.kaggle.submission_task import SubmissionTask
from birdmix.labels import Labels
from birdmix.windows import MIN_TAIL_SECONDS

# Rows that are averaged at a time; the weight matrix of all rows at once would grow quadratically.
_ROWS_AT_A_TIME = 64


@dataclass(frozen=True)
class Variant:
    """A variant of prediction: the models and settings that predict.

    Attributes:
        predictor: Runs the models.
        dropped: What this variant drops compared with the one before it, in words.
    """

    predictor: RecordingPredictor
    dropped: str = ""


class FallbackPlan:
    """Predicts recordings in the requested rows and columns, and can change to faster variants.

    Each variant drops one thing more: first the shifts, then the overlap of windows, then one
    bundle after the other, beginning with the last.

    Args:
        engines: The models.
        settings: Prediction settings; window and last window are replaced by the competition's.
        task: The requested rows and columns.

    Attributes:
        variants: All variants, the slowest first.
        current: Index of the variant that predicts the next recording.
        num_ranked: Number of models M whose logits are kept side by side, to be ranked; None if
            they are combined into one.

    Raises:
        ValueError: If models and settings do not fit each other.
    """

    def __init__(
        self, engines: Sequence[Engine], settings: PredictSettings, task: SubmissionTask
    ) -> None:
        self.task, self.current = task, 0
        self.window = task.competition.window_seconds
        settings = replace(settings, window=self.window, last_window="pad")
        if settings.hop is not None and settings.hop > self.window:
            raise ValueError(
                f"--hop {settings.hop:g}: it must be at most {self.window:g} s, the length of a "
                "row's window, or rows would be left out"
            )
        self.variants = [Variant(RecordingPredictor(engines, settings))]
        self.num_ranked = self.full_predictor.layout.num_ranked
        self._labels = Labels(tuple(task.species))
        self._add_variants(engines, settings)

    def _add_variants(self, engines: Sequence[Engine], settings: PredictSettings) -> None:
        if settings.shift:
            settings = replace(settings, shift=0.0)
            self.variants.append(Variant(RecordingPredictor(engines, settings), "--shift"))
        if settings.hop not in (None, self.window):
            settings = replace(settings, hop=None)
            self.variants.append(Variant(RecordingPredictor(engines, settings), "--hop"))
        for number in range(len(engines), 1, -1):
            predictor = RecordingPredictor(engines[: number - 1], settings)
            self.variants.append(Variant(predictor, f"bundle {number}"))

    @property
    def full_predictor(self) -> RecordingPredictor:
        """The predictor of the first variant, which drops nothing."""
        return self.variants[0].predictor

    def species_thresholds(self, threshold: float | None) -> np.ndarray:
        """Return the probability from which each species is called, float64 [C], NaN for never.

        Args:
            threshold: One value for all species, in (0, 1); None uses the bundles' thresholds.

        Raises:
            ValueError: If the bundles' thresholds are needed and they have none.
        """
        thresholds = np.full(len(self.task.species), np.nan)
        known, columns = self.full_predictor.labels.find_columns(self.task.species)
        thresholds[known] = self.full_predictor.detection_thresholds(threshold)[columns]
        return thresholds

    def fall_back(self) -> str:
        """Change to the next faster variant; return what it drops, empty if there is no other."""
        if self.current + 1 == len(self.variants):
            return ""
        self.current += 1
        return self.variants[self.current].dropped

    def predict(
        self, folder: Path, path: str, on_decoded: Callable[[float], None] | None = None
    ) -> RecordingPredictions:
        """Predict one recording.

        Args:
            folder: Folder of the recordings.
            path: The recording, relative to it.
            on_decoded: Called with the seconds decoded so far.

        Returns:
            Adjoining windows of the competition's length, also where the recording ends before;
            logits of the requested species, float32 [R, C] or [R, M, C] with combine=rank, NaN
            where no model has them.
        """
        predictor = self.variants[self.current].predictor  # the next recording may use another
        predictions = predictor.predict(folder, path, on_decoded)
        logits = self._requested_columns(predictions)
        start = predictions.start_seconds
        if predictor.layout.hop != self.window:
            covered = max(predictions.seconds - MIN_TAIL_SECONDS, self.window)
            start = np.arange(0, covered, self.window)
            logits = average_overlapping(
                logits, predictions.start_seconds, start, window_seconds=self.window
            )
        return replace(
            predictions,
            labels=self._labels,
            start_seconds=start,
            end_seconds=start + self.window,
            logits=logits,
        )

    def num_bytes_of_logits(self, seconds: float) -> int:
        """Return the bytes of memory that the logits of a recording need, given its length."""
        return self.full_predictor.num_bytes_of_logits(seconds)

    def close(self) -> None:
        """Stop the threads of all variants."""
        for variant in self.variants:
            variant.predictor.close()

    def _requested_columns(self, predictions: RecordingPredictions) -> np.ndarray:
        """Return logits in the order of the requested species, NaN for those without."""
        known, columns = predictions.labels.find_columns(self.task.species)
        models = () if self.num_ranked is None else (self.num_ranked,)
        shape = (len(predictions.logits), *models, len(self.task.species))
        requested = np.full(shape, np.nan, np.float32)
        # Faster variants have fewer models.
        of_models = requested[:, : predictions.logits.shape[1]] if models else requested
        of_models[..., known] = predictions.logits[..., columns]
        return requested


def average_overlapping(
    logits: np.ndarray, window_start: np.ndarray, row_start: np.ndarray, *, window_seconds: float
) -> np.ndarray:
    """Return each row's mean over the windows that overlap it, weighted by the overlap.

    Args:
        logits: Logits of windows, float32 [W, ...].
        window_start: Start of the windows in seconds, ascending, float64 [W].
        row_start: Start of the rows in seconds, ascending, float64 [R].
        window_seconds: Length of windows and rows.

    Returns:
        Logits of the rows, float32 [R, ...].
    """
    columns = logits.reshape(len(logits), -1)
    rows = np.empty((len(row_start), columns.shape[1]), np.float32)
    for begin in range(0, len(row_start), _ROWS_AT_A_TIME):
        chunk_start = row_start[begin : begin + _ROWS_AT_A_TIME]
        reach = [chunk_start[0] - window_seconds, chunk_start[-1] + window_seconds]
        first, last = np.searchsorted(window_start, reach)
        distance = np.abs(chunk_start[:, None] - window_start[first:last])
        weight = np.maximum(window_seconds - distance, 0)
        total = weight.sum(axis=1, keepdims=True)
        rows[begin : begin + len(chunk_start)] = weight @ columns[first:last] / total
    return rows.reshape(-1, *logits.shape[1:])

"""The predictions of one recording: made by a predictor, stored in a journal, written to tables.

Shapes: W windows, C classes, M models that are kept side by side.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from birdmix.labels import Labels
from birdmix.windows import probability


@dataclass(frozen=True, eq=False)
class RecordingPredictions:
    """Predictions for the windows of one recording.

    Attributes:
        path: The recording, relative to the folder predicted.
        labels: The classes C of the logits.
        start_seconds: Start of each window, float64 [W].
        end_seconds: End of each window, float64 [W].
        logits: Logits, float32 [W, C]; with combine=rank those of each model, [W, M, C], until they
            are ranked. Unlike probabilities they do not saturate, and can be averaged, smoothed and
            combined with priors. NaN is a class that a model lacks.
        seconds: Length of the recording.
        recorded_at: Time at which it begins, by its own clock; None if unknown.
        warning: Problems of the recording; empty if there are none.
    """

    path: str
    labels: Labels
    start_seconds: np.ndarray
    end_seconds: np.ndarray
    logits: np.ndarray
    seconds: float
    recorded_at: datetime | None = None
    warning: str = ""

    @property
    def probability(self) -> np.ndarray:
        """Probabilities, float64 [W, C], within [MIN_PROBABILITY, 1 - MIN_PROBABILITY]."""
        return probability(self.logits)


@dataclass(frozen=True)
class PredictionLayout:
    """What the predictions of all recordings have in common.

    Attributes:
        labels: The classes C.
        window: Length of a window in seconds.
        hop: Seconds from the start of a window to that of the next.
        num_ranked: Models M whose logits are kept side by side, to be ranked; None if the models
            are combined.
    """

    labels: Labels
    window: float
    hop: float
    num_ranked: int | None = None

    def build(
        self,
        path: str,
        logits: np.ndarray,
        *,
        seconds: float,
        recorded_at: datetime | None,
        warning: str,
    ) -> RecordingPredictions:
        """Build the predictions of a recording from its logits, float32 of any shape.

        The other arguments are attributes of the predictions.
        """
        models = () if self.num_ranked is None else (self.num_ranked,)
        logits = logits.reshape(-1, *models, len(self.labels))
        start, end = window_times(len(logits), self.window, self.hop, seconds)
        return RecordingPredictions(
            path, self.labels, start, end, logits, seconds, recorded_at, warning
        )


def window_times(
    num_windows: int, window: float, hop: float, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return where windows start and end in a recording; the last may be shorter.

    Args:
        num_windows: Number of windows W.
        window: Length of a window in seconds.
        hop: Seconds from the start of a window to that of the next.
        seconds: Length of the recording.

    Returns:
        Starts and ends in seconds, float64 [W] each.
    """
    start = np.arange(num_windows) * hop
    return start, np.minimum(start + window, seconds)

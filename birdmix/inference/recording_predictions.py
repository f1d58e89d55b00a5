"""The predictions of one recording: made by a predictor, stored in a journal, written to tables.

Shapes: W windows, C classes, M models that are kept side by side.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from birdmix.inference.detections import DEFAULT_THRESHOLD, Detection, find_detections
from birdmix.labels import Labels
from birdmix.windows import probability

if TYPE_CHECKING:
    import pandas as pd


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
        thresholds: Probability from which each class is detected, float64 [C], NaN for never; None
            if no model has any.
    """

    path: str
    labels: Labels
    start_seconds: np.ndarray
    end_seconds: np.ndarray
    logits: np.ndarray
    seconds: float
    recorded_at: datetime | None = None
    warning: str = ""
    thresholds: np.ndarray | None = None

    @property
    def probability(self) -> np.ndarray:
        """Probabilities, float64 [W, C], within [MIN_PROBABILITY, 1 - MIN_PROBABILITY]."""
        return probability(self.logits)

    def to_frame(self) -> "pd.DataFrame":
        """Return a table of the windows: start_seconds, end_seconds, a probability per code."""
        import pandas as pd

        times = {"start_seconds": self.start_seconds, "end_seconds": self.end_seconds}
        codes = unused_column_names(self.labels.codes, times)
        probabilities = pd.DataFrame(self.probability, columns=codes)
        return pd.concat([pd.DataFrame(times), probabilities], axis=1)

    def detections(self, threshold: float | None = None) -> "pd.DataFrame":
        """Return a table of the detections: windows of a species that touch are one.

        Args:
            threshold: Probability from which a species is detected; None is the bundles' own, or
                ``DEFAULT_THRESHOLD`` if they have none.

        Returns:
            A row for each detection, by its start, with the columns start_seconds, end_seconds,
            species, common_name, confidence, peak_seconds of ``detections.csv``.

        Raises:
            ValueError: If the threshold is not between 0 and 1.
        """
        import pandas as pd

        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold:g}: it must lie between 0 and 1")
        thresholds = self.thresholds
        if threshold is not None or thresholds is None:
            thresholds = np.full(len(self.labels), threshold or DEFAULT_THRESHOLD)
        found = find_detections(self.start_seconds, self.end_seconds, self.logits, thresholds)
        table = pd.DataFrame(found, columns=Detection._fields)
        names = {"species": self.labels.codes, "common_name": self.labels.names}
        for at, (name, of_column) in enumerate(names.items(), start=2):
            table.insert(at, name, [of_column[column] for column in table["column"]])
        return table.drop(columns="column")


@dataclass(frozen=True, eq=False)
class PredictionLayout:
    """What the predictions of all recordings have in common.

    Attributes:
        labels: The classes C.
        window: Length of a window in seconds.
        hop: Seconds from the start of a window to that of the next.
        num_ranked: Models M whose logits are kept side by side, to be ranked; None if the models
            are combined.
        last_window: A value of ``LAST_WINDOWS``.
        thresholds: Probability from which each class is detected, float64 [C], NaN for never; None
            if no model has any.
    """

    labels: Labels
    window: float
    hop: float
    num_ranked: int | None = None
    last_window: str = "full"
    thresholds: np.ndarray | None = None

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
        start = np.arange(len(logits)) * self.hop
        if self.last_window == "full":
            start[-1] = min(start[-1], max(seconds - self.window, 0))
        end = np.minimum(start + self.window, seconds)
        return RecordingPredictions(
            path, self.labels, start, end, logits, seconds, recorded_at, warning, self.thresholds
        )


def unused_column_names(codes: Iterable[str], used: Iterable[str]) -> list[str]:
    """Return a column name for each code: the code, with a ``_`` appended while it is in use."""
    codes, reserved = list(codes), set(used)
    taken = {*reserved, *codes}
    names = []
    for code in codes:
        name = code
        while name in reserved or (name != code and name in taken):
            name += "_"
        taken.add(name)
        names.append(name)
    return names

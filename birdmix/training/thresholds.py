"""The thresholds that a bundle is given: fitted on what was held out.

Shapes: C classes.
"""

from dataclasses import dataclass

import numpy as np

from birdmix.labels import Labels
from birdmix.metrics.decisions import best_f1_thresholds, precision_thresholds
from birdmix.suggest import first_few
from birdmix.training.judged import Judged
from birdmix.training.settings import ValidationSettings

#: Where nothing could be fitted at all.
_UNFITTED = 0.5


@dataclass(frozen=True)
class Thresholds:
    """Probability from which each class is called.

    A class that has no positives in what was held out gets the median of the fitted ones. One that
    no threshold makes precise enough gets none: it is never called.

    Attributes:
        fitted: Float64 [C]; NaN where there was nothing to fit by, or nothing precise enough.
        heard: Which classes have positives in what was held out, bool [C].
    """

    fitted: np.ndarray
    heard: np.ndarray

    @property
    def median(self) -> float:
        """Median of the fitted thresholds; one half if there are none."""
        return _UNFITTED if np.isnan(self.fitted).all() else float(np.nanmedian(self.fitted))

    @property
    def values(self) -> np.ndarray:
        """Thresholds, float64 [C]; NaN where a class is never to be called."""
        return np.where(self.heard, self.fitted, self.median)

    def tell(self, labels: Labels, wanted: str) -> str:
        """Say what was fitted, and what was not."""
        never = [labels.codes[c] for c in np.flatnonzero(np.isnan(self.values))]
        text = f"thresholds {wanted}: fitted for {np.isfinite(self.fitted).sum()} of {len(labels)}"
        if not self.heard.all():
            number = (~self.heard).sum()
            text += f", {number} without positives held out take the median, {self.median:.3f}"
        if never:
            named = first_few(never, 5, "null among the thresholds in bundle.json")
            text += f"; {len(never)} not precise at any, so never called: {named}"
        return text


def fit_thresholds(judged: Judged, settings: ValidationSettings) -> Thresholds:
    """Fit the thresholds of a validation set's classes."""
    truth, score, known = judged.positive, judged.probability, judged.known
    if settings.threshold == "f1":
        fitted = best_f1_thresholds(truth, score, known)
    else:
        fitted = precision_thresholds(truth, score, settings.target_precision, known)
    return Thresholds(fitted, (truth & known).any(axis=0))

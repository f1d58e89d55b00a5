"""Detection thresholds per class, fitted on held-out data for the bundle.

Shapes: C classes.
"""

from dataclasses import dataclass

import numpy as np

from birdmix.labels import Labels
from birdmix.messages import first_few
from birdmix.metrics.eval_result import EvalResult
from birdmix.metrics.threshold_metrics import best_f1_thresholds, precision_thresholds
from birdmix.training.settings import ValidationSettings

#: Threshold if none could be fitted.
_DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Thresholds:
    """Probability from which each class is detected.

    A class without positives in the held-out data gets the median of the fitted thresholds. A class
    for which no threshold reaches the target precision has no threshold and is never detected.

    Attributes:
        fitted: Fitted thresholds, float64 [C]; NaN without positives or without enough precision.
        has_positives: Which classes have positives in the held-out data, bool [C].
    """

    fitted: np.ndarray
    has_positives: np.ndarray

    @property
    def median(self) -> float:
        """Median of the fitted thresholds; 0.5 if there are none."""
        return (
            _DEFAULT_THRESHOLD if np.isnan(self.fitted).all() else float(np.nanmedian(self.fitted))
        )

    @property
    def per_class(self) -> np.ndarray:
        """Thresholds, float64 [C]; NaN for a class that is never detected."""
        return np.where(self.has_positives, self.fitted, self.median)

    def describe(self, labels: Labels, objective: str) -> str:
        """Return one line: how many thresholds were fitted, and which classes have none.

        Args:
            labels: The classes.
            objective: What the thresholds were fitted for, such as "of the best F1".
        """
        undetected = [labels.codes[c] for c in np.flatnonzero(np.isnan(self.per_class))]
        num_fitted = np.isfinite(self.fitted).sum()
        text = f"thresholds {objective}: fitted for {num_fitted} of {len(labels)} classes"
        if not self.has_positives.all():
            count = (~self.has_positives).sum()
            text += f"; median {self.median:.3f} for {count} without held-out positives"
        if undetected:
            codes = first_few(undetected, 5, "null among the thresholds in bundle.json")
            text += f"; {len(undetected)} never reach it and are never detected: {codes}"
        return text


def fit_thresholds(result: EvalResult, settings: ValidationSettings) -> Thresholds:
    """Fit thresholds on the evaluation result of held-out data.

    Args:
        result: Truth and logits, [N, C].
        settings: Objective: the best F1, or a target precision.
    """
    truth, probability, known = result.positive, result.probability, result.known
    if settings.threshold == "f1":
        fitted = best_f1_thresholds(truth, probability, known)
    else:
        fitted = precision_thresholds(truth, probability, settings.target_precision, known)
    return Thresholds(fitted, (truth & known).any(axis=0))

"""The metrics of validation, by name: those that every epoch and the end of a run compute.

Shapes: N examples (recordings or annotated windows), C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from birdmix.metrics.calibration import expected_calibration_error
from birdmix.metrics.eval_result import EvalResult
from birdmix.metrics.ranking import (
    macro_average_precision,
    macro_roc_auc,
    padded_cmap,
    top1_accuracy,
)
from birdmix.metrics.threshold_metrics import macro_f1


def compute_metrics(result: EvalResult) -> dict[str, float]:
    """Return the metrics that are defined for a data set, by name, with the set's name before."""
    return {
        f"{result.name}_{name}": metric.compute(result)
        for name, metric in METRICS.items()
        if not metric.unmet_requirement(result)
    }


def unmet_metric_requirements(result: EvalResult) -> dict[str, str]:
    """Return the requirement of each metric that the truth does not meet, "" if it does."""
    return {
        f"{result.name}_{name}": metric.unmet_requirement(result)
        for name, metric in METRICS.items()
    }


class ValidationMetric(NamedTuple):
    """A metric of an evaluation result.

    Attributes:
        compute: Computes its value.
        requirement: What the known truth must have, for error messages.
        is_defined: Whether the known truth meets the requirement.
    """

    compute: Callable[[EvalResult], float]
    requirement: str = ""
    is_defined: Callable[[EvalResult], bool] = lambda result: True

    def unmet_requirement(self, result: EvalResult) -> str:
        """Return the requirement if the truth does not meet it, "" otherwise."""
        return "" if self.is_defined(result) else self.requirement


def _has_positives(result: EvalResult) -> bool:
    return bool((result.positive & result.known).any())


def _has_positives_and_negatives(result: EvalResult) -> bool:
    """Return whether any class has both, so that its ROC curve is defined."""
    positive, known = result.positive, result.known
    return bool(((positive & known).any(axis=0) & (~positive & known).any(axis=0)).any())


def _top1(result: EvalResult) -> float:
    """Return the top-1 accuracy among known labels; labels of target 1 are the positives."""
    return top1_accuracy(result.truth == 1, np.where(result.known, result.logits, -np.inf))


def _soft_bce(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the binary cross-entropy of each label with soft truth, [N, C]."""
    return np.logaddexp(0, logits) - truth * logits


_NEEDS_POSITIVES = ("a class with positive examples", _has_positives)

#: All metrics of validation: a new one is a function and an entry here.
METRICS = {
    # Binary cross-entropy, independent of the training loss.
    "loss": ValidationMetric(lambda r: float(_soft_bce(r.truth, r.logits)[r.known].mean())),
    "macro_roc_auc": ValidationMetric(
        lambda r: macro_roc_auc(r.positive, r.logits, r.known),
        "a class with both positive and negative examples",
        _has_positives_and_negatives,
    ),
    "padded_cmap": ValidationMetric(
        lambda r: padded_cmap(r.positive, r.probability, known=r.known), *_NEEDS_POSITIVES
    ),
    "macro_average_precision": ValidationMetric(
        lambda r: macro_average_precision(r.positive, r.logits, r.known), *_NEEDS_POSITIVES
    ),
    # At a threshold of 0.5: thresholds fitted on the same data would overestimate it.
    "macro_f1": ValidationMetric(
        lambda r: macro_f1(r.positive, r.probability, 0.5, r.known), *_NEEDS_POSITIVES
    ),
    "top1_accuracy": ValidationMetric(
        _top1,
        "a label of target 1 in every example",
        lambda r: bool((r.truth == 1).any(axis=1).all()),
    ),
    "calibration_error": ValidationMetric(
        lambda r: expected_calibration_error(r.positive, r.probability, r.known),
        "a known label",
        lambda r: bool(r.known.any()),
    ),
}

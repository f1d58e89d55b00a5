"""F1 scores at given thresholds, and thresholds of best F1 or of a given precision.

A prediction at or above its class's threshold is a call (a positive decision); a class whose
threshold is NaN is never called.

Shapes: N rows, C classes. ``known`` marks the labels that were annotated, bool [N, C]; None is all.
"""

import numpy as np

from birdmix.metrics.metric_inputs import check_and_convert_inputs, compute_per_class, macro_mean


def f1_per_class(
    truth: np.ndarray,
    prediction: np.ndarray,
    thresholds: float | np.ndarray = 0.5,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the F1 of each class: 2 hits / (calls + positives).

    Args:
        truth: 0 or 1, [N, C].
        prediction: Real numbers, [N, C].
        thresholds: One for all classes, or one per class [C].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives, even if it is called.

    Raises:
        ValueError: If shapes differ, a prediction is NaN, or known truth is not 0 or 1.
    """
    truth, prediction, known = check_and_convert_inputs(truth, prediction, known)
    return compute_per_class(_f1, truth, prediction >= np.asarray(thresholds, np.float64), known)


def macro_f1(
    truth: np.ndarray,
    prediction: np.ndarray,
    thresholds: float | np.ndarray = 0.5,
    known: np.ndarray | None = None,
) -> float:
    """Compute the mean F1 of the classes that have positives.

    It is too optimistic at thresholds that were fitted on the same rows.

    Arguments are those of ``f1_per_class``.

    Raises:
        ValueError: If no class has positives.
    """
    values = f1_per_class(truth, prediction, thresholds, known)
    return macro_mean(values, "macro F1", "positive rows")


def best_f1_thresholds(
    truth: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Find the threshold of each class at which its F1 is best.

    The threshold is midway between the lowest prediction that is called and the next one below, so
    that it does not depend on a single row; if every row is called, it is the lowest prediction. Of
    equally good thresholds the highest is returned.

    Args:
        truth: 0 or 1, [N, C].
        prediction: Real numbers, [N, C].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives.
    """

    def best_threshold(truth: np.ndarray, prediction: np.ndarray) -> float:
        thresholds, hits, calls = _candidate_thresholds(truth, prediction)
        return float(thresholds[np.argmax(2 * hits / (calls + truth.sum()))])

    return compute_per_class(best_threshold, truth, prediction, known)


def precision_thresholds(
    truth: np.ndarray, prediction: np.ndarray, target: float, known: np.ndarray | None = None
) -> np.ndarray:
    """Find the lowest threshold of each class at which its precision is ``target`` or more.

    It is midway between two predictions as in ``best_f1_thresholds``.

    Args:
        truth: 0 or 1, [N, C].
        prediction: Real numbers, [N, C].
        target: Precision, the fraction of calls that are correct, in (0, 1].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives, or no threshold reaches the precision.
    """

    def lowest_threshold(truth: np.ndarray, prediction: np.ndarray) -> float:
        thresholds, hits, calls = _candidate_thresholds(truth, prediction)
        precise = np.flatnonzero(hits / calls >= target)
        return float(thresholds[precise[-1]]) if len(precise) else np.nan

    return compute_per_class(lowest_threshold, truth, prediction, known)


def _f1(truth: np.ndarray, called: np.ndarray) -> float:
    """Return the F1 of one class from its truth and its calls, bool [N] each."""
    return float(2 * (called * truth).sum() / (called.sum() + truth.sum()))


def _candidate_thresholds(
    truth: np.ndarray, prediction: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one threshold per distinct set of calls, highest first, with its hits and calls."""
    distinct, calls = np.unique(prediction, return_counts=True)
    positives = np.sort(prediction[truth])
    hits = len(positives) - np.searchsorted(positives, distinct, "left")
    thresholds = distinct.copy()
    middle = distinct[:-1] + np.diff(distinct) / 2
    is_between = middle > distinct[:-1]  # neighbouring floats have no number between them
    thresholds[1:][is_between] = middle[is_between]
    return thresholds[::-1], hits[::-1], np.cumsum(calls[::-1])

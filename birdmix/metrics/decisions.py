"""Decisions: F1 at given thresholds, and the thresholds that serve best.

Shapes: N rows, C classes. A score at or above its class's threshold is a call; a class whose
threshold is NaN is never called. known says which of the truth is known, None all.
"""

import numpy as np

from birdmix.metrics.arrays import checked, macro, per_class


def f1_per_class(
    truth: np.ndarray,
    score: np.ndarray,
    thresholds: float | np.ndarray = 0.5,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Return the F1 of each class: 2 hits / (calls + positives).

    Args:
        truth: 0 or 1, [N, C].
        score: [N, C].
        thresholds: One for all, or one for each class [C].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives, be it called or not.
    """
    truth, score, known = checked(truth, score, known)
    return per_class(_f1, truth, score >= np.asarray(thresholds, np.float64), known)


def macro_f1(
    truth: np.ndarray,
    score: np.ndarray,
    thresholds: float | np.ndarray = 0.5,
    known: np.ndarray | None = None,
) -> float:
    """Return the mean F1 of the classes that have positives.

    At thresholds that were fitted on the same rows it flatters.

    Raises:
        ValueError: If no class has positives.
    """
    return macro(f1_per_class(truth, score, thresholds, known), "macro F1", "positive rows")


def best_f1_thresholds(
    truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Return the threshold of each class at which its F1 is best.

    It stands midway between the lowest score that it calls and the next one below, so that it
    does not hang on a single row; if every row is called, at the lowest score. Of equally good ones
    the highest is taken.

    Returns:
        float64 [C]; NaN where a class has no positives.
    """

    def best(truth: np.ndarray, score: np.ndarray) -> float:
        thresholds, hits, calls = _cuts(truth, score)
        return float(thresholds[np.argmax(2 * hits / (calls + truth.sum()))])

    return per_class(best, truth, score, known)


def precision_thresholds(
    truth: np.ndarray, score: np.ndarray, target: float, known: np.ndarray | None = None
) -> np.ndarray:
    """Return the lowest threshold of each class at which its precision is ``target`` or more.

    It stands midway between two scores as in ``best_f1_thresholds``.

    Args:
        truth: 0 or 1, [N, C].
        score: [N, C].
        target: Share of calls that are to be right, in (0, 1].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives, or no threshold is precise enough.
    """

    def lowest(truth: np.ndarray, score: np.ndarray) -> float:
        thresholds, hits, calls = _cuts(truth, score)
        precise = np.flatnonzero(hits / calls >= target)
        return float(thresholds[precise[-1]]) if len(precise) else np.nan

    return per_class(lowest, truth, score, known)


def _f1(truth: np.ndarray, called: np.ndarray) -> float:
    return float(2 * (called * truth).sum() / (called.sum() + truth.sum()))


def _cuts(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every threshold that decides otherwise, highest first, with its hits and calls."""
    distinct, calls = np.unique(score, return_counts=True)
    positives = np.sort(score[truth])
    hits = len(positives) - np.searchsorted(positives, distinct, "left")
    thresholds = distinct.copy()
    middle = distinct[:-1] + np.diff(distinct) / 2
    between = middle > distinct[:-1]  # neighbouring floats have nothing between them
    thresholds[1:][between] = middle[between]
    return thresholds[::-1], hits[::-1], np.cumsum(calls[::-1])

"""What every metric is handed: truth, score and what is known, alike in shape.

Shapes: N rows, C classes.
"""

from collections.abc import Callable

import numpy as np


def checked(
    truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth as bool, score as float64 and known as bool, all [N, C].

    Raises:
        ValueError: If the shapes differ, a score is not a number, or known truth is not 0 or 1.
    """
    truth, score = np.asarray(truth), np.asarray(score, np.float64)
    known = np.ones(truth.shape, bool) if known is None else np.asarray(known, bool)
    if truth.shape != score.shape or truth.shape != known.shape or truth.ndim != 2:
        raise ValueError(
            f"truth {truth.shape}, score {score.shape} and known {known.shape} must be alike, "
            "[N, C]"
        )
    if np.isnan(score).any():
        raise ValueError("a score is not a number; look for NaN in the predictions")
    return zeros_and_ones("truth", truth, known), score, known


def zeros_and_ones(what: str, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return values as bool, [N, C]; what is not known may hold anything.

    Raises:
        ValueError: If a known value is not 0 or 1; the first one is named.
    """
    ones = values == 1
    wrong = known & ~ones & (values != 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{what}[{row}, {column}] is {values[row, column]}; it must be 0 or 1, as "
            f"by a threshold: {what} >= 0.5"
        )
    return ones


def per_class(
    metric: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    score: np.ndarray,
    known: np.ndarray | None,
    *,
    needs_negatives: bool = False,
) -> np.ndarray:
    """Return a metric of each class over its known rows, float64 [C].

    It is NaN where there are no positives or, if the metric needs them, no negatives.
    """
    truth, score, known = checked(truth, score, known)
    truth, score, known = (np.ascontiguousarray(each.T) for each in (truth, score, known))
    defined = (truth & known).any(axis=1)
    if needs_negatives:
        defined &= (~truth & known).any(axis=1)
    values = np.full(len(truth), np.nan)
    for c in np.flatnonzero(defined):
        values[c] = metric(truth[c, known[c]], score[c, known[c]])
    return values


def macro(values: np.ndarray, metric: str, needed: str) -> float:
    """Return the mean of the classes that have a value.

    Args:
        values: One value per class, NaN where there is none.
        metric: What it is called.
        needed: What a class needs to have one.

    Raises:
        ValueError: If no class has one.
    """
    if np.isnan(values).all():
        raise ValueError(f"{metric}: no class has {needed}; nothing can be scored")
    return float(np.nanmean(values))

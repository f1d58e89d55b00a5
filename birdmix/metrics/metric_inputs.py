"""Checks of metric inputs (truth, predictions, known mask), and loops and means over classes.

Shapes: N rows, C classes.
"""

from collections.abc import Callable

import numpy as np


def check_and_convert_inputs(
    truth: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check the inputs of a metric and convert their types.

    Args:
        truth: 0 or 1, [N, C]; any value where not known.
        prediction: Real numbers, [N, C].
        known: Which labels are known, bool [N, C]; None is all.

    Returns:
        Truth as bool, predictions as float64 and known as bool, all [N, C].

    Raises:
        ValueError: If the shapes differ, a prediction is NaN, or known truth is not 0 or 1.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction, np.float64)
    known = np.ones(truth.shape, bool) if known is None else np.asarray(known, bool)
    if truth.shape != prediction.shape or truth.shape != known.shape or truth.ndim != 2:
        raise ValueError(
            f"truth {truth.shape}, prediction {prediction.shape} and known {known.shape} must have "
            "the same shape, [N, C]"
        )
    if np.isnan(prediction).any():
        raise ValueError("a prediction is NaN; check the model's outputs")
    return binary_to_bool("truth", truth, known), prediction, known


def binary_to_bool(name: str, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Convert values of 0 and 1 to bool.

    Args:
        name: Name of the values, for the message.
        values: 0 or 1, [N, C]; any value where not known.
        known: Which values are known, bool [N, C].

    Returns:
        bool [N, C].

    Raises:
        ValueError: If a known value is not 0 or 1; with the position of the first one.
    """
    ones = values == 1
    invalid = known & ~ones & (values != 0)
    if invalid.any():
        row, column = np.argwhere(invalid)[0]
        raise ValueError(
            f"{name}[{row}, {column}] is {values[row, column]}; it must be 0 or 1, as "
            f"by a threshold: {name} >= 0.5"
        )
    return ones


def compute_per_class(
    metric: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    prediction: np.ndarray,
    known: np.ndarray | None,
    *,
    needs_negatives: bool = False,
) -> np.ndarray:
    """Compute a metric of each class over its known rows.

    Args:
        metric: Function of truth (bool) and prediction (float64) of the known rows of one class.
        truth: 0 or 1, [N, C].
        prediction: Real numbers, [N, C].
        known: bool [N, C]; None is all.
        needs_negatives: Whether the metric is undefined without negatives.

    Returns:
        float64 [C]; NaN where there are no positives or, if the metric needs them, no negatives.

    Raises:
        ValueError: As ``check_and_convert_inputs``.
    """
    truth, prediction, known = check_and_convert_inputs(truth, prediction, known)
    truth, prediction, known = (
        np.ascontiguousarray(array.T) for array in (truth, prediction, known)
    )
    defined = (truth & known).any(axis=1)
    if needs_negatives:
        defined &= (~truth & known).any(axis=1)
    values = np.full(len(truth), np.nan)
    for c in np.flatnonzero(defined):
        values[c] = metric(truth[c, known[c]], prediction[c, known[c]])
    return values


def macro_mean(values: np.ndarray, metric: str, requirement: str) -> float:
    """Return the mean over the classes that have a value.

    Args:
        values: One value per class, NaN for a class without one.
        metric: Name of the metric, for the message.
        requirement: What a class needs to have a value, for the message.

    Raises:
        ValueError: If no class has a value.
    """
    if np.isnan(values).all():
        raise ValueError(f"{metric}: no class has {requirement}; nothing can be scored")
    return float(np.nanmean(values))

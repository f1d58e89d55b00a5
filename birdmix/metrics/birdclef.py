"""The metrics of the BirdCLEF years that asked for decisions; 2023 and later are ``ranking``'s.

Shapes: N rows, C classes; truth and decided are 0 or 1.
"""

import numpy as np

from birdmix.metrics.arrays import checked, macro, zeros_and_ones


def row_f1(truth: np.ndarray, decided: np.ndarray) -> float:
    """Return the mean over rows of the F1 between true and decided sets of codes: BirdCLEF 2021.

    ``nocall`` is a code. Where it has no column of its own, a row without any code stands for it:
    two empty sets agree, so they have 1.

    Args:
        truth: [N, C].
        decided: [N, C].

    Raises:
        ValueError: If there are no rows, or something is not 0 or 1.
    """
    truth, decided, known = checked(truth, decided)
    decided = zeros_and_ones("decided", decided, known)
    if not len(truth):
        raise ValueError("row F1: there are no rows; nothing can be scored")
    hits = (truth * decided).sum(axis=1)
    sizes = truth.sum(axis=1) + decided.sum(axis=1)
    return float(np.where(sizes > 0, 2 * hits / np.maximum(sizes, 1), 1.0).mean())


def weighted_accuracy(
    truth: np.ndarray, decided: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Return the accuracy in which species weigh alike, and its yes and its no: BirdCLEF 2022.

    It is the mean over species of (true positive rate + true negative rate) / 2. A species with
    positives only, or negatives only, counts by the rate that it has; one without scored rows is
    left out.

    Args:
        truth: [N, C].
        decided: [N, C].
        known: What is scored, bool [N, C].

    Raises:
        ValueError: If nothing is scored, or something that is scored is not 0 or 1.
    """
    truth, decided, known = checked(truth, decided, known)
    right = truth == zeros_and_ones("decided", decided, known)
    rates = [_rates(right, known & truth), _rates(right, known & ~truth)]
    either = np.where(np.isnan(rates[0]), rates[1], rates[0])
    values = np.where(np.isnan(rates).any(axis=0), either, np.mean(rates, axis=0))
    return macro(values, "weighted accuracy", "a scored row")


def _rates(right: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the share of right decisions of each class, NaN where there is none to make."""
    count = among.sum(axis=0)
    return np.where(count > 0, (right & among).sum(axis=0) / np.maximum(count, 1), np.nan)

"""Metrics of BirdCLEF 2021 and 2022, computed from yes/no decisions.

Those of 2023 and later are in ``ranking``.

Shapes: N rows, C classes; truth and decision are 0 or 1.
"""

import numpy as np

from birdmix.metrics.metric_inputs import binary_to_bool, check_and_convert_inputs, macro_mean


def mean_row_f1(truth: np.ndarray, decision: np.ndarray) -> float:
    """Compute the mean over rows of the F1 between true and predicted sets of codes: BirdCLEF 2021.

    ``nocall`` is a code. If it has no column of its own, a row without any code counts as it: two
    empty sets agree, so their F1 is 1.

    Args:
        truth: True codes, 0 or 1, [N, C].
        decision: Predicted codes, 0 or 1, [N, C].

    Raises:
        ValueError: If there are no rows, or a value is not 0 or 1.
    """
    truth, decision, known = check_and_convert_inputs(truth, decision)
    decision = binary_to_bool("decision", decision, known)
    if not len(truth):
        raise ValueError("row F1: there are no rows; nothing can be scored")
    hits = (truth * decision).sum(axis=1)
    sizes = truth.sum(axis=1) + decision.sum(axis=1)
    return float(np.where(sizes > 0, 2 * hits / np.maximum(sizes, 1), 1.0).mean())


def macro_balanced_accuracy(
    truth: np.ndarray, decision: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Compute the balanced accuracy, averaged over species: BirdCLEF 2022.

    It is the mean over species of (true positive rate + true negative rate) / 2. A species with
    positives only, or negatives only, counts with the one rate that it has; one without known rows
    is left out.

    Args:
        truth: 0 or 1, [N, C].
        decision: 0 or 1, [N, C].
        known: Which labels are scored, bool [N, C]; None is all.

    Raises:
        ValueError: If nothing is scored, or a scored value is not 0 or 1.
    """
    truth, decision, known = check_and_convert_inputs(truth, decision, known)
    correct = truth == binary_to_bool("decision", decision, known)
    rates = [_rate(correct, known & truth), _rate(correct, known & ~truth)]
    either = np.where(np.isnan(rates[0]), rates[1], rates[0])
    values = np.where(np.isnan(rates).any(axis=0), either, np.mean(rates, axis=0))
    return macro_mean(values, "weighted accuracy", "a scored row")


def _rate(correct: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Return the fraction of selected decisions of each class that are correct, NaN for none."""
    count = selected.sum(axis=0)
    return np.where(count > 0, (correct & selected).sum(axis=0) / np.maximum(count, 1), np.nan)

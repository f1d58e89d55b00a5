"""Ranking metrics and accuracy.

Shapes: N rows, C classes. truth is 0 or 1, score any real number (logits rank as probabilities do),
known says which of the truth is known, None all; a class is scored by the rows in which it is.
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


def roc_auc_per_class(
    truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Return the area under the ROC curve of each class, ties counting half.

    Args:
        truth: 0 or 1, [N, C].
        score: [N, C].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives or no negatives, so that there is no curve.

    Raises:
        ValueError: If the shapes differ or a score is not a number.
    """
    return _per_class(roc_auc_score, truth, score, known, needs_negatives=True)


def macro_roc_auc(truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None) -> float:
    """Return the mean ROC-AUC of the classes that have positives: BirdCLEF 2024 to 2026.

    A class whose rows are all positive has no curve and is left out too.

    Raises:
        ValueError: If no class can be scored.
    """
    per_class = roc_auc_per_class(truth, score, known)
    if np.isnan(per_class).all():
        raise ValueError(
            "macro ROC-AUC: no class has both positive and negative rows; nothing can be scored"
        )
    return float(np.nanmean(per_class))


def average_precision_per_class(
    truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Return the average precision of each class, float64 [C]; NaN where there are no positives."""
    return _per_class(average_precision_score, truth, score, known, needs_negatives=False)


def padded_cmap(
    truth: np.ndarray,
    score: np.ndarray,
    num_padding: int = 5,
    known: np.ndarray | None = None,
) -> float:
    """Return the mean average precision after appending rows of ones to both: BirdCLEF 2023.

    Args:
        truth: 0 or 1, [N, C].
        score: Probabilities below 1, [N, C]: a 1 ties with the padding.
        num_padding: Rows of ones appended.
        known: bool [N, C].
    """
    rows = np.ones((num_padding, truth.shape[1]))
    known = np.ones(truth.shape, bool) if known is None else known
    told = known.any(axis=0)  # of other classes nothing can be said
    truth, score, known, rows = (each[:, told] for each in (truth, score, known, rows))
    per_class = average_precision_per_class(
        *(np.vstack([each, rows.astype(each.dtype)]) for each in (truth, score, known))
    )
    return float(per_class.mean())


def top1_accuracy(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the share of rows whose highest score stands at a positive class."""
    truth, score = _checked(truth, score)
    return float(truth[np.arange(len(truth)), score.argmax(axis=1)].mean())


def _per_class(
    metric: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    score: np.ndarray,
    known: np.ndarray | None,
    *,
    needs_negatives: bool,
) -> np.ndarray:
    truth, score = _checked(truth, score)
    known = np.ones(truth.shape, bool) if known is None else known
    defined = np.any(truth & known, axis=0)
    if needs_negatives:
        defined &= np.any(~truth & known, axis=0)
    values = np.full(truth.shape[1], np.nan)
    for column in np.flatnonzero(defined):
        rows = known[:, column]
        values[column] = metric(truth[rows, column], score[rows, column])
    return values


def _checked(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, score = np.asarray(truth), np.asarray(score, np.float64)
    if truth.shape != score.shape or truth.ndim != 2:
        raise ValueError(f"truth {truth.shape} and score {score.shape} must be alike, [N, C]")
    if np.isnan(score).any():
        raise ValueError("a score is not a number; look for NaN in the predictions")
    return truth.astype(bool), score

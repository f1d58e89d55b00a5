"""Ranking metrics and accuracy: any real score will do, logits rank as probabilities do.

Shapes: N rows, C classes. truth is 0 or 1, known says which of the truth is known, None all; a
class is scored by the rows in which it is.
"""

import numpy as np

from birdmix.metrics.arrays import checked, macro, per_class


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
    return per_class(_roc_auc, truth, score, known, needs_negatives=True)


def macro_roc_auc(truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None) -> float:
    """Return the mean ROC-AUC of the classes that have positives: BirdCLEF 2024 to 2026.

    A class whose rows are all positive has no curve and is left out too.

    Raises:
        ValueError: If no class can be scored.
    """
    values = roc_auc_per_class(truth, score, known)
    return macro(values, "macro ROC-AUC", "both positive and negative rows")


def average_precision_per_class(
    truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Return the average precision of each class, float64 [C]; NaN where there are no positives.

    It is the mean over the positives of the precision at their score, rows of equal score counting
    together: sum (R_n - R_n-1) P_n over the distinct scores.
    """
    return per_class(_average_precision, truth, score, known)


def macro_average_precision(
    truth: np.ndarray, score: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Return the mean average precision of the classes that have positives.

    Raises:
        ValueError: If none has.
    """
    values = average_precision_per_class(truth, score, known)
    return macro(values, "macro average precision", "positive rows")


def padded_cmap(
    truth: np.ndarray,
    score: np.ndarray,
    num_padding: int = 5,
    known: np.ndarray | None = None,
) -> float:
    """Return the mean average precision after appending rows of ones to both: BirdCLEF 2023.

    A class without positives has 1 as long as all its scores are below 1.

    Args:
        truth: 0 or 1, [N, C].
        score: Probabilities below 1, [N, C]: a 1 ties with the padding.
        num_padding: Rows of ones appended.
        known: bool [N, C]; a class of which nothing is known is left out.

    Raises:
        ValueError: If nothing is known of any class.
    """
    truth, score, known = checked(truth, score, known)
    told = known.any(axis=0)
    rows = np.ones((num_padding, told.sum()))
    values = average_precision_per_class(
        *(np.vstack([each[:, told], rows.astype(each.dtype)]) for each in (truth, score, known))
    )
    return macro(values, "padded cmAP", "a known row")


def top1_accuracy(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the share of rows whose highest score stands at a positive class.

    Raises:
        ValueError: If there are no rows or no classes.
    """
    truth, score, _ = checked(truth, score)
    for what, number in zip(("rows", "classes"), truth.shape, strict=True):
        if not number:
            raise ValueError(f"top-1 accuracy: there are no {what}; nothing can be scored")
    return float(truth[np.arange(len(truth)), score.argmax(axis=1)].mean())


# Counting by bisection takes a fraction of the time that scikit-learn's curves do, and validation
# asks after every epoch; the tests hold the two against each other.


def _roc_auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the share of pairs (positive, negative) that are in order."""
    positives, negatives = score[truth], np.sort(score[~truth])
    below = np.searchsorted(negatives, positives, "left").sum()
    not_above = np.searchsorted(negatives, positives, "right").sum()
    return float((below + not_above) / (2 * len(positives) * len(negatives)))


def _average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    positives, every = np.sort(score[truth]), np.sort(score)
    hits = len(positives) - np.searchsorted(positives, positives, "left")
    calls = len(every) - np.searchsorted(every, positives, "left")
    return float((hits / calls).mean())

"""Ranking metrics and accuracy: ROC-AUC, average precision, padded cmAP and top-1 accuracy.

Only the order of predictions counts, so logits and probabilities give the same value (but for
``padded_cmap``, which needs probabilities).

Shapes: N rows, C classes. Truth is 0 or 1; ``known`` marks the labels that were annotated, bool
[N, C], None being all. A class is evaluated on its known rows.
"""

import numpy as np

from birdmix.metrics.metric_inputs import check_and_convert_inputs, compute_per_class, macro_mean

#: Rows of ones that the metric of BirdCLEF 2023 appends.
NUM_PADDING_ROWS = 5


def roc_auc_per_class(
    truth: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Compute the area under the ROC curve of each class; ties count half.

    Args:
        truth: 0 or 1, [N, C].
        prediction: Real numbers, [N, C].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives or no negatives, so that there is no curve.

    Raises:
        ValueError: If shapes differ, a prediction is NaN, or known truth is not 0 or 1.
    """
    return compute_per_class(_roc_auc, truth, prediction, known, needs_negatives=True)


def macro_roc_auc(
    truth: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Compute the mean ROC-AUC of the classes that have positives: BirdCLEF 2024 to 2026.

    A class whose rows are all positive has no curve and is left out too.

    Arguments are those of ``roc_auc_per_class``.

    Raises:
        ValueError: If no class has a curve.
    """
    values = roc_auc_per_class(truth, prediction, known)
    return macro_mean(values, "macro ROC-AUC", "both positive and negative rows")


def average_precision_per_class(
    truth: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Compute the average precision of each class.

    It is the mean over the positives of the precision at their prediction; rows of equal prediction
    count together: sum (R_n - R_n-1) P_n over the distinct predictions, R being recall and P
    precision.

    Args:
        truth: 0 or 1, [N, C].
        prediction: Real numbers, [N, C].
        known: bool [N, C].

    Returns:
        float64 [C]; NaN where a class has no positives.
    """
    return compute_per_class(_average_precision, truth, prediction, known)


def macro_average_precision(
    truth: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Compute the mean average precision of the classes that have positives.

    Arguments are those of ``average_precision_per_class``.

    Raises:
        ValueError: If no class has positives.
    """
    values = average_precision_per_class(truth, prediction, known)
    return macro_mean(values, "macro average precision", "positive rows")


def padded_cmap(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_padding: int = NUM_PADDING_ROWS,
    known: np.ndarray | None = None,
) -> float:
    """Compute the macro average precision after appending rows of ones to both: BirdCLEF 2023.

    A class without positives has 1 as long as all its predictions are below 1.

    Args:
        truth: 0 or 1, [N, C].
        prediction: Probabilities below 1, [N, C]: a 1 ties with the padding.
        num_padding: Number of rows of ones to append.
        known: bool [N, C]; a class without known rows is left out.

    Raises:
        ValueError: If no class has a known row.
    """
    truth, prediction, known = check_and_convert_inputs(truth, prediction, known)
    has_known = known.any(axis=0)
    padding = np.ones((num_padding, has_known.sum()))
    values = average_precision_per_class(
        *(
            np.vstack([array[:, has_known], padding.astype(array.dtype)])
            for array in (truth, prediction, known)
        )
    )
    return macro_mean(values, "padded cmAP", "a known row")


def top1_accuracy(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Compute the fraction of rows whose highest prediction is that of a positive class.

    Args:
        truth: 0 or 1, [N, C].
        prediction: Real numbers, [N, C].

    Raises:
        ValueError: If there are no rows or no classes.
    """
    truth, prediction, _ = check_and_convert_inputs(truth, prediction)
    for axis_name, length in zip(("rows", "classes"), truth.shape, strict=True):
        if not length:
            raise ValueError(f"top-1 accuracy: there are no {axis_name}; nothing can be scored")
    return float(truth[np.arange(len(truth)), prediction.argmax(axis=1)].mean())


# Counting by bisection takes a fraction of the time of scikit-learn's curves, and validation runs
# after every epoch. Tests compare the two.


def _roc_auc(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the fraction of pairs (positive, negative) in the right order, ties counting half."""
    positives, negatives = prediction[truth], np.sort(prediction[~truth])
    below = np.searchsorted(negatives, positives, "left").sum()
    not_above = np.searchsorted(negatives, positives, "right").sum()
    return float((below + not_above) / (2 * len(positives) * len(negatives)))


def _average_precision(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the mean over the positives of the precision at their prediction."""
    positives, ordered = np.sort(prediction[truth]), np.sort(prediction)
    hits = len(positives) - np.searchsorted(positives, positives, "left")
    calls = len(ordered) - np.searchsorted(ordered, positives, "left")
    return float((hits / calls).mean())

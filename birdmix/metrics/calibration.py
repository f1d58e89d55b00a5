"""Calibration error: how far predicted probabilities are from observed frequencies."""

import numpy as np

from birdmix.metrics.metric_inputs import check_and_convert_inputs


def expected_calibration_error(
    truth: np.ndarray,
    probability: np.ndarray,
    known: np.ndarray | None = None,
    num_bins: int = 15,
) -> float:
    """Compute the mean absolute difference between probabilities and fractions of positives.

    All known pairs (row, class) are sorted into bins of equal width. The difference between mean
    probability and fraction of positives of each bin is weighted by the number of its pairs.

    Source: Guo et al. 2017, arXiv:1706.04599, equations 2 and 3. Departure: they bin the confidence
    of the one predicted class of each row, this bins the probability of every label.

    Args:
        truth: 0 or 1, [N, C].
        probability: Probabilities in [0, 1], [N, C]; a bin includes its upper edge, the first one
            also 0.
        known: bool [N, C]; None is all.
        num_bins: Number of bins from 0 to 1.

    Raises:
        ValueError: If nothing is known, or a known probability lies outside [0, 1].
    """
    truth, probability, known = check_and_convert_inputs(truth, probability, known)
    if not known.any():
        raise ValueError("calibration error: nothing is known; nothing can be scored")
    positive, probability = truth[known], probability[known]
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(
            f"calibration error: predictions range from {probability.min():g} to "
            f"{probability.max():g}; pass probabilities in [0, 1]"
        )
    bins = np.clip(np.ceil(probability * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=probability - positive, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(probability))

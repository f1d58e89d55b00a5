"""Calibration: does a probability mean what it says?"""

import numpy as np

from birdmix.metrics.arrays import checked


def expected_calibration_error(
    truth: np.ndarray,
    score: np.ndarray,
    known: np.ndarray | None = None,
    num_bins: int = 15,
) -> float:
    """Return how far probabilities are from the shares of positives, on average.

    All known pairs (row, class) go into bins of equal width; a bin's gap between mean probability
    and share of positives counts by how many are in it.

    Source: Guo et al. 2017, arXiv:1706.04599, equations 2 and 3; where they bin the confidence of a
    row's one predicted class, this bins the probability of every label.

    Args:
        truth: 0 or 1, [N, C].
        score: Probabilities, [N, C]; a bin holds its upper edge, the first one 0 as well.
        known: bool [N, C].
        num_bins: Bins from 0 to 1.

    Raises:
        ValueError: If nothing is known, or a score is no probability.
    """
    truth, score, known = checked(truth, score, known)
    if not known.any():
        raise ValueError("calibration error: nothing is known; nothing can be scored")
    positive, probability = truth[known], score[known]
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(
            f"calibration error: scores within {probability.min():g} and {probability.max():g} "
            "are no probabilities"
        )
    bins = np.clip(np.ceil(probability * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=probability - positive, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(probability))

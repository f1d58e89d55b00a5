"""Calibration: how far predicted probabilities are from observed frequencies.

The calibration error and the Brier score are means over all known pairs (row, class). Calibration
slope and intercept are logistic regressions of the truth on the logits of the same pairs: a slope
below 1 says that probabilities are too extreme, above 1 that they are too moderate; an intercept
below 0 says that they are too high on the whole, above 0 that they are too low.

Sources: Cox 1958, Biometrika 45:562 (the regression); Miller et al. 1991, Statistics in Medicine
10:1213 (slope and intercept as two questions); Van Calster et al. 2019, BMC Medicine 17:230 (the
intercept with the slope held at 1, "calibration in the large", as it is here). Departure: pairs of
all classes together, since single classes of a test set have too few positives.

Shapes: N rows, C classes, K values of a logit, R weightings, D parameters.
"""

import numpy as np

from birdmix.metrics.metric_inputs import check_and_convert_inputs
from birdmix.windows import logit

#: Number of bins of the calibration error from 0 to 1.
NUM_BINS = 15

SLOPE_REQUIREMENT = "positives and negatives whose probabilities overlap"
INTERCEPT_REQUIREMENT = "a positive and a negative"

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-9  # of a parameter, at which Newton's method ends
_MAX_STEP = 10.0  # of a parameter in one iteration


def expected_calibration_error(
    truth: np.ndarray,
    probability: np.ndarray,
    known: np.ndarray | None = None,
    num_bins: int = NUM_BINS,
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
    positive, probability = _known_pairs("calibration error", truth, probability, known)
    bins = probability_bins(probability, num_bins)
    gaps = np.bincount(bins, weights=probability - positive, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(probability))


def probability_bins(probability: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Return the bin of each probability, int64; bins include their upper edge."""
    return np.clip(np.ceil(probability * num_bins).astype(int) - 1, 0, num_bins - 1)


def brier_score(
    truth: np.ndarray, probability: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Compute the mean squared difference between probabilities and truth over known pairs.

    Source: Brier 1950, Monthly Weather Review 78:1; each label as an event of its own, so that a
    constant 0.5 has 0.25.

    Args:
        truth: 0 or 1, [N, C].
        probability: Probabilities in [0, 1], [N, C].
        known: bool [N, C]; None is all.

    Raises:
        ValueError: If nothing is known, or a known probability lies outside [0, 1].
    """
    positive, probability = _known_pairs("Brier score", truth, probability, known)
    return float(((probability - positive) ** 2).mean())


def calibration_slope(
    truth: np.ndarray, probability: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Compute b of the logistic regression P(positive) = sigmoid(a + b logit(probability)).

    Args:
        truth: 0 or 1, [N, C].
        probability: Probabilities in [0, 1], [N, C]; their logits are limited as those of
            ``birdmix.windows.logit`` are.
        known: bool [N, C]; None is all.

    Raises:
        ValueError: If nothing is known, a known probability lies outside [0, 1], or there is no
            finite slope, since a threshold separates positives from negatives.
    """
    positive, probability = _known_pairs("calibration slope", truth, probability, known)
    logits = logit(probability)
    positive_logits, negative_logits = logits[positive], logits[~positive]
    has_both = len(positive_logits) and len(negative_logits)
    if not has_both or not has_slope(
        positive_logits.min(), positive_logits.max(), negative_logits.min(), negative_logits.max()
    ):
        raise ValueError(f"calibration slope: no {SLOPE_REQUIREMENT}; nothing can be fitted")
    totals = np.array([[positive.sum(), positive_logits.sum()]])
    return float(fit_slopes(logits, np.ones((1, len(logits))), totals)[0])


def calibration_intercept(
    truth: np.ndarray, probability: np.ndarray, known: np.ndarray | None = None
) -> float:
    """Compute a of the logistic regression P(positive) = sigmoid(a + logit(probability)).

    Arguments are those of ``calibration_slope``.

    Raises:
        ValueError: If nothing is known, a known probability lies outside [0, 1], or there is no
            finite intercept, since all pairs are positive or all are negative.
    """
    positive, probability = _known_pairs("calibration intercept", truth, probability, known)
    if positive.all() or not positive.any():
        raise ValueError(
            f"calibration intercept: there are not both {INTERCEPT_REQUIREMENT}; "
            "nothing can be fitted"
        )
    ones = np.ones((1, len(positive)))
    return float(fit_intercepts(logit(probability), ones, np.array([positive.sum()]))[0])


def has_slope(
    lowest_positive: np.ndarray,
    highest_positive: np.ndarray,
    lowest_negative: np.ndarray,
    highest_negative: np.ndarray,
) -> np.ndarray:
    """Return whether the calibration slope is finite: no threshold separates the two kinds.

    Arguments are the extreme logits of positives and negatives; inf and -inf where there are none.
    """
    return (lowest_positive < highest_negative) & (lowest_negative < highest_positive)


def fit_slopes(logits: np.ndarray, weights: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Fit the calibration slope for many weightings of the same logits.

    Args:
        logits: Values of the logit, not all equal, [K].
        weights: Number of pairs that have each value, [R, K].
        totals: Number of positives, and the sum of their logits, [R, 2].

    Returns:
        Slopes, float64 [R]; NaN where the fit does not converge. Where ``has_slope`` is false there
        is nothing to converge to.
    """
    mean, scale = logits.mean(), logits.std()  # steps of about the same size for both parameters
    features = np.stack([np.ones(len(logits)), (logits - mean) / scale])
    positives, positive_logits = totals.T
    scaled = np.stack([positives, (positive_logits - mean * positives) / scale], axis=1)
    return _fit_logistic(features, np.zeros(len(logits)), weights, scaled)[:, 1] / scale


def fit_intercepts(logits: np.ndarray, weights: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Fit the calibration intercept, the slope held at 1, for many weightings of the same logits.

    Args:
        logits: Values of the logit, [K].
        weights: Number of pairs that have each value, [R, K].
        positives: Number of positives, [R].

    Returns:
        Intercepts, float64 [R]; NaN where the fit does not converge.
    """
    return _fit_logistic(np.ones((1, len(logits))), logits, weights, positives[:, None])[:, 0]


def _fit_logistic(
    features: np.ndarray, offset: np.ndarray, weights: np.ndarray, totals: np.ndarray
) -> np.ndarray:
    """Maximise the likelihood of logistic regressions by Newton's method with halved steps.

    Args:
        features: Features of each value, [D, K].
        offset: Part of the linear predictor that is not fitted, [K].
        weights: Number of pairs that have each value, [R, K].
        totals: Sum of each feature over the positives, [R, D].

    Returns:
        Parameters, float64 [R, D]; NaN where the method does not converge.
    """
    num_features = len(features)
    products = (features[:, None] * features[None]).reshape(num_features**2, -1)
    ridge = 1e-12 * np.eye(num_features)  # keeps the matrix regular where every weight is 0
    accepted = np.zeros(totals.shape)
    candidate, step = accepted.copy(), np.zeros(totals.shape)
    best = np.full(len(totals), -np.inf)
    for _ in range(_MAX_ITERATIONS):
        predictor = candidate @ features + offset
        # The likelihood without the offset's part, which is constant.
        softplus = np.logaddexp(0, predictor)
        likelihood = (candidate * totals).sum(axis=1) - (weights * softplus).sum(axis=1)
        probability = np.exp(predictor - softplus)
        gradient = totals - (weights * probability) @ features.T
        curvature = (weights * probability * (1 - probability)) @ products.T
        matrix = curvature.reshape(-1, num_features, num_features) + ridge
        newton = np.linalg.solve(matrix, gradient[..., None])[..., 0]
        # Rounding of the sum must not count as a loss, or steps are halved at the maximum.
        better = (likelihood >= best - 1e-12 * np.abs(best))[:, None]
        accepted = np.where(better, candidate, accepted)
        best = np.where(better[:, 0], likelihood, best)
        step = np.where(better, np.clip(newton, -_MAX_STEP, _MAX_STEP), step / 2)
        candidate = accepted + step
        if (np.abs(step) <= _TOLERANCE).all():
            break
    converged = (np.abs(step) <= _TOLERANCE).all(axis=1, keepdims=True)
    return np.where(converged, candidate, np.nan)


def _known_pairs(
    metric: str, truth: np.ndarray, probability: np.ndarray, known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return truth (bool) and probability of the known pairs; refuse other than probabilities."""
    truth, probability, known = check_and_convert_inputs(truth, probability, known)
    if not known.any():
        raise ValueError(f"{metric}: nothing is known; nothing can be scored")
    positive, probability = truth[known], probability[known]
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(
            f"{metric}: predictions range from {probability.min():g} to "
            f"{probability.max():g}; pass probabilities in [0, 1]"
        )
    return positive, probability

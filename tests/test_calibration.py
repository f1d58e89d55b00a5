"""Brier score, calibration slope and intercept; the calibration error is in test_metrics.py."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from birdmix.metrics.calibration import brier_score, calibration_intercept, calibration_slope
from birdmix.windows import logit, probability


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def drawn_from(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return truth that is positive as often as the logits say."""
    return np.random.default_rng(seed).random(logits.shape) < probability(logits)


def test_the_brier_score_of_a_hand_computed_case():
    # 0.1^2, 0.5^2 and 0.7^2 of the known pairs.
    truth, predicted = np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.5], [0.7, 0.0]])
    known = np.array([[True, True], [True, False]])
    assert brier_score(truth, predicted, known) == pytest.approx((0.01 + 0.25 + 0.49) / 3)


def test_the_intercept_is_the_shift_of_log_odds_from_a_constant_prediction_to_the_frequency():
    truth, predicted = column(1, 1, 1, 0), column(0.2, 0.2, 0.2, 0.2)
    assert calibration_intercept(truth, predicted) == pytest.approx(np.log(3) - np.log(0.25))


def test_the_slope_of_two_values_is_the_ratio_of_the_differences_in_log_odds():
    # 1 of 4 positive at 0.1, 3 of 4 at 0.9: log-odds of the truth from -log 3 to log 3.
    truth, predicted = column(1, 0, 0, 0, 1, 1, 1, 0), column(*[0.1] * 4, *[0.9] * 4)
    assert calibration_slope(truth, predicted) == pytest.approx(np.log(3) / np.log(9))
    assert calibration_intercept(truth, predicted) == pytest.approx(0)


def test_slope_and_intercept_of_calibrated_predictions_are_about_1_and_0():
    logits = np.random.default_rng(1).normal(-1, 2, (4000, 2))
    truth = drawn_from(logits)
    # Standard errors are about 0.02 and 0.03.
    assert calibration_slope(truth, probability(logits)) == pytest.approx(1, abs=0.1)
    assert calibration_intercept(truth, probability(logits)) == pytest.approx(0, abs=0.15)


def test_logits_twice_too_large_halve_the_slope_and_a_shift_of_logits_leaves_it():
    logits = np.random.default_rng(2).normal(0, 1.5, (500, 2))
    truth = drawn_from(logits)
    slope = calibration_slope(truth, probability(logits))
    assert calibration_slope(truth, probability(2 * logits)) == pytest.approx(slope / 2)
    assert calibration_slope(truth, probability(logits - 1)) == pytest.approx(slope)
    intercept = calibration_intercept(truth, probability(logits))
    shifted = calibration_intercept(truth, probability(logits - 1))
    assert shifted == pytest.approx(intercept + 1)


def test_the_slope_agrees_with_the_logistic_regression_of_scikit_learn():
    rng = np.random.default_rng(3)
    logits, known = rng.normal(-2, 3, (300, 3)), rng.random((300, 3)) < 0.8
    truth = drawn_from(0.4 * logits + 1, seed=4)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(logit(probability(logits))[known][:, None], truth[known])
    expected = model.coef_[0, 0]
    assert calibration_slope(truth, probability(logits), known) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("truth", [(0, 0, 1, 1), (1, 1, 0, 0), (0, 1, 1, 1), (1, 1, 1, 1)])
def test_truth_that_a_threshold_separates_has_no_slope(truth: tuple[int, ...]):
    with pytest.raises(ValueError, match="calibration slope: no positives and negatives whose"):
        calibration_slope(column(*truth), column(0.1, 0.2, 0.3, 0.4))


def test_a_tie_at_the_threshold_that_separates_does_not_give_a_slope():
    with pytest.raises(ValueError, match="probabilities overlap; nothing can be fitted"):
        calibration_slope(column(0, 0, 1, 1), column(0.1, 0.3, 0.3, 0.4))


def test_nearly_separated_truth_has_the_slope_at_which_the_likelihood_is_highest():
    logits = column(*np.linspace(-3, -1, 200), *np.linspace(1, 3, 200))
    truth = logits > 0
    truth[150], truth[250] = True, False  # the logits -1.49 and 1.51
    slope = calibration_slope(truth, probability(logits))
    assert 1 < slope < 10

    def likelihood(slope: float) -> float:
        signed = np.where(truth, slope * logits, -slope * logits)
        return float(-np.logaddexp(0, -signed).sum())

    assert likelihood(slope) > max(likelihood(0.98 * slope), likelihood(1.02 * slope))


@pytest.mark.parametrize("value", [0, 1])
def test_truth_of_one_kind_has_no_intercept(value: int):
    with pytest.raises(ValueError, match="there are not both a positive and a negative"):
        calibration_intercept(column(value, value), column(0.1, 0.9))


def test_predictions_that_are_not_probabilities_are_refused():
    for metric in (brier_score, calibration_slope, calibration_intercept):
        with pytest.raises(ValueError, match="range from -3 to 2; pass probabilities"):
            metric(column(0, 1), column(-3, 2))

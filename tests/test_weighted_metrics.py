"""Metrics of weighted rows: equal to those of repeated rows, undefined where those raise."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmix.metrics import calibration, ranking, threshold_metrics
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS, ScoredRows


def top1_of_rows_with_a_known_positive(rows: ScoredRows) -> float:
    selected = (rows.truth & rows.known).any(axis=1)
    prediction = np.where(rows.known, rows.logits, -np.inf)
    return ranking.top1_accuracy(rows.truth[selected], prediction[selected])


#: What each metric is on rows without weights.
UNWEIGHTED: dict[str, Callable[[ScoredRows], float]] = {
    "macro_roc_auc": lambda r: ranking.macro_roc_auc(r.truth, r.logits, r.known),
    "padded_cmap": lambda r: ranking.padded_cmap(r.truth, r.probability, known=r.known),
    "macro_average_precision": lambda r: ranking.macro_average_precision(
        r.truth, r.logits, r.known
    ),
    "macro_f1": lambda r: threshold_metrics.macro_f1(r.truth, r.decisions, known=r.known),
    "top1_accuracy": top1_of_rows_with_a_known_positive,
    "brier_score": lambda r: calibration.brier_score(r.truth, r.probability, r.known),
    "calibration_slope": lambda r: calibration.calibration_slope(r.truth, r.probability, r.known),
    "calibration_intercept": lambda r: calibration.calibration_intercept(
        r.truth, r.probability, r.known
    ),
    "calibration_error": lambda r: calibration.expected_calibration_error(
        r.truth, r.probability, r.known
    ),
}


def random_rows(seed: int, num_rows: int, num_classes: int) -> ScoredRows:
    """Return rows with tied logits, unknown labels and, often, classes without positives."""
    rng = np.random.default_rng(seed)
    truth = rng.random((num_rows, num_classes)) < 0.25
    logits = (rng.normal(-1, 2, truth.shape) + truth).round(1)
    return ScoredRows(truth, rng.random(truth.shape) < 0.8, logits, logits > 0.5)


def repeated(rows: ScoredRows, counts: np.ndarray) -> ScoredRows:
    index = np.repeat(np.arange(len(rows.truth)), counts)
    return ScoredRows(
        rows.truth[index], rows.known[index], rows.logits[index], rows.decisions[index]
    )


def value_or_nan(metric: Callable[[ScoredRows], float], rows: ScoredRows) -> float:
    try:
        return metric(rows)
    except ValueError:
        return np.nan


def test_every_metric_of_a_comparison_is_compared_here():
    assert UNWEIGHTED.keys() == COMPARISON_METRICS.keys()


@pytest.mark.parametrize("name", COMPARISON_METRICS)
@settings(derandomize=True, deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), num_rows=st.integers(2, 25), num_classes=st.integers(1, 4))
def test_rows_of_weight_k_count_k_times(name: str, seed: int, num_rows: int, num_classes: int):
    rows = random_rows(seed, num_rows, num_classes)
    counts = np.random.default_rng(seed + 1).poisson(1, (5, num_rows))
    expected = [value_or_nan(UNWEIGHTED[name], repeated(rows, count)) for count in counts]
    values = COMPARISON_METRICS[name].compute(rows, counts)
    # Fits are computed on a grid of logits, to 3e-8 of a probability.
    tolerance = {"calibration_slope": 1e-5, "calibration_intercept": 1e-6}.get(name, 1e-12)
    np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", COMPARISON_METRICS)
def test_the_value_of_a_weighting_does_not_depend_on_the_others_beside_it(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    rows = random_rows(0, 50, 3)
    weights = np.random.default_rng(1).poisson(1, (7, 50))
    together = COMPARISON_METRICS[name].compute(rows, weights)
    monkeypatch.setattr("birdmix.metrics.weighted_metrics._CHUNK_VALUES", 100)
    np.testing.assert_allclose(COMPARISON_METRICS[name].compute(rows, weights), together, rtol=1e-9)


@pytest.mark.parametrize("name", COMPARISON_METRICS)
def test_a_weighting_without_rows_has_no_value(name: str):
    rows = random_rows(0, 20, 2)
    assert np.isnan(COMPARISON_METRICS[name].compute(rows, np.zeros((1, 20)))).all()


@pytest.mark.parametrize("name", COMPARISON_METRICS)
def test_a_metric_of_rows_without_known_labels_is_nan(name: str):
    rows = random_rows(0, 20, 2)
    unknown = ScoredRows(rows.truth, np.zeros_like(rows.known), rows.logits, rows.decisions)
    assert np.isnan(COMPARISON_METRICS[name].compute(unknown, np.ones((2, 20)))).all()


@pytest.mark.parametrize("name", ["macro_roc_auc", "padded_cmap", "macro_average_precision"])
def test_a_ranking_metric_of_fractional_weights_does_not_depend_on_their_scale(name: str):
    rows = random_rows(2, 30, 1)
    weights = np.random.default_rng(3).random((4, 30))
    compute = COMPARISON_METRICS[name].compute
    if name == "padded_cmap":  # the weight of the padding is given
        assert (compute(rows, 10 * weights) != compute(rows, weights)).all()
    else:
        np.testing.assert_allclose(compute(rows, 10 * weights), compute(rows, weights))


def test_a_class_that_loses_its_positives_is_left_out_of_that_mean_only():
    truth = np.array([[1, 0], [0, 1], [0, 0]], bool)
    logits = np.array([[2, 0], [1, 1], [0, 2.0]])  # areas 1 and 1/2
    rows = ScoredRows(truth, np.ones_like(truth), logits)
    weights = np.array([[1, 1, 1], [1, 0, 1]])
    np.testing.assert_allclose(
        COMPARISON_METRICS["macro_roc_auc"].compute(rows, weights), [0.75, 1]
    )


def test_macro_f1_without_decisions_is_refused():
    rows = random_rows(0, 5, 2)
    without = ScoredRows(rows.truth, rows.known, rows.logits)
    with pytest.raises(ValueError, match="macro F1: there are no decisions; fit thresholds"):
        COMPARISON_METRICS["macro_f1"].compute(without, np.ones((1, 5)))


def test_weights_of_another_shape_and_negative_weights_are_refused():
    rows = random_rows(0, 5, 2)
    for metric in COMPARISON_METRICS.values():
        with pytest.raises(ValueError, match=r"weights \(1, 4\) for 5 rows"):
            metric.compute(rows, np.ones((1, 4)))
        with pytest.raises(ValueError, match="a weight is negative or not finite"):
            metric.compute(rows, np.array([[1, 1, -1, 1, 1]]))


def test_rows_of_unequal_shapes_and_nan_logits_are_refused():
    truth = np.ones((3, 2), bool)
    with pytest.raises(ValueError, match="must have the same shape"):
        ScoredRows(truth, truth, np.zeros((3, 1)))
    with pytest.raises(ValueError, match="a prediction is NaN"):
        ScoredRows(truth, truth, np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match=r"decisions \(2, 2\) must have the shape of truth"):
        ScoredRows(truth, truth, np.zeros((3, 2)), truth[:2])

"""Metrics: hand-computed cases, agreement with scikit-learn, edge cases and errors."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from birdmix.metrics.birdclef_metrics import macro_balanced_accuracy, mean_row_f1
from birdmix.metrics.calibration import expected_calibration_error
from birdmix.metrics.eval_result import EvalResult
from birdmix.metrics.ranking import (
    average_precision_per_class,
    macro_average_precision,
    macro_roc_auc,
    padded_cmap,
    roc_auc_per_class,
    top1_accuracy,
)
from birdmix.metrics.threshold_metrics import (
    best_f1_thresholds,
    f1_per_class,
    macro_f1,
    precision_thresholds,
)
from birdmix.metrics.validation_metrics import compute_metrics, unmet_metric_requirements


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_roc_auc_is_the_fraction_of_pairs_in_order_ties_counting_half():
    truth, prediction = column(1, 0, 1, 0), column(0.9, 0.5, 0.5, 0.1)
    assert roc_auc_per_class(truth, prediction)[0] == pytest.approx(3.5 / 4)


def test_classes_without_positives_are_left_out_of_the_macro_mean():
    truth = np.array([[1, 0], [0, 0]])
    assert macro_roc_auc(truth, np.array([[0.9, 0.5], [0.1, 0.4]])) == 1.0


def test_a_class_of_positives_only_has_no_roc_auc():
    truth = np.array([[1, 1], [0, 1]])
    per_class = roc_auc_per_class(truth, np.array([[0.2, 0.5], [0.9, 0.4]]))
    assert per_class[0] == 0.0 and np.isnan(per_class[1])


def test_a_metric_without_a_class_to_score_raises_an_error():
    with pytest.raises(ValueError, match="nothing can be scored"):
        macro_roc_auc(np.zeros((3, 2)), np.zeros((3, 2)))


def test_padded_cmap_of_a_hand_computed_case():
    # With one row of ones appended the order is padding, negative, positive: precision 1 and 2/3.
    value = padded_cmap(column(0, 1), column(0.8, 0.3), num_padding=1)
    assert value == pytest.approx((1 + 2 / 3) / 2)


def test_padded_cmap_of_a_class_without_positives_is_1_if_all_predictions_are_below_1():
    assert padded_cmap(column(0, 0), column(0.9, 0.1)) == 1.0


def test_a_prediction_of_one_ties_with_the_padding():
    assert padded_cmap(column(0, 0), column(1.0, 0.1)) == pytest.approx(5 / 6)


def test_padded_cmap_of_one_row_and_without_known_rows():
    assert padded_cmap(column(1), column(0.3)) == 1
    with pytest.raises(ValueError, match="padded cmAP: no class has a known row"):
        padded_cmap(column(1), column(0.3), known=np.array([[False]]))


def test_top1_is_the_fraction_of_rows_whose_highest_class_is_positive():
    truth = np.array([[1, 0], [1, 0]])
    assert top1_accuracy(truth, np.array([[2.0, 1.0], [0.0, 1.0]])) == 0.5


@pytest.mark.parametrize(("shape", "what"), [((0, 3), "rows"), ((3, 0), "classes")])
def test_top1_of_an_empty_array_raises_an_error(shape: tuple[int, int], what: str):
    with pytest.raises(ValueError, match=f"top-1 accuracy: there are no {what}"):
        top1_accuracy(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("wrong", [0.4, np.nan, 2, -1])
@pytest.mark.parametrize(
    "metric", [macro_roc_auc, padded_cmap, top1_accuracy, macro_f1, best_f1_thresholds, mean_row_f1]
)
def test_truth_other_than_0_and_1_raises_an_error(metric: Callable, wrong: float):
    with pytest.raises(ValueError, match=rf"truth\[1, 0\] is {wrong}.* must be 0 or 1"):
        metric(column(1, wrong, 0), column(1, 0, 0))


def test_a_nan_prediction_raises_an_error():
    with pytest.raises(ValueError, match="a prediction is NaN"):
        macro_roc_auc(column(1, 0), column(np.nan, 0))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must have the same shape"):
        macro_roc_auc(column(1, 0), column(1, 0, 1))


def test_average_precision_of_a_hand_computed_case():
    # In order: a positive, a positive tied with a negative, a negative: precision 1 and 2/3.
    truth, prediction = column(1, 0, 1, 0), column(0.9, 0.5, 0.5, 0.1)
    assert average_precision_per_class(truth, prediction)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_ranking_metrics_agree_with_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((200, 20)) < 0.1, rng.random((200, 20)).round(1)
    roc_auc, precision = (
        roc_auc_per_class(truth, prediction),
        average_precision_per_class(truth, prediction),
    )
    for c in range(20):
        assert roc_auc[c] == pytest.approx(roc_auc_score(truth[:, c], prediction[:, c]), abs=1e-12)
        reference = average_precision_score(truth[:, c], prediction[:, c])
        assert precision[c] == pytest.approx(reference, abs=1e-12)


def test_a_single_row_has_an_average_precision_but_no_roc_auc():
    truth, prediction = np.array([[1, 0]]), np.array([[0.2, 0.9]])
    assert np.isnan(roc_auc_per_class(truth, prediction)).all()
    assert macro_average_precision(truth, prediction) == 1  # of the one class with a positive
    assert best_f1_thresholds(truth, prediction)[0] == 0.2
    with pytest.raises(ValueError, match="average precision: no class has positive rows"):
        macro_average_precision(np.zeros((1, 2)), prediction)


# ---- F1 and thresholds


def test_f1_counts_predictions_at_the_threshold_as_calls():
    truth, prediction = (
        column(1, 1, 1, 0),
        column(1.0, 0.5, 0.4, 0.5),
    )  # 3 calls, 2 hits, 3 positives
    assert f1_per_class(truth, prediction)[0] == pytest.approx(2 * 2 / (3 + 3))
    assert f1_per_class(truth, prediction, 1.0)[0] == pytest.approx(2 * 1 / (1 + 3))
    known = column(1, 1, 1, 0).astype(bool)
    assert f1_per_class(truth, prediction, known=known)[0] == pytest.approx(2 * 2 / (2 + 3))


def test_f1_agrees_with_scikit_learn_at_a_threshold_per_class():
    rng = np.random.default_rng(1)
    truth, prediction, thresholds = rng.random((50, 4)) < 0.3, rng.random((50, 4)), rng.random(4)
    reference = f1_score(truth, prediction >= thresholds, average="macro", zero_division=0)
    assert macro_f1(truth, prediction, thresholds) == pytest.approx(reference)


def test_f1_is_nan_without_positives_and_0_without_a_threshold():
    truth, prediction = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.9], [0.1, 0.1]])
    per_class = f1_per_class(truth, prediction, np.array([np.nan, 0.5]))
    assert per_class[0] == 0 and np.isnan(per_class[1])
    assert macro_f1(truth, prediction) == 1
    with pytest.raises(ValueError, match="macro F1: no class has positive rows"):
        macro_f1(np.zeros((2, 2)), prediction)


def test_the_best_f1_threshold_is_midway_between_two_predictions():
    # In order: positive, positive, negative, positive, negative: F1 2/4, 4/5, 4/6, 6/7, 6/8.
    truth, prediction = column(1, 1, 0, 1, 0), column(0.9, 0.8, 0.7, 0.6, 0.2)
    assert best_f1_thresholds(truth, prediction)[0] == pytest.approx(0.4)
    assert best_f1_thresholds(truth[:3], prediction[:3])[0] == pytest.approx(0.75)
    assert best_f1_thresholds(column(1, 1), column(0.9, 0.3))[0] == 0.3  # every row is called
    assert np.isnan(best_f1_thresholds(column(0, 0), column(0.9, 0.3))[0])


def test_no_threshold_has_a_better_f1_than_the_best_one():
    rng = np.random.default_rng(2)
    truth, prediction = rng.random((60, 3)) < 0.3, rng.random((60, 3)).round(1)
    best = f1_per_class(truth, prediction, best_f1_thresholds(truth, prediction))
    tried = [f1_per_class(truth, prediction, threshold) for threshold in np.linspace(0, 1, 101)]
    assert best == pytest.approx(np.max(tried, axis=0))


def test_tied_predictions_are_called_together_and_neighbouring_floats_apart():
    assert best_f1_thresholds(column(1, 0, 0), column(0.5, 0.5, 0.1))[0] == pytest.approx(0.3)
    above = np.nextafter(0.5, 1)
    assert best_f1_thresholds(column(1, 0), column(above, 0.5))[0] == above


def test_the_precision_threshold_is_the_lowest_that_reaches_the_target():
    # Precision from the highest prediction: 1, 1/2, 2/3, 3/4, 3/5.
    truth, prediction = column(1, 0, 1, 1, 0), column(0.9, 0.8, 0.7, 0.6, 0.2)
    assert precision_thresholds(truth, prediction, 0.75)[0] == pytest.approx(0.4)
    assert precision_thresholds(truth, prediction, 0.8)[0] == pytest.approx(0.85)
    assert precision_thresholds(truth, prediction, 0.5)[0] == 0.2
    assert np.isnan(precision_thresholds(column(0, 1), column(1.0, 0.5), 0.9)[0])  # never reached


# ---- calibration


def test_calibration_error_of_a_hand_computed_case():
    # Two bins: 0.2 and 0.4 with no positive, 0.7 and 1 with one; gaps 0.3 and 0.35, half each.
    truth, prediction = np.array([[0, 1], [0, 0]]), np.array([[0.2, 1.0], [0.4, 0.7]])
    assert expected_calibration_error(truth, prediction, num_bins=2) == pytest.approx(0.325)
    known = np.array([[True, True], [True, False]])
    value = expected_calibration_error(truth, prediction, known, num_bins=2)
    assert value == pytest.approx(2 / 3 * 0.3)


def test_probabilities_equal_to_frequencies_have_no_calibration_error():
    probability = np.repeat([0.1, 0.5, 0.9], 10)[:, None]
    truth = np.concatenate([np.arange(10) < hits for hits in (1, 5, 9)])[:, None]
    assert expected_calibration_error(truth, probability) == pytest.approx(0)
    assert expected_calibration_error(~truth, probability) == pytest.approx((0.8 + 0 + 0.8) / 3)


def test_calibration_error_needs_probabilities_and_known_labels():
    with pytest.raises(ValueError, match="predictions range from -3 to 2; pass probabilities"):
        expected_calibration_error(column(0, 1), column(-3, 2))
    with pytest.raises(ValueError, match="nothing is known"):
        expected_calibration_error(column(0, 1), column(0, 1), np.zeros((2, 1), bool))


# ---- BirdCLEF 2021 and 2022


def test_mean_row_f1_counts_an_empty_row_as_nocall():
    truth, decision = np.array([[1, 1], [0, 0], [0, 0]]), np.array([[1, 0], [0, 0], [0, 1]])
    assert mean_row_f1(truth, decision) == pytest.approx((2 / 3 + 1 + 0) / 3)

    def with_nocall(sets: np.ndarray) -> np.ndarray:
        return np.c_[sets, ~sets.any(axis=1)]

    assert mean_row_f1(with_nocall(truth), with_nocall(decision)) == mean_row_f1(truth, decision)
    with pytest.raises(ValueError, match="there are no rows"):
        mean_row_f1(truth[:0], decision[:0])


def test_macro_balanced_accuracy_of_a_species_with_one_class_only_is_the_rate_it_has():
    truth = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0]])
    decision = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0]])
    # (1 + 1/2) / 2; a third of positives only; two thirds of negatives only
    assert macro_balanced_accuracy(truth, decision) == pytest.approx((3 / 4 + 1 / 3 + 2 / 3) / 3)


def test_macro_balanced_accuracy_leaves_out_unknown_labels():
    truth, decision = np.array([[1, 1], [0, 0]]), np.array([[1, 0], [0, 0]])
    known = np.array([[True, False], [True, False]])
    assert macro_balanced_accuracy(truth, decision, known) == 1
    with pytest.raises(ValueError, match="weighted accuracy: no class has a scored row"):
        macro_balanced_accuracy(truth, decision, np.zeros_like(known))


def test_decisions_other_than_0_and_1_raise_an_error():
    truth, prediction = np.array([[1, 0]]), np.array([[0.7, 0.2]])
    for metric in (mean_row_f1, macro_balanced_accuracy):
        with pytest.raises(ValueError, match=r"decision\[0, 0\] is 0.7; it must be 0 or 1"):
            metric(truth, prediction)
    assert macro_balanced_accuracy(truth, np.array([[1, 0.2]]), np.array([[True, False]])) == 1


# ---- unknown labels


def test_the_truth_of_unknown_labels_may_have_any_value():
    truth, prediction = column(1, 0.4, np.nan, 0), column(0.9, 0.5, 0.5, 0.1)
    known = column(1, 0, 0, 1)
    assert (
        macro_roc_auc(truth, prediction, known) == padded_cmap(truth, prediction, known=known) == 1
    )
    assert expected_calibration_error(truth, prediction, known) == pytest.approx(0.1)


def test_unknown_labels_are_left_out_per_class():
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((50, 3)) < 0.4, rng.random((50, 3))
    known = rng.random((50, 3)) < 0.7
    per_class = roc_auc_per_class(truth, prediction, known)
    for c in range(3):
        rows = known[:, c]
        known_only = roc_auc_per_class(truth[rows, c : c + 1], prediction[rows, c : c + 1])
        assert per_class[c] == known_only[0]
    assert macro_roc_auc(truth, prediction, known) == pytest.approx(per_class.mean())
    flipped_unknown = np.where(known, truth, ~truth)
    assert padded_cmap(flipped_unknown, prediction, known=known) == padded_cmap(
        truth, prediction, known=known
    )
    assert padded_cmap(truth, prediction, known=np.ones_like(known)) == padded_cmap(
        truth, prediction
    )


def test_metrics_of_an_eval_data_set_leave_out_unknown_labels():
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1.0]])
    logits = np.array([[2, -1], [-2, 1], [1, 9], [-1, 3.0]])  # the 9 is a large error
    known = np.ones((4, 2), bool)
    all_known = compute_metrics(EvalResult("v", truth, known, logits))
    assert all_known["v_macro_roc_auc"] < 1 and all_known["v_top1_accuracy"] == 0.75
    known[2, 1] = False
    metrics = compute_metrics(EvalResult("v", truth, known, logits))
    assert metrics["v_macro_roc_auc"] == 1 and metrics["v_top1_accuracy"] == 1
    assert metrics["v_padded_cmap"] == 1 and metrics["v_loss"] < all_known["v_loss"] / 3
    assert metrics["v_macro_f1"] == 1 > all_known["v_macro_f1"]
    assert metrics["v_macro_average_precision"] == 1 > all_known["v_macro_average_precision"]
    assert metrics["v_calibration_error"] < all_known["v_calibration_error"]


def test_a_metric_without_a_scored_class_is_left_out_with_the_reason():
    no_positives = EvalResult("v", np.zeros((3, 2)), np.ones((3, 2), bool), np.zeros((3, 2)))
    assert compute_metrics(no_positives) == {
        "v_loss": pytest.approx(np.log(2)),
        "v_calibration_error": pytest.approx(0.5),
    }
    unmet = unmet_metric_requirements(no_positives)
    assert unmet["v_macro_roc_auc"] == "a class with both positive and negative examples"
    assert unmet["v_macro_f1"] == "a class with positive examples" and not unmet["v_loss"]
    assert {name for name, requirement in unmet.items() if not requirement} == set(
        compute_metrics(no_positives)
    )

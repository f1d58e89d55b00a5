"""Metrics against hand-computed cases, and their edges."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from birdmix.metrics.birdclef import row_f1, weighted_accuracy
from birdmix.metrics.calibration import expected_calibration_error
from birdmix.metrics.decisions import (
    best_f1_thresholds,
    f1_per_class,
    macro_f1,
    precision_thresholds,
)
from birdmix.metrics.ranking import (
    average_precision_per_class,
    macro_average_precision,
    macro_roc_auc,
    padded_cmap,
    roc_auc_per_class,
    top1_accuracy,
)
from birdmix.training.judged import Judged


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_roc_auc_counts_pairs_in_order_and_ties_by_half():
    truth, score = column(1, 0, 1, 0), column(0.9, 0.5, 0.5, 0.1)
    assert roc_auc_per_class(truth, score)[0] == pytest.approx(3.5 / 4)


def test_classes_without_positives_are_left_out_of_the_macro_mean():
    truth = np.array([[1, 0], [0, 0]])
    assert macro_roc_auc(truth, np.array([[0.9, 0.5], [0.1, 0.4]])) == 1.0


def test_a_class_of_positives_only_has_no_curve():
    truth = np.array([[1, 1], [0, 1]])
    per_class = roc_auc_per_class(truth, np.array([[0.2, 0.5], [0.9, 0.4]]))
    assert per_class[0] == 0.0 and np.isnan(per_class[1])


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="nothing can be scored"):
        macro_roc_auc(np.zeros((3, 2)), np.zeros((3, 2)))


def test_padded_cmap_of_a_hand_computed_case():
    # With one row of ones appended the order is: padding, miss, hit; precision at hits 1 and 2/3.
    value = padded_cmap(column(0, 1), column(0.8, 0.3), num_padding=1)
    assert value == pytest.approx((1 + 2 / 3) / 2)


def test_padded_cmap_of_a_class_without_positives_is_one_below_one():
    assert padded_cmap(column(0, 0), column(0.9, 0.1)) == 1.0


def test_a_score_of_one_ties_with_the_padding():
    assert padded_cmap(column(0, 0), column(1.0, 0.1)) == pytest.approx(5 / 6)


def test_padded_cmap_of_one_row_and_of_nothing_known():
    assert padded_cmap(column(1), column(0.3)) == 1
    with pytest.raises(ValueError, match="padded cmAP: no class has a known row"):
        padded_cmap(column(1), column(0.3), known=np.array([[False]]))


def test_top1_counts_rows_whose_best_class_is_true():
    truth = np.array([[1, 0], [1, 0]])
    assert top1_accuracy(truth, np.array([[2.0, 1.0], [0.0, 1.0]])) == 0.5


@pytest.mark.parametrize(("shape", "what"), [((0, 3), "rows"), ((3, 0), "classes")])
def test_top1_of_nothing_is_told(shape: tuple[int, int], what: str):
    with pytest.raises(ValueError, match=f"top-1 accuracy: there are no {what}"):
        top1_accuracy(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("wrong", [0.4, np.nan, 2, -1])
@pytest.mark.parametrize(
    "metric", [macro_roc_auc, padded_cmap, top1_accuracy, macro_f1, best_f1_thresholds, row_f1]
)
def test_truth_that_is_neither_0_nor_1_is_refused(metric: Callable, wrong: float):
    with pytest.raises(ValueError, match=rf"truth\[1, 0\] is {wrong}.* must be 0 or 1"):
        metric(column(1, wrong, 0), column(1, 0, 0))


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        macro_roc_auc(column(1, 0), column(np.nan, 0))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must be alike"):
        macro_roc_auc(column(1, 0), column(1, 0, 1))


def test_average_precision_of_a_hand_computed_case():
    # In order: hit, two tied rows of which one hits, miss; precision 1 and, for the tie, 2/3.
    truth, score = column(1, 0, 1, 0), column(0.9, 0.5, 0.5, 0.1)
    assert average_precision_per_class(truth, score)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_ranking_agrees_with_scikit_learn_ties_and_all():
    rng = np.random.default_rng(0)
    truth, score = rng.random((200, 20)) < 0.1, rng.random((200, 20)).round(1)
    roc_auc, precision = roc_auc_per_class(truth, score), average_precision_per_class(truth, score)
    for c in range(20):
        assert roc_auc[c] == pytest.approx(roc_auc_score(truth[:, c], score[:, c]), abs=1e-12)
        reference = average_precision_score(truth[:, c], score[:, c])
        assert precision[c] == pytest.approx(reference, abs=1e-12)


def test_a_single_row_has_a_precision_but_no_curve():
    truth, score = np.array([[1, 0]]), np.array([[0.2, 0.9]])
    assert np.isnan(roc_auc_per_class(truth, score)).all()
    assert macro_average_precision(truth, score) == 1  # of the one class with a positive
    assert best_f1_thresholds(truth, score)[0] == 0.2
    with pytest.raises(ValueError, match="average precision: no class has positive rows"):
        macro_average_precision(np.zeros((1, 2)), score)


# ---- decisions


def test_f1_counts_scores_at_a_threshold_as_calls():
    truth, score = column(1, 1, 1, 0), column(1.0, 0.5, 0.4, 0.5)  # 3 calls, 2 hits, 3 positives
    assert f1_per_class(truth, score)[0] == pytest.approx(2 * 2 / (3 + 3))
    assert f1_per_class(truth, score, 1.0)[0] == pytest.approx(2 * 1 / (1 + 3))
    known = column(1, 1, 1, 0).astype(bool)
    assert f1_per_class(truth, score, known=known)[0] == pytest.approx(2 * 2 / (2 + 3))


def test_f1_agrees_with_scikit_learn_at_a_threshold_per_class():
    rng = np.random.default_rng(1)
    truth, score, thresholds = rng.random((50, 4)) < 0.3, rng.random((50, 4)), rng.random(4)
    reference = f1_score(truth, score >= thresholds, average="macro", zero_division=0)
    assert macro_f1(truth, score, thresholds) == pytest.approx(reference)


def test_a_class_without_positives_has_no_f1_and_one_without_threshold_is_never_called():
    truth, score = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.9], [0.1, 0.1]])
    per_class = f1_per_class(truth, score, np.array([np.nan, 0.5]))
    assert per_class[0] == 0 and np.isnan(per_class[1])
    assert macro_f1(truth, score) == 1
    with pytest.raises(ValueError, match="macro F1: no class has positive rows"):
        macro_f1(np.zeros((2, 2)), score)


def test_the_best_f1_threshold_stands_midway_between_scores():
    # Calls from the top hit, hit, miss, hit, miss: F1 2/4, 4/5, 4/6, 6/7, 6/8.
    truth, score = column(1, 1, 0, 1, 0), column(0.9, 0.8, 0.7, 0.6, 0.2)
    assert best_f1_thresholds(truth, score)[0] == pytest.approx(0.4)
    assert best_f1_thresholds(truth[:3], score[:3])[0] == pytest.approx(0.75)
    assert best_f1_thresholds(column(1, 1), column(0.9, 0.3))[0] == 0.3  # every row is called
    assert np.isnan(best_f1_thresholds(column(0, 0), column(0.9, 0.3))[0])


def test_no_threshold_has_a_better_f1_than_the_best_one():
    rng = np.random.default_rng(2)
    truth, score = rng.random((60, 3)) < 0.3, rng.random((60, 3)).round(1)
    best = f1_per_class(truth, score, best_f1_thresholds(truth, score))
    tried = [f1_per_class(truth, score, threshold) for threshold in np.linspace(0, 1, 101)]
    assert best == pytest.approx(np.max(tried, axis=0))


def test_tied_scores_are_called_together_and_neighbouring_floats_apart():
    assert best_f1_thresholds(column(1, 0, 0), column(0.5, 0.5, 0.1))[0] == pytest.approx(0.3)
    above = np.nextafter(0.5, 1)
    assert best_f1_thresholds(column(1, 0), column(above, 0.5))[0] == above


def test_the_precision_threshold_is_the_lowest_that_reaches_the_target():
    # Precision from the top: 1, 1/2, 2/3, 3/4, 3/5.
    truth, score = column(1, 0, 1, 1, 0), column(0.9, 0.8, 0.7, 0.6, 0.2)
    assert precision_thresholds(truth, score, 0.75)[0] == pytest.approx(0.4)
    assert precision_thresholds(truth, score, 0.8)[0] == pytest.approx(0.85)
    assert precision_thresholds(truth, score, 0.5)[0] == 0.2
    assert np.isnan(precision_thresholds(column(0, 1), column(1.0, 0.5), 0.9)[0])  # never reached


# ---- calibration


def test_calibration_error_of_a_hand_computed_case():
    # Two bins: 0.2 and 0.4 with no positive, 0.7 and 1 with one; gaps 0.3 and 0.35, half each.
    truth, score = np.array([[0, 1], [0, 0]]), np.array([[0.2, 1.0], [0.4, 0.7]])
    assert expected_calibration_error(truth, score, num_bins=2) == pytest.approx(0.325)
    known = np.array([[True, True], [True, False]])
    value = expected_calibration_error(truth, score, known, num_bins=2)
    assert value == pytest.approx(2 / 3 * 0.3)


def test_probabilities_that_mean_what_they_say_have_no_calibration_error():
    score = np.repeat([0.1, 0.5, 0.9], 10)[:, None]
    truth = np.concatenate([np.arange(10) < hits for hits in (1, 5, 9)])[:, None]
    assert expected_calibration_error(truth, score) == pytest.approx(0)
    assert expected_calibration_error(~truth, score) == pytest.approx((0.8 + 0 + 0.8) / 3)


def test_what_is_no_probability_has_no_calibration():
    with pytest.raises(ValueError, match="-3 and 2 are no probabilities"):
        expected_calibration_error(column(0, 1), column(-3, 2))
    with pytest.raises(ValueError, match="nothing is known"):
        expected_calibration_error(column(0, 1), column(0, 1), np.zeros((2, 1), bool))


# ---- the years of decisions


def test_row_f1_takes_an_empty_row_for_nocall():
    truth, decided = np.array([[1, 1], [0, 0], [0, 0]]), np.array([[1, 0], [0, 0], [0, 1]])
    assert row_f1(truth, decided) == pytest.approx((2 / 3 + 1 + 0) / 3)

    def with_nocall(sets: np.ndarray) -> np.ndarray:
        return np.c_[sets, ~sets.any(axis=1)]

    assert row_f1(with_nocall(truth), with_nocall(decided)) == row_f1(truth, decided)
    with pytest.raises(ValueError, match="there are no rows"):
        row_f1(truth[:0], decided[:0])


def test_weighted_accuracy_takes_the_rate_that_a_species_has():
    truth = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0]])
    decided = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0]])
    # (1 + 1/2) / 2; a third of positives only; two thirds of negatives only
    assert weighted_accuracy(truth, decided) == pytest.approx((3 / 4 + 1 / 3 + 2 / 3) / 3)


def test_weighted_accuracy_leaves_out_what_is_not_scored():
    truth, decided = np.array([[1, 1], [0, 0]]), np.array([[1, 0], [0, 0]])
    known = np.array([[True, False], [True, False]])
    assert weighted_accuracy(truth, decided, known) == 1
    with pytest.raises(ValueError, match="weighted accuracy: no class has a scored row"):
        weighted_accuracy(truth, decided, np.zeros_like(known))


def test_decisions_that_are_neither_0_nor_1_are_refused():
    truth, score = np.array([[1, 0]]), np.array([[0.7, 0.2]])
    for metric in (row_f1, weighted_accuracy):
        with pytest.raises(ValueError, match=r"decided\[0, 0\] is 0.7; it must be 0 or 1"):
            metric(truth, score)
    assert weighted_accuracy(truth, np.array([[1, 0.2]]), np.array([[True, False]])) == 1


# ---- what is not known


def test_what_is_not_known_may_hold_anything():
    truth, score = column(1, 0.4, np.nan, 0), column(0.9, 0.5, 0.5, 0.1)
    known = column(1, 0, 0, 1)
    assert macro_roc_auc(truth, score, known) == padded_cmap(truth, score, known=known) == 1
    assert expected_calibration_error(truth, score, known) == pytest.approx(0.1)


def test_what_is_not_known_is_as_if_its_row_was_not_there():
    rng = np.random.default_rng(0)
    truth, score = rng.random((50, 3)) < 0.4, rng.random((50, 3))
    known = rng.random((50, 3)) < 0.7
    per_class = roc_auc_per_class(truth, score, known)
    for c in range(3):
        rows = known[:, c]
        alone = roc_auc_per_class(truth[rows, c : c + 1], score[rows, c : c + 1])
        assert per_class[c] == alone[0]
    assert macro_roc_auc(truth, score, known) == pytest.approx(per_class.mean())
    spoilt = np.where(known, truth, ~truth)
    assert padded_cmap(spoilt, score, known=known) == padded_cmap(truth, score, known=known)
    assert padded_cmap(truth, score, known=np.ones_like(known)) == padded_cmap(truth, score)


def test_figures_of_a_validation_set_leave_out_what_is_not_known():
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1.0]])
    logits = np.array([[2, -1], [-2, 1], [1, 9], [-1, 3.0]])  # the 9 would be a grave error
    known = np.ones((4, 2), bool)
    whole = Judged("v", truth, known, logits).metrics()
    assert whole["v_macro_roc_auc"] < 1 and whole["v_top1_accuracy"] == 0.75
    known[2, 1] = False
    figures = Judged("v", truth, known, logits).metrics()
    assert figures["v_macro_roc_auc"] == 1 and figures["v_top1_accuracy"] == 1
    assert figures["v_padded_cmap"] == 1 and figures["v_loss"] < whole["v_loss"] / 3
    assert figures["v_macro_f1"] == 1 > whole["v_macro_f1"]
    assert figures["v_macro_average_precision"] == 1 > whole["v_macro_average_precision"]
    assert figures["v_calibration_error"] < whole["v_calibration_error"]


def test_a_figure_without_a_scored_class_is_left_out_and_says_what_it_lacks():
    silent = Judged("v", np.zeros((3, 2)), np.ones((3, 2), bool), np.zeros((3, 2)))
    assert silent.metrics() == {
        "v_loss": pytest.approx(np.log(2)),
        "v_calibration_error": pytest.approx(0.5),
    }
    lacking = silent.lacking()
    assert lacking["v_macro_roc_auc"] == "a class with both positive and negative rows"
    assert lacking["v_macro_f1"] == "a class with positive rows" and not lacking["v_loss"]
    assert {name for name, lacks in lacking.items() if not lacks} == set(silent.metrics())

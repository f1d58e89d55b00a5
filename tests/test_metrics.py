"""Metrics against hand-computed cases, and their edges."""

import numpy as np
import pytest

from birdmix.metrics.ranking import (
    macro_roc_auc,
    padded_cmap,
    roc_auc_per_class,
    top1_accuracy,
)


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


def test_top1_counts_rows_whose_best_class_is_true():
    truth = np.array([[1, 0], [1, 0]])
    assert top1_accuracy(truth, np.array([[2.0, 1.0], [0.0, 1.0]])) == 0.5


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        macro_roc_auc(column(1, 0), column(np.nan, 0))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must be alike"):
        macro_roc_auc(column(1, 0), column(1, 0, 1))


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
    from birdmix.training.validate import Judged

    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1.0]])
    logits = np.array([[2, -1], [-2, 1], [1, 9], [-1, 3.0]])  # the 9 would be a grave error
    known = np.ones((4, 2), bool)
    whole = Judged("v", truth, known, logits).metrics()
    assert whole["v_macro_roc_auc"] < 1 and whole["v_top1_accuracy"] == 0.75
    known[2, 1] = False
    figures = Judged("v", truth, known, logits).metrics()
    assert figures["v_macro_roc_auc"] == 1 and figures["v_top1_accuracy"] == 1
    assert figures["v_padded_cmap"] == 1 and figures["v_loss"] < whole["v_loss"] / 3

"""Paired differences: hand-computed cases, and proofs on score tables without any difference."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, norm, t, ttest_1samp

from birdmix.metrics.paired_statistics import (
    Difference,
    bootstrap_difference,
    group_counts,
    holm,
    jackknife_difference,
    jackknife_weights,
    student_difference,
)
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS
from tests.score_tables import draw_table

# ---- Student


def test_students_interval_of_a_hand_computed_case():
    # Mean 2, standard deviation 1, t of 2 degrees of freedom 4.302653.
    difference = student_difference(np.array([1.0, 2.0, 3.0]))
    margin = 4.302653 / np.sqrt(3)
    assert difference[:3] == pytest.approx((2, 2 - margin, 2 + margin))
    assert difference.p == pytest.approx(ttest_1samp([1, 2, 3], 0).pvalue)
    assert (difference.num, difference.method) == (3, "student")


def test_one_replicate_has_a_difference_but_no_interval():
    difference = student_difference(np.array([0.5]))
    assert difference.mean == 0.5 and np.isnan(difference[1:4]).all()


def test_equal_arms_have_no_difference_and_equal_differences_no_interval():
    assert student_difference(np.zeros(3))[:4] == (0, 0, 0, 1)
    equal = student_difference(np.array([0.3, 0.1 + 0.2, 0.3]))  # not equal as floats
    assert equal.mean == pytest.approx(0.3) and np.isnan(equal[1:4]).all()


def test_an_undefined_replicate_leaves_the_difference_undefined():
    assert np.isnan(student_difference(np.array([0.1, np.nan, 0.2]))[:4]).all()


def test_no_replicates_are_refused():
    with pytest.raises(ValueError, match="there are no replicates"):
        student_difference(np.empty(0))


# ---- bootstrap


def test_the_percentiles_are_those_of_hesterberg():
    resampled = np.random.default_rng(0).permutation(np.linspace(0, 1, 10_001))
    for num_groups in (6, 24, 1000):
        difference = bootstrap_difference(0.5, resampled, num_groups)
        widening = np.sqrt(num_groups / (num_groups - 1))
        tail = norm.cdf(-widening * t.ppf(0.975, num_groups - 1))
        assert (difference.low, difference.high) == pytest.approx((tail, 1 - tail))
    assert difference.low == pytest.approx(0.025, abs=1e-3)  # of many groups


def test_normal_resamples_have_about_students_p_value():
    # Resampling n groups gives the spread sd sqrt((n - 1) / n): then both are the same.
    num_groups, mean = 12, 0.9
    normal = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    resampled = mean + np.sqrt((num_groups - 1) / num_groups) * 0.4 * normal
    difference = bootstrap_difference(mean, resampled, num_groups)
    assert difference.p == pytest.approx(2 * t.sf(mean / 0.4, num_groups - 1), rel=0.02)


@pytest.mark.parametrize("num_groups", [6, 10, 24, 500])
def test_p_is_below_5_percent_exactly_where_0_lies_outside_the_interval(num_groups: int):
    rng = np.random.default_rng(1)
    resampled = rng.normal(size=1000).round(2)  # with ties
    base = bootstrap_difference(0.0, resampled, num_groups)
    ends = [shift - end for end in (base.low, base.high) for shift in (-1e-6, 1e-6)]
    excluded = set()
    for shift in [*ends, *np.linspace(-5, 5, 101)]:
        difference = bootstrap_difference(shift, resampled + shift, num_groups)
        is_outside = not difference.low <= 0 <= difference.high
        assert (difference.p < 0.05) == is_outside
        excluded.add(is_outside)
    assert excluded == {False, True}


def test_p_falls_as_the_resamples_move_away_from_0():
    resampled = np.random.default_rng(2).normal(size=2000)
    p_values = [bootstrap_difference(0, resampled + s, 20).p for s in np.linspace(0, 5, 30)]
    assert (np.diff(p_values) <= 0).all() and p_values[0] > 0.9
    # No resample lies beyond 0: as if one in 2,001 did.
    tail = norm.ppf(1 / 2001) / np.sqrt(20 / 19)
    assert p_values[-1] == pytest.approx(2 * t.cdf(tail, 19))


def test_the_p_value_of_a_difference_and_of_its_opposite_are_equal():
    resampled = np.random.default_rng(3).normal(0.7, 1, 1500).round(1)
    one, other = bootstrap_difference(0.7, resampled, 9), bootstrap_difference(-0.7, -resampled, 9)
    assert one.p == pytest.approx(other.p) and one.low == pytest.approx(-other.high)


def test_resamples_that_are_all_0_show_no_difference():
    assert bootstrap_difference(0.0, np.zeros(1000), 20)[:4] == (0, 0, 0, 1)


def test_few_undefined_resamples_are_left_out_and_many_leave_no_interval():
    resampled = np.random.default_rng(4).normal(size=2000)
    without = bootstrap_difference(0.0, resampled[100:], 20)
    resampled[:100] = np.nan
    assert bootstrap_difference(0.0, resampled, 20)[1:3] == without[1:3]
    resampled[100] = np.nan
    assert np.isnan(bootstrap_difference(0.0, resampled, 20)[1:4]).all()


def test_fewer_than_6_groups_have_no_interval_and_too_few_resamples_are_refused():
    resampled = np.random.default_rng(5).normal(size=1000)
    assert np.isnan(bootstrap_difference(0.1, resampled, 5)[1:4]).all()
    assert bootstrap_difference(0.1, resampled, 5).mean == 0.1
    with pytest.raises(ValueError, match="999 resamples; a bootstrap needs 1,000 or more"):
        bootstrap_difference(0.1, resampled[1:], 24)


# ---- jackknife


def brier_difference(arm: np.ndarray, control: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean difference of the errors of two arms, [R]."""
    return weights @ (arm - control) / weights.sum(axis=1)


def test_the_jackknife_of_rows_that_are_groups_of_their_own_is_students():
    arm, control = np.random.default_rng(0).random((2, 20))
    weights = jackknife_weights([(n,) for n in range(20)], 20)
    difference = jackknife_difference(brier_difference(arm, control, weights))
    expected = student_difference(arm - control)
    assert difference[:4] == pytest.approx(expected[:4], rel=1e-3)
    assert (difference.num, difference.method) == (20, "jackknife")


def test_a_row_of_two_groups_counts_for_both_of_them():
    # Six groups of one row each, and a row of error 7 that belongs to the groups 0 and 1: the
    # influence of a group is the sum over its rows of (error - 1) / 7.
    errors = np.array([0, 0, 0, 0, 0, 0, 7.0])
    weights = jackknife_weights([*((n,) for n in range(6)), (0, 1)], 6)
    difference = jackknife_difference(brier_difference(errors, np.zeros(7), weights))
    influence = np.array([5, 5, -1, -1, -1, -1]) / 7
    error = np.sqrt(6) * influence.std(ddof=1)
    assert difference.mean == pytest.approx(1)
    assert difference.high == pytest.approx(1 + t.ppf(0.975, 5) * error, rel=1e-3)


def test_the_jackknife_agrees_with_the_bootstrap_where_a_row_has_one_group():
    table = draw_table(np.random.default_rng(3), gains=(1.5, 2.0), num_groups=60, num_rows=240)
    compute = COMPARISON_METRICS["macro_roc_auc"].compute
    counts = group_counts(60, 2000, np.random.default_rng(4))

    def values(weights: np.ndarray) -> np.ndarray:
        return compute(table.arms[1], weights) - compute(table.arms[0], weights)

    jackknife = jackknife_difference(values(jackknife_weights(table.groups_of_rows, 60)))
    resampled = values(counts[:, [group for (group,) in table.groups_of_rows]])
    bootstrap = bootstrap_difference(jackknife.mean, resampled, 60)
    width = jackknife.high - jackknife.low
    assert bootstrap.high - bootstrap.low == pytest.approx(width, rel=0.1)
    assert bootstrap.low == pytest.approx(jackknife.low, abs=0.1 * width)


def test_a_jackknife_of_few_groups_or_undefined_values_has_no_interval():
    assert np.isnan(jackknife_difference(np.full(6, 0.1))[1:4]).all()
    values = np.append(np.full(9, 0.1), np.nan)
    assert jackknife_difference(values).mean == 0.1
    assert np.isnan(jackknife_difference(values)[1:4]).all()
    assert np.isnan(jackknife_difference(np.full(10, 0.1))[1:4]).all()
    assert jackknife_difference(np.zeros(10))[:4] == (0, 0, 0, 1)


# ---- groups


def test_a_resample_draws_as_many_groups_as_there_are_with_replacement():
    counts = group_counts(8, 4000, np.random.default_rng(0))
    assert counts.shape == (4000, 8) and (counts.sum(axis=1) == 8).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.08)  # 5 standard errors
    assert counts.var() == pytest.approx(1 - 1 / 8, abs=0.05)


@pytest.mark.parametrize("groups", [(), (1, 1)])
def test_a_row_without_a_group_or_with_one_twice_is_refused(groups: tuple[int, ...]):
    with pytest.raises(ValueError, match="row 1 has the groups .*; it needs one or more, each"):
        jackknife_weights([(0,), groups], 2)


# ---- Holm


def test_holm_of_a_hand_computed_case():
    # In order: 0.01 x 4, 0.02 x 3, 0.025 x 2 raised to the one before, 0.5 x 1.
    adjusted = holm(np.array([0.5, 0.01, 0.025, 0.02]))
    assert adjusted == pytest.approx([0.5, 0.04, 0.06, 0.06])


def test_holm_limits_p_to_1_and_leaves_a_single_one_as_it_is():
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert holm(np.array([0.03])).tolist() == [0.03]


def test_arms_that_were_not_tested_stay_nan_and_do_not_count_for_holm():
    adjusted = holm(np.array([np.nan, 0.01, np.nan, 0.02]))
    assert np.isnan(adjusted[[0, 2]]).all() and adjusted[[1, 3]] == pytest.approx([0.02, 0.02])
    assert np.isnan(holm(np.full(2, np.nan))).all()


# ---- proofs on simulated score tables

METRICS = ("macro_roc_auc", "brier_score")
CASES = {
    "24 groups": {"num_groups": 24},
    "24 groups, 2 to 4 a row": {"num_groups": 24, "groups_per_row": (2, 4)},
    "24 groups, 13 arms": {"num_groups": 24, "num_rows": 48, "num_arms": 13},
}


def student_over_replicates(
    seed: int, metric: str, num_replicates: int, **options
) -> list[Difference]:
    """Compare all arms with the first one over replicates, each with data of its own."""
    rng = np.random.default_rng(seed)
    compute, values = COMPARISON_METRICS[metric].compute, []
    for _ in range(num_replicates):
        arms = draw_table(rng, num_groups=12, num_rows=36, **options).arms
        values.append([compute(rows, np.ones((1, 36)))[0] for rows in arms])
    differences = np.array(values).T
    return [student_difference(each - differences[0]) for each in differences[1:]]


def bootstrap_over_groups(seed: int, metric: str, **options) -> list[Difference]:
    """Compare all arms with the first one by resamples of the groups of one table."""
    rng = np.random.default_rng(seed)
    table, compute = draw_table(rng, **options), COMPARISON_METRICS[metric].compute
    counts = group_counts(options["num_groups"], 1000, rng)
    # Before the resamples, the rows as they are.
    weights = np.vstack([np.ones_like(counts[:1]), counts])
    weights = weights[:, [group for (group,) in table.groups_of_rows]]
    values = [compute(rows, weights) for rows in table.arms]
    differences = [each - values[0] for each in values[1:]]
    return [bootstrap_difference(d[0], d[1:], options["num_groups"]) for d in differences]


def jackknife_over_groups(seed: int, metric: str, **options) -> list[Difference]:
    """Compare all arms with the first one by the jackknife over the groups of one table."""
    table = draw_table(np.random.default_rng(seed), **options)
    weights = jackknife_weights(table.groups_of_rows, options["num_groups"])
    values = [COMPARISON_METRICS[metric].compute(rows, weights) for rows in table.arms]
    return [jackknife_difference(each - values[0]) for each in values[1:]]


def rate_of_claims(compare: Callable[[int], list[Difference]], num_tables: int) -> float:
    """Return the share of tables in which any arm is called different, after Holm."""
    claims = [
        bool((holm(np.array([d.p for d in compare(seed)])) < 0.05).any())
        for seed in range(num_tables)
    ]
    return float(np.mean(claims))


def limit_of_claims(rate: float, num_tables: int) -> float:
    """Return the share that chance exceeds at most once in 10,000 times at the true rate."""
    return float(binom.isf(1e-4, num_tables, rate) / num_tables)


@pytest.mark.parametrize("metric", METRICS)
def test_student_rarely_calls_equal_arms_different(metric: str):
    rate = rate_of_claims(lambda seed: student_over_replicates(seed, metric, 3), 200)
    assert rate <= limit_of_claims(0.065, 200)


@pytest.mark.parametrize("metric", METRICS)
def test_the_bootstrap_rarely_calls_equal_arms_different(metric: str):
    rate = rate_of_claims(
        lambda seed: bootstrap_over_groups(seed, metric, num_groups=24, num_rows=48), 200
    )
    assert rate <= limit_of_claims(0.08, 200)


@pytest.mark.parametrize("metric", METRICS)
def test_the_jackknife_rarely_calls_equal_arms_different(metric: str):
    options = {"num_groups": 24, "num_rows": 48, "groups_per_row": (2, 4)}
    rate = rate_of_claims(lambda seed: jackknife_over_groups(seed, metric, **options), 200)
    assert rate <= limit_of_claims(0.08, 200)


@pytest.mark.slow
@pytest.mark.parametrize(("num_replicates", "num_arms"), [(3, 2), (5, 2), (5, 13)])
@pytest.mark.parametrize("metric", METRICS)
def test_student_calls_at_most_6_5_percent_of_2000_tables_without_a_difference_different(
    metric: str, num_replicates: int, num_arms: int
):
    rate = rate_of_claims(
        lambda seed: student_over_replicates(seed, metric, num_replicates, num_arms=num_arms), 2000
    )
    assert rate <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if "a row" not in case])
@pytest.mark.parametrize("metric", METRICS)
def test_the_bootstrap_calls_at_most_8_percent_of_2000_tables_without_a_difference_different(
    metric: str, case: str
):
    rate = rate_of_claims(lambda seed: bootstrap_over_groups(seed, metric, **CASES[case]), 2000)
    assert rate <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, "10 groups, 2 to 4 a row"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_jackknife_calls_at_most_8_percent_of_2000_tables_without_a_difference_different(
    metric: str, case: str
):
    options = {
        **CASES,
        "10 groups, 2 to 4 a row": {"num_groups": 10, "num_rows": 60, "groups_per_row": (2, 4)},
    }[case]
    rate = rate_of_claims(lambda seed: jackknife_over_groups(seed, metric, **options), 2000)
    assert rate <= 0.08


def expected_difference(metric: str, **options) -> float:
    """Return the difference between two arms on many tables of the same kind."""
    compute = COMPARISON_METRICS[metric].compute
    one = np.ones((1, 96))
    tables = (draw_table(np.random.default_rng([1, n]), **options) for n in range(500))
    return float(
        np.mean([np.diff([compute(rows, one)[0] for rows in table.arms]) for table in tables])
    )


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("compare", "groups_per_row", "least", "most"),
    # 95 % has a standard error of 1 %. Rows of several groups make intervals too wide.
    [
        (bootstrap_over_groups, (1, 1), 0.91, 0.99),
        (jackknife_over_groups, (1, 1), 0.91, 0.99),
        (jackknife_over_groups, (2, 4), 0.95, 1.0),
    ],
)
def test_a_true_difference_is_found_and_covered(
    metric: str,
    compare: Callable[..., list[Difference]],
    groups_per_row: tuple[int, int],
    least: float,
    most: float,
):
    options = {"gains": (1.0, 2.5), "groups_per_row": groups_per_row}
    expected = expected_difference(metric, **options)
    found = [compare(seed, metric, num_groups=24, **options)[0] for seed in range(500)]
    assert least <= np.mean([d.low <= expected <= d.high for d in found]) <= most
    assert np.mean([d.p < 0.05 for d in found]) > 0.5
    assert {np.sign(d.mean) for d in found if d.p < 0.05} == {np.sign(expected)}


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_student_finds_a_true_difference_and_covers_it(metric: str):
    gains, num_tables = (1.0, 3.0), 500
    found = [student_over_replicates(seed, metric, 5, gains=gains)[0] for seed in range(num_tables)]
    expected = np.mean([d.mean for d in found])  # of 2,500 replicates
    covered = np.mean([d.low <= expected <= d.high for d in found])
    assert 0.91 <= covered <= 0.99
    assert np.mean([d.p < 0.05 for d in found]) > 0.8

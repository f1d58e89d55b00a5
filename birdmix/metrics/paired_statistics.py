"""Differences between two arms of a comparison: intervals, p-values, correction for many arms.

An arm is compared with the control within a replicate, or within a resample of the same test rows,
so that what both have in common cancels. ``student_difference`` needs only the differences of a few
replicates; ``bootstrap_difference`` needs those of many resamples of the groups of one test set;
``jackknife_difference`` is for test sets whose rows belong to several groups each.

    from birdmix.metrics.paired_statistics import bootstrap_difference, group_counts

    counts = group_counts(num_groups, 10_000, rng)                 # [B, G]
    weights = counts[:, group_of_row]                              # [B, N]
    resampled = metric(rows_of_arm, weights) - metric(rows_of_control, weights)
    bootstrap_difference(estimate, resampled, num_groups)

    weights = jackknife_weights(groups_of_rows, num_groups)        # [1 + G, N]
    jackknife_difference(metric(rows_of_arm, weights) - metric(rows_of_control, weights))

Shapes: R replicates, B resamples, G groups, N rows, A arms.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import norm, t

#: How an interval is computed.
Method = Literal["student", "bootstrap", "jackknife"]

#: A p-value below this shows a difference.
SIGNIFICANCE = 0.05

#: Probability with which an interval covers the true difference.
CONFIDENCE = 1 - SIGNIFICANCE

#: Fewest groups of a bootstrap. Of fewer groups, ``CONFIDENCE`` needs tails of less than a
#: thousandth, and a handful of groups does not say how much groups differ.
MIN_GROUPS = 6

#: Fewest resamples; the tails of few groups are estimated from the few most extreme ones.
MIN_RESAMPLES = 1000

# How much less the rows of a group weigh in ``jackknife_weights``: small enough for a derivative,
# and large beside the precision of the metrics.
_JACKKNIFE_STEP = 1e-4

#: Largest fraction of resamples in which the metric may be undefined.
MAX_UNDEFINED = 0.05


class Difference(NamedTuple):
    """A difference between an arm and the control.

    Attributes:
        mean: The difference; above 0 the arm's metric is higher. NaN if it is undefined.
        low: Lower end of the interval of ``CONFIDENCE``; NaN if there is no interval.
        high: Upper end of the interval.
        p: Two-sided p-value; NaN if there is no interval. It is below ``SIGNIFICANCE`` exactly
            where 0 lies outside the interval.
        num: Number of replicates or groups.
        method: How interval and p-value were computed.
    """

    mean: float
    low: float
    high: float
    p: float
    num: int
    method: Method


def student_difference(differences: np.ndarray) -> Difference:
    """Compute the mean difference over replicates, with Student's interval and p-value.

    Source: Student 1908, Biometrika 6:1, for paired observations.

    Args:
        differences: Arm minus control in each replicate, [R]. A NaN makes everything NaN: the mean
            over other replicates would belong to other data.

    Returns:
        The difference; without interval and p-value for a single replicate, and for replicates
        that all differ by the same amount other than 0: how much they vary cannot be told then.

    Raises:
        ValueError: If there are no replicates.
    """
    num = len(differences)
    if not num:
        raise ValueError("there are no replicates, so there is no difference")
    mean = float(np.mean(differences))
    if np.all(differences == 0) and num > 1:
        return Difference(0.0, 0.0, 0.0, 1.0, num, "student")
    # Rounding of equal differences is no variation.
    if num == 1 or np.isnan(mean) or np.ptp(differences) <= 1e-12 * abs(mean):
        return Difference(mean, np.nan, np.nan, np.nan, num, "student")
    error = float(np.std(differences, ddof=1)) / np.sqrt(num)
    return _with_students_interval(mean, error, num, "student")


def bootstrap_difference(estimate: float, resampled: np.ndarray, num_groups: int) -> Difference:
    """Compute the percentile interval of a bootstrap over groups, and the p-value that agrees.

    The percentiles are those of Hesterberg 2015, "What Teachers Should Know About the Bootstrap",
    The American Statistician 69:371, section 5.3: the tail Phi(-sqrt(n / (n - 1)) t) with Student's
    t of n - 1 degrees of freedom instead of 2.5 %, which makes up for the spread that resamples of
    n groups lack. The p-value is 1 minus the largest confidence whose interval excludes 0, but
    not smaller than if 1 of B + 1 resamples lay beyond 0.

    Args:
        estimate: Arm minus control on the rows themselves.
        resampled: Arm minus control in each resample, [B]; NaN where undefined.
        num_groups: Number of groups G that were resampled.

    Returns:
        The difference; without interval and p-value if there are fewer than ``MIN_GROUPS`` groups,
        or if more than ``MAX_UNDEFINED`` of the resamples are undefined.

    Raises:
        ValueError: If there are fewer than ``MIN_RESAMPLES`` resamples.
    """
    if len(resampled) < MIN_RESAMPLES:
        raise ValueError(
            f"{len(resampled)} resamples; a bootstrap needs {MIN_RESAMPLES:,} or more for its tails"
        )
    values = np.sort(resampled[~np.isnan(resampled)])
    num_undefined = len(resampled) - len(values)
    if (
        np.isnan(estimate)
        or num_groups < MIN_GROUPS
        or num_undefined > MAX_UNDEFINED * len(resampled)
    ):
        return Difference(float(estimate), np.nan, np.nan, np.nan, num_groups, "bootstrap")
    widening = np.sqrt(num_groups / (num_groups - 1))
    tail = norm.cdf(-widening * t.isf(SIGNIFICANCE / 2, num_groups - 1))
    low, high = np.quantile(values, [tail, 1 - tail])
    beyond = min(_quantile_of_zero(values), _quantile_of_zero(-values[::-1]))
    beyond = max(beyond, 1 / (len(values) + 1))
    # More than half on either side is no evidence, and the smaller tail is at most about a half.
    p = min(2 * float(t.sf(-norm.ppf(beyond) / widening, num_groups - 1)), 1.0)
    return Difference(float(estimate), float(low), float(high), p, num_groups, "bootstrap")


def _quantile_of_zero(values: np.ndarray) -> float:
    """Return the largest q for which the q-quantile is not above 0, 0 if there is none.

    Args:
        values: Values in ascending order; quantiles are interpolated as ``np.quantile`` does.
    """
    num_not_above = int(np.searchsorted(values, 0, "right"))
    if num_not_above == 0:
        return 0.0
    if num_not_above == len(values):
        return 1.0
    before, after = values[num_not_above - 1], values[num_not_above]
    return float((num_not_above - 1 - before / (after - before)) / (len(values) - 1))


def group_counts(num_groups: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw how often each group is in each resample of all groups with replacement.

    Args:
        num_groups: Number of groups G.
        num_resamples: Number of resamples B.
        rng: Source of randomness.

    Returns:
        Counts, int64 [B, G]; each resample has G in total.
    """
    return rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_resamples)


def jackknife_weights(groups_of_rows: Sequence[Sequence[int]], num_groups: int) -> np.ndarray:
    """Return weights of 1, and weights at which the rows of each group count a little less.

    Args:
        groups_of_rows: The distinct groups of each row, numbers in [0, G).
        num_groups: Number of groups G.

    Returns:
        Weights, float64 [1 + G, N]: all 1, then those for group 0, 1, ...

    Raises:
        ValueError: If a row has no group, or names one twice.
    """
    _check_groups(groups_of_rows)
    weights = np.ones((1 + num_groups, len(groups_of_rows)))
    for row, groups in enumerate(groups_of_rows):
        weights[1 + np.asarray(groups), row] -= _JACKKNIFE_STEP
    return weights


def jackknife_difference(values: np.ndarray, num_informative: int | None = None) -> Difference:
    """Compute the infinitesimal jackknife over groups, with Student's interval and p-value.

    It is the limit of a bootstrap of groups in which a row weighs 1 plus what the counts of its
    groups differ from 1, scaled down: the variance is the sum over groups of the squared influence
    of a group, which is that of all rows it has a part in. What rows vary by themselves counts once
    for each group of a row, so intervals of rows of k groups are up to sqrt(k) times too wide, but
    not too narrow. Source: Jaeckel 1972, Bell Laboratories memorandum MM 72-1215-11; Efron 1982,
    The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6. Departure: G - 1 degrees of
    freedom and the factor G / (G - 1) for few groups.

    Args:
        values: Arm minus control for each of ``jackknife_weights``, [1 + G].
        num_informative: Number of groups that the degrees of freedom are counted by, such as those
            with positives; None is all.

    Returns:
        The difference; without interval and p-value if there are fewer than ``MIN_GROUPS`` groups,
        a value is NaN, or no group has an influence on a difference other than 0.
    """
    mean, num = float(values[0]), len(values) - 1
    num = num if num_informative is None else num_informative
    influence = (mean - values[1:]) / _JACKKNIFE_STEP
    if np.all(values == 0) and num >= MIN_GROUPS:
        return Difference(0.0, 0.0, 0.0, 1.0, num, "jackknife")
    if np.isnan(values).any() or num < MIN_GROUPS or np.ptp(influence) == 0:
        return Difference(mean, np.nan, np.nan, np.nan, num, "jackknife")
    error = float(np.sqrt(num / (num - 1) * np.sum((influence - influence.mean()) ** 2)))
    return _with_students_interval(mean, error, num, "jackknife")


def _with_students_interval(mean: float, error: float, num: int, method: Method) -> Difference:
    """Return a difference of a standard error above 0 with num - 1 degrees of freedom."""
    margin = float(t.isf(SIGNIFICANCE / 2, num - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, num - 1))
    return Difference(mean, mean - margin, mean + margin, p, num, method)


def _check_groups(groups_of_rows: Sequence[Sequence[int]]) -> None:
    for row, groups in enumerate(groups_of_rows):
        if not groups or len(set(groups)) < len(groups):
            raise ValueError(
                f"row {row} has the groups {list(groups)}; it needs one or more, each once"
            )


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values of several arms so that any false claim among them is as rare as for one.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65. It holds for dependent p-values too,
    as those of arms with a common control are.

    Args:
        p_values: p-values, [A]; NaN where nothing was tested. Those stay NaN and do not count as
            tests.

    Returns:
        Adjusted p-values, float64 [A], in the order of ``p_values`` and never below them.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted

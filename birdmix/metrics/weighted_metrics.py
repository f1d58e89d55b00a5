"""Metrics of a comparison, each for many weightings of the rows at once, as a bootstrap needs them.

A row of weight 2 counts as if it stood there twice, one of weight 0 as if it were missing: with
integer weights a value is that of the function without weights on the repeated rows. A class that
has no positives of positive weight (for ROC-AUC: or no negatives) has no value for that weighting
and is left out of its macro mean; a value is NaN where nothing can be scored.

    from birdmix.metrics.weighted_metrics import COMPARISON_METRICS, ScoredRows

    rows = ScoredRows(truth, known, logits)
    COMPARISON_METRICS["macro_roc_auc"].compute(rows, np.ones((1, len(truth))))   # [1]

Shapes: N rows, C classes, R weightings, P positives and Q negatives of a class, r weightings at a
time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from birdmix.metrics.calibration import (
    INTERCEPT_REQUIREMENT,
    NUM_BINS,
    SLOPE_REQUIREMENT,
    fit_intercepts,
    fit_slopes,
    has_slope,
    probability_bins,
)
from birdmix.metrics.metric_inputs import check_and_convert_inputs
from birdmix.metrics.ranking import NUM_PADDING_ROWS
from birdmix.windows import logit, probability

# Values of weights at a time: 4 MB, which stay in a cache; there are about four such arrays.
_CHUNK_VALUES = 2**19
# Logits of the calibration regressions are represented by values on a grid with this many steps.
# On the widest range of logits a probability is then exact to 3e-8.
_NUM_GRID_STEPS = 512


@dataclass(frozen=True)
class ScoredRows:
    """Truth and predictions of the rows of a test set.

    Attributes:
        truth: Labels, bool [N, C].
        known: Which labels are scored, bool [N, C].
        logits: Logits, float64 [N, C].
        decisions: Yes/no decisions, by thresholds that were fitted on other data, bool [N, C]; None
            if there are none.

    Raises:
        ValueError: If shapes differ or a logit is NaN.
    """

    truth: np.ndarray
    known: np.ndarray
    logits: np.ndarray
    decisions: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_and_convert_inputs(self.truth, self.logits, self.known)
        if self.decisions is not None and self.decisions.shape != self.truth.shape:
            raise ValueError(
                f"decisions {self.decisions.shape} must have the shape of truth {self.truth.shape}"
            )

    @cached_property
    def probability(self) -> np.ndarray:
        """Probabilities, float64 [N, C]."""
        return probability(self.logits)


class ComparisonMetric(NamedTuple):
    """A metric that a comparison can report.

    Attributes:
        title: Name in tables and figures.
        compute: Computes the values float64 [R] from rows and weights [R, N] of 0 or more; NaN
            where nothing can be scored.
        better: Whether higher or lower values are better; None where there is a best value, and
            either side of it is wrong.
        requirement: What the known truth must have for a value, for messages.
        needs_decisions: Whether ``ScoredRows.decisions`` are needed.
    """

    title: str
    compute: Callable[[ScoredRows, np.ndarray], np.ndarray]
    better: Literal["higher", "lower"] | None
    requirement: str
    needs_decisions: bool = False


def macro_roc_auc(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``ranking.macro_roc_auc`` for each weighting, [R]."""
    return _macro_mean(rows, rows.logits, weights, _roc_auc)


def macro_average_precision(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``ranking.macro_average_precision`` for each weighting, [R]."""
    return _macro_mean(rows, rows.logits, weights, _average_precision)


def padded_cmap(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``ranking.padded_cmap`` for each weighting, [R]; a row of padding always weighs 1."""
    return _macro_mean(rows, rows.probability, weights, _padded_average_precision)


def macro_f1(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``threshold_metrics.macro_f1`` of the decisions for each weighting, [R].

    Raises:
        ValueError: If there are no decisions.
    """
    if rows.decisions is None:
        raise ValueError("macro F1: there are no decisions; fit thresholds on other data first")
    weights = _checked(weights, rows)
    positives = weights @ (rows.truth & rows.known)
    calls = weights @ (rows.decisions & rows.known)
    hits = weights @ (rows.truth & rows.decisions & rows.known)
    return _mean_of_defined(np.where(positives > 0, _ratio(2 * hits, calls + positives), np.nan))


def top1_accuracy(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute the fraction of rows whose highest known class is positive, for each weighting, [R].

    Only rows that have a known positive count.
    """
    weights = _checked(weights, rows)
    has_positive = (rows.truth & rows.known).any(axis=1)
    highest = np.where(rows.known, rows.logits, -np.inf).argmax(axis=1)
    is_hit = has_positive & rows.truth[np.arange(len(highest)), highest]
    return _ratio(weights @ is_hit, weights @ has_positive)


def brier_score(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``calibration.brier_score`` for each weighting, [R]."""
    weights = _checked(weights, rows)
    error = np.where(rows.known, (rows.probability - rows.truth) ** 2, 0)
    return _ratio(weights @ error.sum(axis=1), weights @ rows.known.sum(axis=1))


def calibration_error(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``calibration.expected_calibration_error`` for each weighting, [R]."""
    weights = _checked(weights, rows)
    row, _ = np.nonzero(rows.known)
    bins = probability_bins(rows.probability[rows.known])
    gaps = (rows.probability - rows.truth)[rows.known]
    by_row = np.bincount(
        row * NUM_BINS + bins, weights=gaps, minlength=len(rows.truth) * NUM_BINS
    ).reshape(-1, NUM_BINS)
    return _ratio(np.abs(weights @ by_row).sum(axis=1), weights @ rows.known.sum(axis=1))


def calibration_slope(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``calibration.calibration_slope`` for each weighting, [R], to about 1e-6.

    It is NaN where a threshold separates positives from negatives.
    """
    weights, logits = _checked(weights, rows), logit(rows.probability)
    positive, negative = rows.truth & rows.known, ~rows.truth & rows.known
    lowest_positive, highest_positive = _extremes_of_rows(logits, positive)
    lowest_negative, highest_negative = _extremes_of_rows(logits, negative)

    def is_defined(weights: np.ndarray) -> np.ndarray:
        return has_slope(
            _lowest(lowest_positive, weights),
            -_lowest(-highest_positive, weights),
            _lowest(lowest_negative, weights),
            -_lowest(-highest_negative, weights),
        )

    totals = np.stack([positive.sum(axis=1), np.where(positive, logits, 0).sum(axis=1)], axis=1)
    return _fit_where_defined(
        rows, weights, _by_chunks(is_defined, weights).astype(bool), fit_slopes, totals
    )


def calibration_intercept(rows: ScoredRows, weights: np.ndarray) -> np.ndarray:
    """Compute ``calibration.calibration_intercept`` for each weighting, [R], to about 1e-6.

    It is NaN where all pairs are positive or all are negative.
    """
    weights = _checked(weights, rows)
    positives = (rows.truth & rows.known).sum(axis=1)
    num_positives, num_pairs = weights @ positives, weights @ rows.known.sum(axis=1)
    is_defined = (num_positives > 0) & (num_positives < num_pairs)
    return _fit_where_defined(rows, weights, is_defined, fit_intercepts, positives)


#: The metrics of a comparison, by the names that those of validation have too.
COMPARISON_METRICS = {
    "macro_roc_auc": ComparisonMetric(
        "macro ROC-AUC", macro_roc_auc, "higher", "a class with both positives and negatives"
    ),
    "padded_cmap": ComparisonMetric("padded cmAP", padded_cmap, "higher", "a known label"),
    "macro_average_precision": ComparisonMetric(
        "macro average precision", macro_average_precision, "higher", "a class with positives"
    ),
    "macro_f1": ComparisonMetric(
        "macro F1", macro_f1, "higher", "a class with positives", needs_decisions=True
    ),
    "top1_accuracy": ComparisonMetric(
        "top-1 accuracy", top1_accuracy, "higher", "a row with a positive"
    ),
    "brier_score": ComparisonMetric("Brier score", brier_score, "lower", "a known label"),
    "calibration_slope": ComparisonMetric(
        "calibration slope", calibration_slope, None, SLOPE_REQUIREMENT
    ),
    "calibration_intercept": ComparisonMetric(
        "calibration intercept", calibration_intercept, None, INTERCEPT_REQUIREMENT
    ),
    "calibration_error": ComparisonMetric(
        "calibration error", calibration_error, "lower", "a known label"
    ),
}


def _checked(weights: np.ndarray, rows: ScoredRows) -> np.ndarray:
    """Return weights as float64 [R, N]; refuse other shapes, and negative and missing weights."""
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 2 or weights.shape[1] != len(rows.truth):
        raise ValueError(
            f"weights {weights.shape} for {len(rows.truth)} rows; they must be [R, N], one for "
            "each row"
        )
    if weights.size and not 0 <= weights.min() <= weights.max() < np.inf:
        raise ValueError("a weight is negative or not finite; use the number of times a row counts")
    return weights


def _by_chunks(
    compute: Callable[[np.ndarray], np.ndarray], weights: np.ndarray, width: int | None = None
) -> np.ndarray:
    """Compute values [r] of weightings [r, N], as many at a time as keep the arrays small.

    Args:
        compute: Computes the values.
        weights: Weights [R, N].
        width: Values per weighting of the largest array that ``compute`` makes; None is N.
    """
    size = max(_CHUNK_VALUES // max(width or weights.shape[1], 1), 1)
    chunks = (weights[start : start + size] for start in range(0, len(weights), size))
    return np.concatenate([np.empty(0), *(compute(chunk) for chunk in chunks)])


class _Ranking(NamedTuple):
    """One class in the order of its predictions.

    Attributes:
        positives: Rows of known positives in ascending order of prediction, [P].
        negatives: Rows of known negatives in the same order, [Q].
        below: Number of negatives that are predicted below each positive, [P].
        not_above: Number of negatives that are predicted below it or like it, [P].
        positives_below: Number of positives that are predicted below it, [P].
    """

    positives: np.ndarray
    negatives: np.ndarray
    below: np.ndarray
    not_above: np.ndarray
    positives_below: np.ndarray


def _rank_classes(rows: ScoredRows, prediction: np.ndarray) -> Iterator[_Ranking]:
    """Yield the ranking of each class by ``prediction`` [N, C]."""
    for c in range(prediction.shape[1]):
        values = prediction[:, c]
        order = np.argsort(values, kind="stable")
        order = order[rows.known[order, c]]
        is_positive = rows.truth[order, c]
        positives, negatives = order[is_positive], order[~is_positive]
        yield _Ranking(
            positives,
            negatives,
            np.searchsorted(values[negatives], values[positives], "left"),
            np.searchsorted(values[negatives], values[positives], "right"),
            np.searchsorted(values[positives], values[positives], "left"),
        )


def _macro_mean(
    rows: ScoredRows,
    prediction: np.ndarray,
    weights: np.ndarray,
    metric: Callable[[_Ranking, np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the mean of a metric over the classes that have a value, for each weighting, [R].

    Args:
        rows: The rows.
        prediction: What ranks them, [N, C].
        weights: Weights [R, N].
        metric: Computes the values [r] of a class, NaN where there is none, from its ranking and
            the weights of its positives [P, r] and negatives [Q, r].
    """
    rankings = list(_rank_classes(rows, prediction))

    def mean_over_classes(weights: np.ndarray) -> np.ndarray:
        by_row = np.ascontiguousarray(weights.T)
        values = [metric(one, by_row[one.positives], by_row[one.negatives]) for one in rankings]
        return _mean_of_defined(np.stack(values, axis=-1))

    return _by_chunks(mean_over_classes, _checked(weights, rows))


def _roc_auc(ranking: _Ranking, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return the share of the pairs (positive, negative) in the right order, ties counting half."""
    cumulative = _cumulative(negative)
    in_order = positive * (cumulative[ranking.below] + cumulative[ranking.not_above])
    return _ratio(in_order.sum(axis=0), 2 * positive.sum(axis=0) * cumulative[-1])


def _average_precision(
    ranking: _Ranking, positive: np.ndarray, negative: np.ndarray, num_padding: int = 0
) -> np.ndarray:
    """Return the weighted mean over the positives, and the padding, of the precision there."""
    positives, negatives = _cumulative(positive), _cumulative(negative)
    hits = positives[-1] - positives[ranking.positives_below] + num_padding
    calls = hits + negatives[-1] - negatives[ranking.below]
    # Without hits the positive itself has no weight.
    precision = np.divide(hits, calls, out=np.zeros_like(hits), where=hits > 0)
    # Probabilities are below 1, so that padding is above every row and its precision is 1.
    total = (positive * precision).sum(axis=0) + num_padding
    return _ratio(total, positives[-1] + num_padding)


def _padded_average_precision(
    ranking: _Ranking, positive: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    values = _average_precision(ranking, positive, negative, NUM_PADDING_ROWS)
    return np.where(positive.sum(axis=0) + negative.sum(axis=0) > 0, values, np.nan)


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, ... rows of weights [n, r], [n + 1, r]."""
    sums = np.empty((len(weights) + 1, weights.shape[1]))
    sums[0] = 0
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, NaN where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of the values that are not NaN, NaN if there are none."""
    is_defined = ~np.isnan(values)
    return _ratio(np.where(is_defined, values, 0).sum(axis=-1), is_defined.sum(axis=-1))


def _extremes_of_rows(logits: np.ndarray, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest selected logit of each row, [N]; inf and -inf for none."""
    lowest = np.where(selected, logits, np.inf).min(axis=1, initial=np.inf)
    return lowest, np.where(selected, logits, -np.inf).max(axis=1, initial=-np.inf)


def _lowest(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the lowest of values [N] in the rows that have a weight, for each weighting, [r]."""
    return np.where(weights > 0, values, np.inf).min(axis=1, initial=np.inf)


def _fit_where_defined(
    rows: ScoredRows,
    weights: np.ndarray,
    is_defined: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    totals: np.ndarray,
) -> np.ndarray:
    """Fit a calibration regression for the weightings that have one, NaN for the others, [R].

    Args:
        rows: The rows.
        weights: Weights [R, N].
        is_defined: Which weightings have a finite fit, bool [R].
        fit: ``fit_slopes`` or ``fit_intercepts``.
        totals: Its third argument for each row instead of each weighting, [N] or [N, 2].
    """
    values = np.full(len(weights), np.nan)
    if is_defined.any():
        grid, pairs = _grid_of_logits(logit(rows.probability), rows.known)
        values[is_defined] = _by_chunks(
            lambda chunk: fit(grid, chunk @ pairs, chunk @ totals), weights[is_defined], len(grid)
        )
    return values


def _grid_of_logits(logits: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, csr_array]:
    """Represent the known logits of each row by numbers of pairs on a grid of logits.

    A smooth function of a logit is then a weighted sum of its values on the grid, by cubic
    interpolation (Lagrange), so that the cost of a fit does not depend on the number of rows.

    Args:
        logits: Finite logits, [N, C].
        known: Which of them count, bool [N, C].

    Returns:
        The logits of the grid [K], and the number of pairs of each row at each of them [N, K]: it
        may be fractional and negative, and a row's sum is its number of known pairs.
    """
    row, _ = np.nonzero(known)
    values = logits[known]
    step = max((values.max() - values.min()) / _NUM_GRID_STEPS, 1e-9)
    grid = values.min() + step * np.arange(-1, _NUM_GRID_STEPS + 2)
    position = (values - values.min()) / step
    first = np.minimum(position.astype(int), _NUM_GRID_STEPS - 1)
    x = position - first
    shares = np.stack(
        [
            -x * (x - 1) * (x - 2) / 6,
            (x + 1) * (x - 1) * (x - 2) / 2,
            -(x + 1) * x * (x - 2) / 2,
            (x + 1) * x * (x - 1) / 6,
        ]
    )
    columns = first + np.arange(4)[:, None]
    entries = (shares.ravel(), (np.tile(row, 4), columns.ravel()))
    return grid, csr_array(entries, shape=(len(logits), len(grid)))

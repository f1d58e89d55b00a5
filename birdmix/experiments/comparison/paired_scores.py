"""Values of each arm, and paired differences to the control, in every test set and stratum.

Replicates with data of their own, as those of the demo, are independent: their differences have
Student's interval. Replicates on the same test rows are not: metrics are averaged over seeds, and
the interval is over the groups of the rows, by a bootstrap or, where rows belong to several groups,
by the jackknife.

Shapes: N rows, C classes, W weightings of the rows, S seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from birdmix.experiments.comparison.scored_sets import ScoredSet
from birdmix.metrics.paired_statistics import (
    Difference,
    bootstrap_difference,
    group_counts,
    holm,
    jackknife_difference,
    jackknife_weights,
    student_difference,
)
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS, ScoredRows
from birdmix.random_keys import generator
from birdmix.report.comparison_row import ComparisonRow

#: Scores by arm, seed and test set.
Scores = Mapping[str, Mapping[int, Mapping[str, ScoredSet]]]

#: The stratum of all rows.
ALL = "all"

# Metrics that are also computed by number of sources and by SNR: those of ranking.
_STRATA_METRICS = ("macro_roc_auc", "macro_average_precision")

# Lower and upper ends of bins, and their names: ratios in dB, and numbers of sources.
_SNR_BINS = (
    (-np.inf, 0.0, "SNR below 0 dB"),
    (0.0, 10.0, "SNR 0 to 10 dB"),
    (10.0, np.inf, "SNR 10 dB or more"),
)
_SOURCE_BINS = (
    (1.0, 1.0, "1 source"),
    (2.0, 2.0, "2 sources"),
    (3.0, np.inf, "3 or more sources"),
)


@dataclass(frozen=True, eq=False)
class _Comparator:
    """How arms are compared on the rows of a stratum of a test set.

    Attributes:
        rows: The rows with a scored label.
        weights: Their weights: all 1, then those of each resample or group, [W, rows].
        difference: Computes the difference from arm minus control in each seed, [S, W].
    """

    rows: np.ndarray
    weights: np.ndarray
    difference: Callable[[np.ndarray], Difference]


def compare_scores(
    scores: Scores,
    control: str,
    metrics: Sequence[str],
    *,
    independent: bool,
    num_resamples: int,
) -> list[ComparisonRow]:
    """Compute values and paired differences of all arms.

    Args:
        scores: Scores by arm, seed and test set. An arm is compared in the seeds that it has in
            common with the control.
        control: Name of the control.
        metrics: Names of the metrics, in order.
        independent: Whether each seed has data of its own.
        num_resamples: Number of resamples of the bootstrap.
    """
    rows: list[ComparisonRow] = []
    for test_set in _common_sets(scores):
        by_arm = {
            arm: {seed: sets[test_set] for seed, sets in seeds.items()}
            for arm, seeds in scores.items()
        }
        _check_same_rows(by_arm, independent)
        first = next(iter(by_arm[control].values()))
        for stratum in _strata(by_arm[control]):
            scored = first.known & _in_stratum(first, stratum)
            if not scored.any():
                continue
            comparator = None
            if not independent:
                name = f"{test_set} {stratum}"
                comparator = _group_comparator(name, first, scored, num_resamples)
            for metric in metrics:
                if stratum != ALL and metric not in _STRATA_METRICS:
                    continue
                values = {
                    arm: {
                        seed: _compute(each, stratum, metric, comparator)
                        for seed, each in seeds.items()
                    }
                    for arm, seeds in by_arm.items()
                }
                is_defined = not all(np.isnan(v[0]) for v in values[control].values())
                if is_defined or stratum == ALL:
                    rows += _compare(test_set, stratum, metric, values, control, comparator)
    return rows


def _check_same_rows(by_arm: Mapping[str, Mapping[int, ScoredSet]], independent: bool) -> None:
    """Check that what is compared has the same rows: of all runs, or of those of a seed.

    Raises:
        ValueError: If the data changed between runs.
    """
    first: dict[int, tuple[str, int, ScoredSet]] = {}
    for arm, seeds in by_arm.items():
        for seed, scored in seeds.items():
            place = seed if independent else 0
            other, other_seed, expected = first.setdefault(place, (arm, seed, scored))
            if (
                list(scored.keys) != list(expected.keys)
                or not np.array_equal(scored.known, expected.known)
                or (scored.truth != expected.truth)[scored.known].any()
            ):
                raise ValueError(
                    f"{arm}, seed {seed} was tested on other rows or labels than {other}, seed "
                    f"{other_seed}: the data changed between these runs; remove the older ones, "
                    "or name another folder for --out"
                )


def _group_comparator(
    name: str, test_set: ScoredSet, scored: np.ndarray, num_resamples: int
) -> _Comparator:
    """Return the bootstrap over groups or, if rows have several groups, the jackknife.

    Groups without any scored label are left out. Degrees of freedom are those of the groups that
    have a scored positive: few of them say little, however many others there are.

    Args:
        name: Name of what is resampled, for its random numbers.
        test_set: The test set.
        scored: Which labels are scored, bool [N, C].
        num_resamples: Number of resamples of the bootstrap.
    """
    rows = np.flatnonzero(scored.any(axis=1)).tolist()
    names = sorted({group for row in rows for group in test_set.groups[row]})
    numbers = {group: number for number, group in enumerate(names)}
    groups = [sorted({numbers[group] for group in test_set.groups[row]}) for row in rows]
    has_positive = (test_set.truth & scored).any(axis=1)[rows].tolist()
    informative = {
        g for row, is_one in zip(groups, has_positive, strict=True) if is_one for g in row
    }
    num_informative = len(informative)
    if max(map(len, groups), default=0) > 1:
        return _Comparator(
            np.array(rows, int),
            jackknife_weights(groups, len(names)),
            lambda differences: jackknife_difference(differences.mean(axis=0), num_informative),
        )
    counts = group_counts(len(names), num_resamples, generator(0, f"bootstrap {name}"))
    counts = np.concatenate([np.ones((1, len(names))), counts])

    def difference(differences: np.ndarray) -> Difference:
        means = differences.mean(axis=0)
        return bootstrap_difference(float(means[0]), means[1:], num_informative)

    return _Comparator(np.array(rows, int), counts[:, [group for (group,) in groups]], difference)


def _compute(
    scored: ScoredSet, stratum: str, metric: str, comparator: _Comparator | None
) -> np.ndarray:
    """Compute a metric for each weighting of the rows, [W]; without a comparator for one, [1]."""
    entry = COMPARISON_METRICS[metric]
    if comparator is None:
        rows = np.arange(len(scored.truth))
        weights = np.ones((1, len(rows)))
    else:
        rows, weights = comparator.rows, comparator.weights
    decisions = None if scored.decisions is None else scored.decisions[rows]
    known = (scored.known & _in_stratum(scored, stratum))[rows]
    if not known.any() or (entry.needs_decisions and decisions is None):
        return np.full(len(weights), np.nan)
    return entry.compute(
        ScoredRows(scored.truth[rows], known, scored.logits[rows], decisions), weights
    )


def _compare(
    test_set: str,
    stratum: str,
    metric: str,
    values: Mapping[str, Mapping[int, np.ndarray]],
    control: str,
    comparator: _Comparator | None,
) -> Iterator[ComparisonRow]:
    """Yield a row for each arm, from its values for one metric."""
    entry = COMPARISON_METRICS[metric]
    compared = {}
    for arm, by_seed in values.items():
        seeds = [seed for seed in by_seed if seed in values[control]]
        of_arm = np.stack([by_seed[seed] for seed in seeds])
        of_control = np.stack([values[control][seed] for seed in seeds])
        if comparator is None:
            difference = student_difference((of_arm - of_control)[:, 0])
        else:
            difference = comparator.difference(of_arm - of_control)
        if arm == control:
            difference = difference._replace(mean=np.nan, low=np.nan, high=np.nan, p=np.nan)
        compared[arm] = (of_arm[:, 0].mean(), of_control[:, 0].mean(), difference)
    p_holm = holm(np.array([difference.p for _, _, difference in compared.values()]))
    for number, (arm, (value, control_value, difference)) in enumerate(compared.items()):
        yield ComparisonRow(
            test_set=test_set,
            stratum=stratum,
            metric=metric,
            metric_title=entry.title,
            better=entry.better,
            arm=arm,
            is_control=arm == control,
            value=float(value),
            control_value=float(control_value),
            difference=difference.mean,
            low=difference.low,
            high=difference.high,
            p=difference.p,
            p_holm=float(p_holm[number]),
            num=difference.num,
            method=difference.method,
        )


def _common_sets(scores: Scores) -> list[str]:
    """Return the test sets that all replicates of all arms have, in order."""
    replicates = [sets for seeds in scores.values() for sets in seeds.values()]
    return [name for name in replicates[0] if all(name in sets for sets in replicates)]


def _strata(seeds: Mapping[int, ScoredSet]) -> list[str]:
    """Return the names of the strata that a test set has."""
    first = next(iter(seeds.values()))
    strata = [ALL]
    if first.num_sources is not None and len(np.unique(first.num_sources)) > 1:
        strata += [name for _, _, name in _SOURCE_BINS]
    if first.snr_db is not None and np.isfinite(first.snr_db).any():
        strata += [name for _, _, name in _SNR_BINS]
    return strata


def _in_stratum(scored: ScoredSet, stratum: str) -> np.ndarray:
    """Return which labels belong to a stratum, bool [N, C].

    By number of sources these are all labels of the rows that have it. By SNR these are the classes
    with such an SNR, and all that are absent.
    """
    for low, high, name in _SOURCE_BINS:
        if name == stratum:
            assert scored.num_sources is not None
            rows = (low <= scored.num_sources) & (scored.num_sources <= high)
            return np.repeat(rows[:, None], scored.truth.shape[1], axis=1)
    for low, high, name in _SNR_BINS:
        if name == stratum:
            assert scored.snr_db is not None
            with np.errstate(invalid="ignore"):
                inside = (low <= scored.snr_db) & (scored.snr_db < high)
            return ~scored.truth | inside
    return np.ones(scored.truth.shape, bool)

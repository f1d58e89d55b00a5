"""Values of each arm, and paired differences to the control, in every test set and stratum.

Replicates with data of their own, as those of the demo, are independent: their differences have
Student's interval. Replicates on the same test rows are not: metrics are averaged over seeds, and
the interval comes from a bootstrap over the groups of the rows.

Shapes: N rows, C classes, B resamples, S seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from birdmix.experiments.comparison.scored_sets import ScoredSet
from birdmix.metrics.paired_statistics import (
    Difference,
    bootstrap_difference,
    group_counts,
    holm,
    row_weights,
    student_difference,
)
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS, ScoredRows
from birdmix.random_keys import generator

#: Scores of each replicate by arm; of each test set by its name.
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


@dataclass(frozen=True)
class PairedResult:
    """Result of an arm in a stratum of a test set.

    Attributes:
        set_name: Test set.
        stratum: ``ALL``, or rows with a number of sources, or classes with a range of SNR.
        metric: Name of the metric.
        arm: Name of the arm.
        value: Mean of the metric over the replicates that are compared.
        control_value: That of the control.
        difference: Difference to the control; None for the control itself.
        p_holm: Its p-value after Holm's correction over the arms.
    """

    set_name: str
    stratum: str
    metric: str
    arm: str
    value: float
    control_value: float
    difference: Difference | None
    p_holm: float


def compute_paired_results(
    scores: Scores,
    control: str,
    metrics: Sequence[str],
    *,
    independent: bool,
    num_resamples: int,
) -> list[PairedResult]:
    """Compute values and paired differences of all arms.

    Args:
        scores: Scores by arm, seed and test set. An arm is compared in the seeds that it has in
            common with the control.
        control: Name of the control.
        metrics: Names of the metrics, in order.
        independent: Whether each seed has data of its own.
        num_resamples: Number of resamples B of the bootstrap.
    """
    results: list[PairedResult] = []
    for set_name in _common_sets(scores):
        by_arm = {
            arm: {seed: sets[set_name] for seed, sets in seeds.items()}
            for arm, seeds in scores.items()
        }
        weights = None if independent else _resample(set_name, by_arm[control], num_resamples)
        for stratum in _strata(by_arm[control]):
            for metric in metrics:
                if stratum != ALL and metric not in _STRATA_METRICS:
                    continue
                values = {
                    arm: {s: _compute(each, stratum, metric, weights) for s, each in seeds.items()}
                    for arm, seeds in by_arm.items()
                }
                if all(np.isnan(v[0]) for v in values[control].values()):
                    continue
                results += _compare(set_name, stratum, metric, values, control, weights)
    return results


@dataclass(frozen=True)
class _Resamples:
    """Weights of the rows themselves, then of each resample [1 + B, N]; and the groups' number."""

    weights: np.ndarray
    num_groups: int


def _resample(set_name: str, seeds: Mapping[int, ScoredSet], num_resamples: int) -> _Resamples:
    """Draw resamples of the groups of a test set, which all arms and metrics share."""
    groups = next(iter(seeds.values())).groups
    numbers = {name: n for n, name in enumerate(sorted({g for row in groups for g in row}))}
    rows = [sorted({numbers[name] for name in row}) for row in groups]
    counts = group_counts(len(numbers), num_resamples, generator(0, f"bootstrap {set_name}"))
    weights = row_weights(counts, rows)
    return _Resamples(np.concatenate([np.ones((1, len(rows))), weights]), len(numbers))


def _compute(
    scored: ScoredSet, stratum: str, metric: str, resamples: _Resamples | None
) -> np.ndarray:
    """Compute a metric on the rows themselves, then in each resample, [1 + B] or [1]."""
    entry = COMPARISON_METRICS[metric]
    weights = np.ones((1, len(scored.truth))) if resamples is None else resamples.weights
    if entry.needs_decisions and scored.decisions is None:
        return np.full(len(weights), np.nan)
    known = scored.known & _in_stratum(scored, stratum)
    rows = ScoredRows(scored.truth, known, scored.logits, scored.decisions)
    return entry.compute(rows, weights)


def _compare(
    set_name: str,
    stratum: str,
    metric: str,
    values: Mapping[str, Mapping[int, np.ndarray]],
    control: str,
    resamples: _Resamples | None,
) -> Iterator[PairedResult]:
    """Yield the result of each arm for one metric."""
    compared: dict[str, tuple[float, float, Difference | None]] = {}
    for arm, by_seed in values.items():
        seeds = [seed for seed in by_seed if seed in values[control]]
        of_arm = np.stack([by_seed[seed] for seed in seeds])
        of_control = np.stack([values[control][seed] for seed in seeds])
        difference = None
        if arm != control:
            difference = _difference(of_arm - of_control, resamples)
        compared[arm] = (float(of_arm[:, 0].mean()), float(of_control[:, 0].mean()), difference)
    p_values = [np.nan if each[2] is None else each[2].p for each in compared.values()]
    for (arm, (value, control_value, difference)), p_holm in zip(
        compared.items(), holm(np.array(p_values)), strict=True
    ):
        yield PairedResult(
            set_name, stratum, metric, arm, value, control_value, difference, float(p_holm)
        )


def _difference(differences: np.ndarray, resamples: _Resamples | None) -> Difference:
    """Return the difference of an arm from those of its seeds, [S, 1 + B] or [S, 1]."""
    if resamples is None:
        return student_difference(differences[:, 0])
    means = differences.mean(axis=0)
    return bootstrap_difference(float(means[0]), means[1:], resamples.num_groups)


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

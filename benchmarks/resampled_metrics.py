"""Time metrics of thousands of resamples of the rows of a test set, on one core.

    OMP_NUM_THREADS=1 python benchmarks/resampled_metrics.py [--rounds 3]

Rivals compute one resample at a time: the metric without weights on repeated rows, and
scikit-learn with ``sample_weight`` for each class. They run on 20 resamples; their time is
multiplied. The lower bound is to fetch the weights of the rows of each class in the order of
predictions, once. Rounds are interleaved; medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from birdmix.metrics import ranking
from birdmix.metrics.paired_statistics import group_counts
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS, ScoredRows

NUM_RESAMPLES, NUM_OF_RIVALS = 2000, 20
#: Rows and classes, and the goal in seconds for each ranking metric.
CASES = {(320, 10): 0.5, (2000, 30): 5.0}

Metric = Callable[[np.ndarray, np.ndarray], float]
#: scikit-learn's metric of a class, and birdmix's on rows without weights.
RIVALS: dict[str, tuple[Callable[..., float], Metric]] = {
    "macro_roc_auc": (roc_auc_score, ranking.macro_roc_auc),
    "macro_average_precision": (average_precision_score, ranking.macro_average_precision),
}


def make_rows(num_rows: int, num_classes: int) -> ScoredRows:
    """Return rows with a fifth of the labels positive, whose ROC-AUC is about .86."""
    rng = np.random.default_rng(0)
    truth = rng.random((num_rows, num_classes)) < 0.2
    logits = rng.normal(size=truth.shape) + 1.5 * truth - 1.5
    return ScoredRows(truth, np.ones_like(truth), logits, logits > 0)


def repeat_rows(metric: Metric, rows: ScoredRows, weights: np.ndarray) -> None:
    for one in weights.astype(int):
        index = np.repeat(np.arange(len(one)), one)
        metric(rows.truth[index], rows.logits[index])


def weigh_rows(metric: Callable[..., float], rows: ScoredRows, weights: np.ndarray) -> None:
    for one in weights:
        for c in range(rows.truth.shape[1]):
            metric(rows.truth[:, c], rows.logits[:, c], sample_weight=one)


def fetch_weights(rows: ScoredRows, weights: np.ndarray) -> None:
    orders = np.argsort(rows.logits, axis=0).T
    for start in range(0, len(weights), 256):
        by_row = np.ascontiguousarray(weights[start : start + 256].T)
        for order in orders:
            by_row.take(order, axis=0)


def seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(num_rows: int, num_classes: int, goal: float, rounds: int) -> None:
    rows = make_rows(num_rows, num_classes)
    weights = group_counts(num_rows, NUM_RESAMPLES, np.random.default_rng(1)).astype(float)
    few, scale = weights[:NUM_OF_RIVALS], NUM_RESAMPLES / NUM_OF_RIVALS
    calls: dict[str, tuple[Callable[[], object], float]] = {
        "lower bound": (partial(fetch_weights, rows, weights), 1)
    }
    for name, metric in COMPARISON_METRICS.items():
        calls[name] = (partial(metric.compute, rows, weights), 1)
    for name, (of_class, unweighted) in RIVALS.items():
        calls[f"{name}, repeated rows"] = (partial(repeat_rows, unweighted, rows, few), scale)
        calls[f"{name}, scikit-learn"] = (partial(weigh_rows, of_class, rows, few), scale)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (call, factor) in calls.items():
            seconds[name].append(factor * seconds_of(call))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    print(f"\n{NUM_RESAMPLES:,} resamples of {num_rows:,} rows, {num_classes} classes")
    for name, median in medians.items():
        print(f"{name:40} {median:8.3f} s  {median / medians['lower bound']:7.1f} x lower bound")
    slowest = max(medians[name] for name in (*RIVALS, "padded_cmap"))
    verdict = "met" if slowest <= goal else "missed"
    print(f"goal: ranking metrics within {goal:g} s: {slowest:.2f} s, {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for (num_rows, num_classes), goal in CASES.items():
        measure(num_rows, num_classes, goal, rounds)


if __name__ == "__main__":
    main()

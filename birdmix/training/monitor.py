"""The monitored metric: the best epochs by it, and early stopping."""

import math
from collections.abc import Sequence


def lower_is_better(metric: str) -> bool:
    """Return whether a metric of ``metrics.csv`` is better when lower: losses and errors."""
    return metric.endswith(("_loss", "_error"))


def best_epochs(values: Sequence[float], metric: str, count: int) -> list[int]:
    """Return the epochs (from 0) with the best values, best first; the earlier first in a tie.

    Args:
        values: Value of the metric in each epoch; nan where it was undefined.
        metric: Name of the metric.
        count: Largest number of epochs to return.
    """
    sign = 1 if lower_is_better(metric) else -1
    defined = [epoch for epoch, value in enumerate(values) if not math.isnan(value)]
    return sorted(defined, key=lambda epoch: sign * values[epoch])[:count]


def is_stalled(values: Sequence[float], metric: str, patience: int | None) -> bool:
    """Return whether training should stop early: the best epoch is ``patience`` epochs ago.

    Args:
        values: Value of the metric in each epoch; nan where it was undefined.
        metric: Name of the metric.
        patience: Epochs without improvement until training stops; None never stops.
    """
    if patience is None or not values:
        return False
    best = best_epochs(values, metric, 1)
    return len(values) - (best[0] + 1 if best else 0) >= patience

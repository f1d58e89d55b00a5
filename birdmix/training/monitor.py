"""Which epochs were best by the monitored figure, and whether there is hope of a better one."""

import math
from collections.abc import Sequence


def lower_is_better(figure: str) -> bool:
    """Tell whether a figure of ``metrics.csv`` improves as it falls."""
    return figure.endswith(("_loss", "_error"))


def best_epochs(values: Sequence[float], figure: str, count: int) -> list[int]:
    """Return the epochs (from 0) with the best values, best first; ties go to the earlier.

    Args:
        values: The figure of each epoch; nan where it was not defined.
        figure: Its name.
        count: At most so many.
    """
    sign = 1 if lower_is_better(figure) else -1
    defined = [epoch for epoch, value in enumerate(values) if not math.isnan(value)]
    return sorted(defined, key=lambda epoch: sign * values[epoch])[:count]


def is_stalled(values: Sequence[float], figure: str, patience: int | None) -> bool:
    """Tell whether the best value is ``patience`` epochs old or older."""
    if patience is None or not values:
        return False
    best = best_epochs(values, figure, 1)
    return len(values) - (best[0] + 1 if best else 0) >= patience

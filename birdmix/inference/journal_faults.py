"""Checks of a journal's entries: cells that are not as birdmix wrote them.

Shapes: W windows, C columns of logits.
"""

import math
from collections.abc import Iterable
from datetime import datetime

import numpy as np


def find_header_fault(
    path: object,
    size: object,
    modified: object,
    seconds: object,
    recorded_at: object,
    warning: object,
) -> str:
    """Return what is wrong with the cells of an entry's header; empty if nothing is.

    The arguments are the columns of the journal's table of recordings, of any type.
    """
    kinds = ((path, bytes), (size, int), (modified, int), (seconds, float), (warning, str))
    if not all(isinstance(value, kind) for value, kind in kinds):
        return "values are of another type"
    if not (isinstance(seconds, float) and 0 < seconds < math.inf):
        return f"its length is {seconds} s"
    try:
        if recorded_at is not None:
            datetime.fromisoformat(recorded_at)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "its datetime is invalid"
    return ""


def find_logits_fault(
    cells: Iterable[tuple[object, object]],
    windows_per_cell: int,
    unknown: np.ndarray,
    num_windows: tuple[int, int],
) -> str:
    """Return what is wrong with the logits of an entry; empty if nothing is.

    Args:
        cells: Number and content (float32) of each cell.
        windows_per_cell: Windows in each cell but the last.
        unknown: Columns that hold NaN, bool [C].
        num_windows: The fewest and the most windows W that the recording can have.
    """
    count = 0
    for expected, (number, cell) in enumerate(cells):
        if number != expected or count != expected * windows_per_cell:
            return "logits are missing"
        if not isinstance(cell, bytes) or len(cell) % (4 * len(unknown)):
            return f"logits are not rows of {len(unknown)} numbers"
        logits = np.frombuffer(cell, "<f4").reshape(-1, len(unknown))
        if not (np.isfinite(logits) | (unknown & np.isnan(logits))).all():
            return "logits are not finite"
        count += len(logits)
    fewest, most = num_windows
    if not fewest <= count <= most:
        return f"{count} windows instead of {fewest}"
    return ""

"""Faults in what a journal keeps of a recording: cells that are not as they were written.

Shapes: R rows, C columns of scores.
"""

import math
from collections.abc import Iterable
from datetime import datetime

import numpy as np


def fault_of_recording(
    path: object, size: object, modified: object, seconds: object, began: object, warning: object
) -> str:
    """Return what is wrong with the cells about a recording; empty if nothing."""
    kinds = ((path, bytes), (size, int), (modified, int), (seconds, float), (warning, str))
    if not all(isinstance(value, kind) for value, kind in kinds):
        return "values are of another type"
    if not (isinstance(seconds, float) and 0 < seconds < math.inf):
        return f"its length is {seconds} s"
    try:
        if began is not None:
            datetime.fromisoformat(began)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "its datetime is none"
    return ""


def fault_of_scores(
    cells: Iterable[tuple[object, object]],
    rows_per_cell: int,
    unknown: np.ndarray,
    num_rows: tuple[int, int],
) -> str:
    """Return what is wrong with the scores of a recording; empty if nothing.

    Args:
        cells: Numbers of its cells, and float32 of each.
        rows_per_cell: Rows in each cell but the last.
        unknown: Columns that hold NaN, bool [C].
        num_rows: The fewest and the most rows R that it can have.
    """
    rows = 0
    for expected, (number, cell) in enumerate(cells):
        if number != expected or rows != expected * rows_per_cell:
            return "scores are missing"
        if not isinstance(cell, bytes) or len(cell) % (4 * len(unknown)):
            return f"scores are not rows of {len(unknown)} numbers"
        table = np.frombuffer(cell, "<f4").reshape(-1, len(unknown))
        if not (np.isfinite(table) | (unknown & np.isnan(table))).all():
            return "scores are not finite"
        rows += len(table)
    fewest, most = num_rows
    if not fewest <= rows <= most:
        return f"{rows} rows of scores instead of {fewest}"
    return ""

"""Submissions and solutions as tables: read, checked, and put side by side.

Shapes: R rows, C columns.
"""

import csv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from birdmix.competitions import BIRDCLEF_2021
from birdmix.suggest import first_line


class Cells(NamedTuple):
    """What the cells of a table may be.

    Attributes:
        right: Which of the numbers are.
        told: What they must be, in words.
    """

    right: Callable[[np.ndarray], np.ndarray]
    told: str


DECISIONS = Cells(lambda values: np.isin(values, (0, 1)), "0 or 1, false or true")
#: For a metric that asks for an order only: rank averages and logits will do.
RANKS = Cells(np.isfinite, "a finite number")
PADDED = Cells(
    lambda values: (values >= 0) & (values <= 1),
    "a number from 0 to 1; padded cmAP appends rows of ones, which a score of 1 ties with and a "
    "higher one passes",
)


def read_rows(file: Path) -> pd.DataFrame:
    """Read a submission or solution: row_id as strings in the index, other cells as they are.

    Raises:
        ValueError: If it is no such table, or a row or column stands twice.
    """
    table = read_table(file)
    _refuse_repeated(table["row_id"], "row_id", file)
    return table.set_index("row_id")


def read_table(file: Path) -> pd.DataFrame:
    """Read a table that has a column row_id, as strings; other cells are as they are.

    Raises:
        ValueError: If it is none, or a column stands twice.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    text = {"row_id": str, BIRDCLEF_2021.column: str}  # codes may look like numbers
    try:
        with warnings.catch_warnings(), file.open(encoding="utf-8-sig", newline="") as stream:
            header = pd.Series(next(csv.reader(stream), []), dtype=str)
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(
                file, dtype=text, keep_default_na=False, index_col=False, low_memory=False
            )
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:
        raise ValueError(
            f"{file}: this is no table of comma-separated values ({first_line(error)})"
        ) from error
    if "row_id" not in table:
        raise ValueError(f"{file}: no column 'row_id'; a submission and its solution start with it")
    _refuse_repeated(header, "column", file)
    return table


def _refuse_repeated(names: pd.Series, kind: str, file: Path) -> None:
    """Refuse a table in which a name stands twice."""
    twice = names[names.duplicated()]
    if len(twice):
        raise ValueError(f"{file}: {kind} '{twice.iloc[0]}' stands twice")


def aligned(submission: Path, solution: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return truth and score with the solution's rows and columns, in its order.

    Raises:
        ValueError: If the submission lacks a row or a column.
    """
    truth = read_rows(solution)
    return truth, like(truth, read_rows(submission), submission)


def like(truth: pd.DataFrame, given: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return a submission's rows and columns as the solution has them, in its order.

    Raises:
        ValueError: If it lacks some.
    """
    for kind, wanted, there in (
        ("row", truth.index, given.index),
        ("column", truth.columns, given.columns),
    ):
        missing = wanted[~wanted.isin(there)]
        if len(missing):
            are = "are" if len(missing) > 1 else "is"
            number = counted(len(missing), kind)
            raise ValueError(f"{file}: {number} {are} missing, '{missing[0]}' first")
    return given.loc[truth.index, truth.columns]


def counted(number: int, what: str) -> str:
    """Return ``"1 row"`` or ``"2,000 rows"``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def numbers(table: pd.DataFrame, file: Path, cells: Cells) -> np.ndarray:
    """Return a table's cells as numbers, float64 [R, C]; true is 1, false is 0.

    Args:
        table: Rows of a submission or solution.
        file: Where it was read.
        cells: What they may be.

    Raises:
        ValueError: If a cell is something else; the first one is named.
    """
    values = np.empty(table.shape)
    for c, name in enumerate(table):
        values[:, c] = _as_numbers(table[name])
    right = cells.right(values)
    if not right.all():
        row, column = np.argwhere(~right)[0]
        raise ValueError(
            f"{file}: row_id '{table.index[row]}', column '{table.columns[column]}': "
            f"'{table.iloc[row, column]}' is not {cells.told}"
        )
    return values


def _as_numbers(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column):  # bool too
        return column.to_numpy(np.float64)
    words = column.astype(str).str.strip().str.lower().replace({"true": "1", "false": "0"})
    return pd.to_numeric(words, errors="coerce").to_numpy(np.float64)

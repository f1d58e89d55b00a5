"""Submissions and solutions as tables: reading, checking and aligning them.

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
from birdmix.messages import first_line, format_count


class ValidCellValues(NamedTuple):
    """Which numbers the cells of a table may hold.

    Attributes:
        is_valid: Returns a mask of the valid numbers.
        description: What a cell must be, for messages.
    """

    is_valid: Callable[[np.ndarray], np.ndarray]
    description: str


DECISIONS = ValidCellValues(lambda values: np.isin(values, (0, 1)), "0 or 1, false or true")
#: For a metric that depends on the order only: ranks and logits are valid as well.
RANKS = ValidCellValues(np.isfinite, "a finite number")
PADDED = ValidCellValues(
    lambda values: (values >= 0) & (values <= 1),
    "a number from 0 to 1; padded cmAP appends rows of ones: a score of 1 ties with them, and a "
    "higher one ranks above them",
)


def read_rows(file: Path) -> pd.DataFrame:
    """Read a submission or solution: row_id as strings in the index, other cells unchanged.

    Raises:
        ValueError: If it is no such table, or has a row or column twice.
    """
    table = read_table_with_row_id(file)
    _refuse_repeated(table["row_id"], "row_id", file)
    return table.set_index("row_id")


def read_table_with_row_id(file: Path) -> pd.DataFrame:
    """Read a table that has a column row_id, as strings; other cells are unchanged.

    Raises:
        ValueError: If it is no such table, or has a column twice.
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
            f"{file}: not a table of comma-separated values ({first_line(error)})"
        ) from error
    if "row_id" not in table:
        raise ValueError(
            f"{file}: no column 'row_id', which submissions and solutions must have; check the file"
        )
    _refuse_repeated(header, "column", file)
    return table


def _refuse_repeated(names: pd.Series, kind: str, file: Path) -> None:
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(f"{file}: duplicate {kind} '{repeated.iloc[0]}'")


def read_aligned(submission: Path, solution: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return truth and score with the solution's rows and columns, in its order.

    Raises:
        ValueError: If the submission lacks a row or a column.
    """
    truth = read_rows(solution)
    return truth, align_to_solution(truth, read_rows(submission), submission)


def align_to_solution(truth: pd.DataFrame, submission: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return a submission's cells with the solution's rows and columns, in its order.

    Args:
        truth: The solution.
        submission: The submission; its other rows and columns are left out.
        file: Where the submission was read, for messages.

    Raises:
        ValueError: If the submission lacks some of them.
    """
    for kind, required, present in (
        ("row", truth.index, submission.index),
        ("column", truth.columns, submission.columns),
    ):
        missing = required[~required.isin(present)]
        if len(missing):
            verb = "are" if len(missing) > 1 else "is"
            number = format_count(len(missing), kind)
            raise ValueError(f"{file}: {number} {verb} missing, the first is '{missing[0]}'")
    return submission.loc[truth.index, truth.columns]


def to_numbers(table: pd.DataFrame, file: Path, rule: ValidCellValues) -> np.ndarray:
    """Return a table's cells as numbers, float64 [R, C]; true is 1, false is 0.

    Args:
        table: Rows of a submission or solution.
        file: Where it was read, for messages.
        rule: The valid numbers.

    Raises:
        ValueError: If a cell is invalid; the message names the first one.
    """
    values = np.empty(table.shape)
    for c, name in enumerate(table):
        values[:, c] = _column_numbers(table[name])
    valid = rule.is_valid(values)
    if not valid.all():
        row, column = np.argwhere(~valid)[0]
        raise ValueError(
            f"{file}: row_id '{table.index[row]}', column '{table.columns[column]}': "
            f"'{table.iloc[row, column]}' is not {rule.description}"
        )
    return values


def _column_numbers(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column):  # bool too
        return column.to_numpy(np.float64)
    words = column.astype(str).str.strip().str.lower().replace({"true": "1", "false": "0"})
    return pd.to_numeric(words, errors="coerce").to_numpy(np.float64)

"""Text tables as programs save them: any separator, decimal commas, errors by file and row.

Shapes: N rows.
"""

import csv
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.messages import did_you_mean
from birdmix.text import MISSING, file_encoding, nfc, read_text, unescape_formula, unquote_cell

_SEPARATORS = (",", ";", "\t")
_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)")
_TOO_MANY_CELLS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


class TextTable:
    """A table whose cells are text, with the file's row number of each of its rows.

    Rows are counted as in an editor, except for line breaks inside cells. Labels such as ``22961``
    and ``1e5`` stay text; column names are in lower case. All text is NFC, R's ``NA`` is blank,
    and the ``'`` that ``birdmix.text.escape_formula`` puts before a formula is removed.

    Args:
        file: CSV, separated by comma, semicolon or tab.
        required: Columns it must have.
        hint: Text to add to the error if the file is missing.
        raven: Whether it is a Raven table: between tabs, quotes are ordinary characters unless they
            enclose a whole cell, and column names keep their case.
        may_be_empty: Whether it may have no rows.

    Attributes:
        rows: The cells, a data frame of strings [N, columns].

    Raises:
        ValueError: If the file is missing or not a table, or columns or rows are missing.
    """

    def __init__(
        self,
        file: Path,
        required: Sequence[str] = (),
        hint: str = "",
        *,
        raven: bool = False,
        may_be_empty: bool = False,
    ) -> None:
        if not file.is_file():
            raise ValueError(f"{file}: no such file{hint and '; ' + hint}")
        self.file = file
        self.rows, self._first_line = _parse_table(file, raven)
        columns = self.rows.columns
        for name in required:
            if name not in columns:
                raise ValueError(f"{file}: no column '{name}'{did_you_mean(name, columns)}")
        repeated = columns[columns.duplicated() & (columns != "")].tolist()
        if repeated:
            raise ValueError(f"{file}: column '{repeated[0]}' occurs twice; rename one")
        if self.rows.empty and not may_be_empty:
            raise ValueError(f"{file}: no rows")

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    @cached_property
    def line_numbers(self) -> list[int]:
        """Row number in the file of each row."""
        return (self.rows.index + self._first_line).tolist()

    def location(self, row: int) -> str:
        """Return the file and the row number in it, for an error."""
        return f"{self.file}, row {self.line_numbers[row]}"

    def keep_rows(self, rows: np.ndarray) -> None:
        """Drop all rows but some.

        Args:
            rows: Which rows to keep, bool [N].
        """
        self.rows = self.rows[rows]
        self.__dict__.pop("line_numbers", None)

    def text_column(self, name: str) -> list[str]:
        """Return a column as text, without surrounding spaces."""
        return self.rows[name].str.strip().tolist()

    def parse_column(self, name: str, function: Callable[[str], object]) -> list:
        """Return a column with a function applied to its cells, once per distinct cell.

        Args:
            name: The column.
            function: Function from a cell to its value.

        Raises:
            ValueError: With file and row, if the function raises one.
        """
        codes, unique = pd.factorize(self.rows[name])
        values = []
        for code, cell in enumerate(unique):
            try:
                values.append(function(cell))
            except ValueError as error:
                first = int(np.flatnonzero(codes == code)[0])
                raise ValueError(f"{self.location(first)}: {error}") from error
        return [values[code] for code in codes]

    def number_column(self, name: str) -> np.ndarray:
        """Return a column of numbers, float64 [N]; blank is NaN, and ``0,5`` is 0.5.

        Raises:
            ValueError: With file and row, if a cell is not a finite number.
        """
        return self._parse_numbers(name, self.rows[name].str.strip())

    def seconds_column(self, name: str) -> np.ndarray:
        """Return a column of times in seconds, float64 [N]: numbers, or clocks as ``00:01:05,5``.

        Blank is NaN.

        Raises:
            ValueError: With file and row, if a cell is neither.
        """
        cells = self.rows[name].str.strip()
        is_clock = cells.str.contains(":").to_numpy(bool)
        seconds = self._parse_numbers(name, cells.mask(is_clock, "")).copy()
        if is_clock.any():
            clocks = self.parse_column(
                name, lambda cell: _parse_clock(cell, name) if ":" in cell else np.nan
            )
            seconds[is_clock] = np.array(clocks)[is_clock]
        return seconds

    def raise_if_any_wrong(self, wrong: np.ndarray, problem: str) -> None:
        """Raise an error for the first wrong row, if there is one.

        Args:
            wrong: Which rows are wrong, bool [N].
            problem: Text of the error.

        Raises:
            ValueError: With file and row.
        """
        if wrong.any():
            raise ValueError(f"{self.location(int(np.flatnonzero(wrong)[0]))}: {problem}")

    def raise_if_any_repeated(self, *columns: Iterable, problem: str) -> None:
        """Raise an error for the first row whose values occurred in an earlier one.

        Args:
            columns: The values to compare, each an iterable of N.
            problem: Text of the error; ``in row X`` follows.

        Raises:
            ValueError: With file and both rows.
        """
        values = pd.DataFrame(dict(enumerate(columns)))
        repeated = np.flatnonzero(values.duplicated())
        if len(repeated):
            row = values.iloc[repeated[0]]
            same = (values == row) | (values.isna() & row.isna())
            first = int(np.flatnonzero(same.all(axis=1))[0])
            raise ValueError(
                f"{self.location(int(repeated[0]))}: {problem} in row {self.line_numbers[first]}"
            )

    def _parse_numbers(self, name: str, cells: pd.Series) -> np.ndarray:
        decimal_points = cells.str.replace(
            r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$", r"\1.\2", regex=True
        )
        numbers = np.asarray(pd.to_numeric(decimal_points, errors="coerce"), np.float64)
        wrong = ~np.isfinite(numbers) & (cells != "").to_numpy()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"{self.location(row)}: {name} '{cells.iloc[row]}' is not a number")
        return numbers


def _parse_clock(cell: str, name: str) -> float:
    match = _CLOCK.fullmatch(cell.strip())
    if match is None:
        raise ValueError(f"{name} '{cell}' is not a time such as 00:01:05")
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))


def _parse_table(file: Path, raven: bool) -> tuple[pd.DataFrame, int]:
    """Parse a table with all cells as text; missing cells are empty, blank lines are dropped.

    Returns:
        The table, and the row number in the file of its index 0.
    """
    encoding = file_encoding(file)
    try:
        header_at, separator = _find_header(file, encoding)
        # In Raven's own tables a quote may occur anywhere in a cell; with commas, R has quoted it.
        is_unquoted = raven and separator == "\t"
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = pd.read_csv(
                file,
                sep=separator,
                dtype=str,
                keep_default_na=False,
                encoding=encoding,
                skip_blank_lines=False,
                index_col=False,
                header=None,
                skiprows=header_at,
                quoting=csv.QUOTE_NONE if is_unquoted else csv.QUOTE_MINIMAL,
            ).fillna("")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        raise ValueError(_parser_message(file, str(error), header_at)) from error
    except UnicodeDecodeError:
        read_text(file)  # raises, with the row
        raise
    if is_unquoted:
        rows = rows.map(unquote_cell)
    data = file.read_bytes()
    if b"'" in data or not data.isascii():  # skipped otherwise: it is slow on large tables
        rows = rows.map(lambda cell: unescape_formula(nfc(cell)))
    names = rows.iloc[0].str.strip().str.strip('"')
    rows = rows.iloc[1:]
    rows.columns = pd.Index(names if raven else names.str.lower())
    rows = rows[(rows != "").any(axis=1)]
    return rows.mask(rows == MISSING, ""), header_at + 1


def _find_header(file: Path, encoding: str) -> tuple[int, str]:
    """Return the number of blank lines before the header, and the separator of its cells."""
    num_blank = 0
    with file.open(encoding=encoding) as stream:
        for line in stream:
            if line.strip():
                return num_blank, max(_SEPARATORS, key=line.count)
            num_blank += 1
    return 0, ","


def _parser_message(file: Path, pandas_message: str, num_skipped: int) -> str:
    """Return the error for a table that cannot be parsed, with its row if pandas states it."""
    match = _TOO_MANY_CELLS.search(pandas_message)
    if match is None:
        return f"{file}: not a CSV: {pandas_message.strip()}"
    num_columns, line, num_cells = map(int, match.groups())
    return (
        f"{file}, row {line + num_skipped}: {num_cells} cells for {num_columns} columns; quote "
        "cells that contain a separator"
    )

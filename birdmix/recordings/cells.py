"""Tables of text as people save them: any separator, decimal commas, and errors by file and row."""

import csv
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.suggest import did_you_mean
from birdmix.text import MISSING, file_encoding, nfc, read_text, restored, unquoted

_SEPARATORS = (",", ";", "\t")
_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)")
_TOO_LONG = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


class Cells:
    """A table whose cells are all text, and which knows the row of the file each stands in.

    Rows are counted as an editor does, but for line breaks inside of cells. Labels like ``22961``
    and ``1e5`` stay what they are; names of columns are lower case. Cells are NFC, R's ``NA``
    is blank, and the ``'`` that ``birdmix.text.harmless`` puts before a formula is gone.

    Args:
        file: CSV, separated by comma, semicolon or tab.
        required: Columns it must have.
        hint: What to say besides if the file is missing.
        raven: Whether it is one of Raven's tables: between tabs, quotes are signs like others but
            around a whole cell, and names of columns stay what they are.
        may_be_empty: Whether it may have no rows.

    Raises:
        ValueError: If it is missing, is none, or lacks columns or rows.
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
        self.rows, self._first = _parsed(file, raven)
        columns = self.rows.columns
        for name in required:
            if name not in columns:
                raise ValueError(f"{file}: no column '{name}'{did_you_mean(name, columns)}")
        twice = columns[columns.duplicated() & (columns != "")].tolist()
        if twice:
            raise ValueError(f"{file}: column '{twice[0]}' stands twice; rename one")
        if self.rows.empty and not may_be_empty:
            raise ValueError(f"{file}: no rows")

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    @cached_property
    def lines(self) -> list[int]:
        """Row of the file that each row stands in."""
        return (self.rows.index + self._first).tolist()

    def where(self, row: int) -> str:
        """Return the file and the row in it, for an error."""
        return f"{self.file}, row {self.lines[row]}"

    def keep(self, rows: np.ndarray) -> None:
        """Keep some rows, by a mask."""
        self.rows = self.rows[rows]
        self.__dict__.pop("lines", None)

    def text(self, name: str) -> list[str]:
        """Return a column as it is, without the spaces around."""
        return self.rows[name].str.strip().tolist()

    def each(self, name: str, read: Callable[[str], object]) -> list:
        """Return a column, each different cell read once.

        Raises:
            ValueError: With file and row, if ``read`` raises one.
        """
        codes, unique = pd.factorize(self.rows[name])
        values = []
        for code, cell in enumerate(unique):
            try:
                values.append(read(cell))
            except ValueError as error:
                first = int(np.flatnonzero(codes == code)[0])
                raise ValueError(f"{self.where(first)}: {error}") from error
        return [values[code] for code in codes]

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers, float64 [N]; blank is NaN, and ``0,5`` is a half."""
        return self._numbers(name, self.rows[name].str.strip())

    def seconds(self, name: str) -> np.ndarray:
        """Return a column of times in seconds, float64 [N]: numbers, or clocks as ``00:01:05,5``.

        Blank is NaN.
        """
        cells = self.rows[name].str.strip()
        clocks = cells.str.contains(":").to_numpy(bool)
        seconds = self._numbers(name, cells.mask(clocks, "")).copy()
        if clocks.any():
            read = self.each(name, lambda cell: _clock(cell, name) if ":" in cell else np.nan)
            seconds[clocks] = np.array(read)[clocks]
        return seconds

    def refuse(self, wrong: np.ndarray, what: str) -> None:
        """Refuse the first of the rows that are wrong, by a mask.

        Raises:
            ValueError: With file and row.
        """
        if wrong.any():
            raise ValueError(f"{self.where(int(np.flatnonzero(wrong)[0]))}: {what}")

    def refuse_repeated(self, *columns: Iterable, what: str) -> None:
        """Refuse a row whose values stood in an earlier one.

        Raises:
            ValueError: With file and both rows.
        """
        values = pd.DataFrame(dict(enumerate(columns)))
        again = np.flatnonzero(values.duplicated())
        if len(again):
            row = values.iloc[again[0]]
            same = (values == row) | (values.isna() & row.isna())
            first = int(np.flatnonzero(same.all(axis=1))[0])
            raise ValueError(f"{self.where(int(again[0]))}: {what} in row {self.lines[first]}")

    def _numbers(self, name: str, cells: pd.Series) -> np.ndarray:
        plain = cells.str.replace(r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$", r"\1.\2", regex=True)
        numbers = np.asarray(pd.to_numeric(plain, errors="coerce"), np.float64)
        wrong = ~np.isfinite(numbers) & (cells != "").to_numpy()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"{self.where(row)}: {name} '{cells.iloc[row]}' is no number")
        return numbers


def _clock(cell: str, name: str) -> float:
    match = _CLOCK.fullmatch(cell.strip())
    if match is None:
        raise ValueError(f"{name} '{cell}' is no time like 00:01:05")
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))


def _parsed(file: Path, raven: bool) -> tuple[pd.DataFrame, int]:
    """Read all cells as text: what is missing is an empty one, blank lines are none.

    Returns:
        The table, and the row of the file that its index 0 stands in.
    """
    encoding = file_encoding(file)
    try:
        header_at, separator = _header(file, encoding)
        # A quote may stand anywhere in a cell of Raven's; between commas R has quoted it.
        is_plain = raven and separator == "\t"
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
                quoting=csv.QUOTE_NONE if is_plain else csv.QUOTE_MINIMAL,
            ).fillna("")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        raise ValueError(_unreadable(file, str(error), header_at)) from error
    except UnicodeDecodeError:
        read_text(file)  # raises, with the row
        raise
    if is_plain:
        rows = rows.map(unquoted)
    data = file.read_bytes()
    if b"'" in data or not data.isascii():  # else nothing changes, and large tables take their time
        rows = rows.map(lambda cell: restored(nfc(cell)))
    names = rows.iloc[0].str.strip().str.strip('"')
    rows = rows.iloc[1:]
    rows.columns = pd.Index(names if raven else names.str.lower())
    rows = rows[(rows != "").any(axis=1)]
    return rows.mask(rows == MISSING, ""), header_at + 1


def _header(file: Path, encoding: str) -> tuple[int, str]:
    """Return the number of blank lines before the header, and what separates its cells."""
    blank = 0
    with file.open(encoding=encoding) as stream:
        for line in stream:
            if line.strip():
                return blank, max(_SEPARATORS, key=line.count)
            blank += 1
    return 0, ","


def _unreadable(file: Path, words: str, skipped: int) -> str:
    """Say why a table cannot be read, by its row if pandas tells."""
    match = _TOO_LONG.search(words)
    if match is None:
        return f"{file}: not a CSV: {words.strip()}"
    columns, line, saw = map(int, match.groups())
    return (
        f"{file}, row {line + skipped}: {saw} cells for {columns} columns; quote the cells that "
        "hold a separator"
    )

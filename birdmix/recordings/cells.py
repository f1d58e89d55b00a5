"""Tables of text as people save them: any separator, decimal commas, and errors by file and row."""

import codecs
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.suggest import did_you_mean

_SEPARATORS = (",", ";", "\t")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(file: Path) -> str:
    """Read a text file in UTF-8, or whatever its byte order mark says.

    Raises:
        ValueError: If it is missing or something else; it names the first row that is.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    data = file.read_bytes()
    marks = (name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark))
    try:
        return data.decode(next(marks, "utf-8"))
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}, row {row}: this is not UTF-8; save the file as UTF-8") from error


class Cells:
    """A table whose cells are all text, and which knows the row of the file each stands in.

    Rows are counted as an editor does: the header is the first. Labels like ``22961`` and ``1e5``
    stay what they are.

    Args:
        file: CSV, separated by comma, semicolon or tab.
        required: Columns it must have.
        hint: What to say besides if the file is missing.

    Raises:
        ValueError: If it is missing, is none, or lacks columns or rows.
    """

    def __init__(self, file: Path, required: Sequence[str] = (), hint: str = "") -> None:
        if not file.is_file():
            raise ValueError(f"{file}: no such file{hint and '; ' + hint}")
        self.file = file
        self.rows = _parsed(file)
        for name in required:
            if name not in self.rows:
                raise ValueError(
                    f"{file}: no column '{name}'{did_you_mean(name, self.rows.columns.tolist())}"
                )
        if self.rows.empty:
            raise ValueError(f"{file}: no rows")

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    @cached_property
    def lines(self) -> list[int]:
        """Row of the file that each row stands in."""
        return (self.rows.index + 2).tolist()

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
        cells = self.rows[name].str.strip().str.replace(r"^(-?\d*),(\d+)$", r"\1.\2", regex=True)
        numbers = np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)
        self._refuse_cells(name, np.isnan(numbers) & (cells != "").to_numpy(), "is no number")
        self._refuse_cells(name, np.isinf(numbers), "is no number")
        return numbers

    def seconds(self, name: str) -> np.ndarray:
        """Return a column of times in seconds, float64 [N], written so or as ``00:01:05``."""
        cells = self.rows[name].str.strip()
        clocks = cells.str.contains(":").to_numpy(bool)
        if not clocks.any():
            return self.numbers(name)
        padded = np.where(cells.str.count(":") == 1, "00:" + cells, cells)
        times = pd.to_timedelta(pd.Series(padded), errors="coerce").dt.total_seconds().to_numpy()
        self._refuse_cells(name, np.isnan(times), "is no time like 00:01:05")
        return times

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
            same = (values == values.iloc[again[0]]) | (
                values.isna() & values.iloc[again[0]].isna()
            )
            first = int(np.flatnonzero(same.all(axis=1))[0])
            raise ValueError(f"{self.where(int(again[0]))}: {what} in row {self.lines[first]}")

    def _refuse_cells(self, name: str, wrong: np.ndarray, what: str) -> None:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"{self.where(row)}: {name} '{self.rows[name].iloc[row]}' {what}")


def _parsed(file: Path) -> pd.DataFrame:
    """Read all cells as text; what is missing or blank is an empty text, blank lines are not."""
    with file.open("rb") as stream:
        mark = stream.read(4)
    encodings = (name for bom, name in _BYTE_ORDER_MARKS.items() if mark.startswith(bom))
    try:
        encoding = next(encodings, "utf-8")
        with file.open(encoding=encoding) as stream:
            header = stream.readline()
        separator = max(_SEPARATORS, key=header.count)
        rows = pd.read_csv(
            file,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding=encoding,
            skip_blank_lines=False,
            index_col=False,
        ).fillna("")
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{file}: not a CSV: {str(error).strip()}") from error
    except UnicodeDecodeError:
        read_text(file)  # raises, with the row
        raise
    rows.columns = rows.columns.str.strip()
    return rows[(rows != "").any(axis=1)]

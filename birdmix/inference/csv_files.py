"""What the tables of listening have in common: CSV files that are whole or absent, and their cells.

Seconds are plain decimals, datetimes ISO 8601 to the second (rounded down). Bytes of a path that
are no UTF-8 are written as they are. No cell is a formula in a spreadsheet: text that begins with
``=``, ``+``, ``-``, ``@``, a tab or a line break has a ``'`` before it, a path ``./``;
``birdmix.text.restored`` and ``restored_path`` take them away again.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from birdmix.audio.clock import later
from birdmix.files import atomic_path
from birdmix.inference.detections import HeardRecording
from birdmix.text import harmless, harmless_path

PLACE = ("path", "datetime", "deployment")


#: Columns of paths that are relative to some folder, or may be.
_PATHS = frozenset({"path", "deployment", "File", "FOLDER", "IN FILE"})


class TableWriter:
    """Writes the rows of a CSV, its text harmless for spreadsheets.

    Args:
        stream: Text stream of the file.
        columns: Names of the columns; they are written at once.
        num_text: How many columns may hold text; those behind them hold numbers. None is all.
    """

    def __init__(self, stream: TextIO, columns: Sequence[str], num_text: int | None = None) -> None:
        self._writer = csv.writer(stream)
        self._writer.writerow(map(harmless, columns))
        self._makers = [harmless_path if c in _PATHS else harmless for c in columns[:num_text]]

    def writerow(self, cells: Iterable[object]) -> None:
        """Write a row: text, and numbers as they are."""
        row = list(cells)
        for at, (make, cell) in enumerate(zip(self._makers, row, strict=False)):
            if isinstance(cell, str):
                row[at] = make(cell)
        self._writer.writerow(row)

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


@contextmanager
def table(file: Path, columns: Iterable[str], num_text: int | None = None) -> Iterator[TableWriter]:
    """Yield a writer of the rows of a CSV, which is there when the block ends without an error.

    Args:
        file: The CSV.
        columns: Names of its columns.
        num_text: How many of them may hold text; None is all.
    """
    with (
        atomic_path(file) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        yield TableWriter(stream, tuple(columns), num_text)


def place(recording: HeardRecording, seconds: float) -> tuple[str, str, str]:
    """Return the cells of ``PLACE`` so many seconds into a recording."""
    return recording.path, moment(recording.began, seconds), recording.deployment


def moment(began: datetime | None, seconds: float) -> str:
    """Write the moment so many seconds later; empty if nobody knows the beginning."""
    return "" if began is None else later(began, seconds).isoformat(timespec="seconds")


def decimal(seconds: float) -> str:
    """Write a number with six digits at most, without an exponent and without idle zeros."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def confident(probability: float) -> str:
    """Write a probability with six digits, which keep it within (0, 1)."""
    return f"{probability:.6f}"

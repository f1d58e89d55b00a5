"""Writing of CSV and tab-separated tables, and of their cells.

Seconds are plain decimals, datetimes ISO 8601 to the second (rounded down). Bytes of a path that
are not UTF-8 are written as they are. No cell is a formula in a spreadsheet: text that begins with
``=``, ``+``, ``-``, ``@``, a tab or a line break gets a ``'`` before it, a path ``./``;
``birdmix.text.unescape_formula`` and ``unescape_formula_in_path`` remove them again.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TextIO

from birdmix.audio.start_time import add_elapsed_seconds
from birdmix.files import atomic_path
from birdmix.inference.file_name_length import MAX_NAME_BYTES, shorten_name
from birdmix.inference.output.recording_result import RecordingResult
from birdmix.text import escape_formula, escape_formula_in_path

#: Writes a recording to a table.
Write = Callable[[RecordingResult], None]

#: Columns of the place and time of a row; ``path_and_time_cells`` makes their cells.
PATH_AND_TIME_COLUMNS = ("path", "datetime", "deployment")

#: Columns of paths that are, or may be, relative to some folder.
_PATH_COLUMNS = frozenset({"path", "deployment", "File", "FOLDER", "IN FILE"})


class _Line:
    """File of a ``csv.writer``, whose ``writerow`` returns what this returns."""

    def write(self, text: str) -> str:
        return text


class SafeCsvWriter:
    """Writes the rows of a CSV, with text that spreadsheets do not take for formulas.

    Args:
        stream: Text stream of the file.
        columns: Names of the columns, which are written at once.
    """

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self._writer = csv.writer(_Line())
        self._converters: list[Callable[[str], str]] = []
        self.writerow(map(escape_formula, columns))
        self._converters = [
            # The rows of a recording repeat its cells.
            lru_cache(64)(escape_formula_in_path if column in _PATH_COLUMNS else escape_formula)
            for column in columns
        ]

    def writerow(self, cells: Iterable[object], numbers: str = "") -> None:
        """Write a row.

        Args:
            cells: The first cells: text, and numbers as they are.
            numbers: The other cells: numbers as text, each with a comma before it.
        """
        row = list(cells)
        for at, (convert, cell) in enumerate(zip(self._converters, row, strict=False)):
            if isinstance(cell, str):
                row[at] = convert(cell)
        line = self._writer.writerow(row)
        self._stream.write(f"{line[:-2]}{numbers}{line[-2:]}")

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


@contextmanager
def open_csv(file: Path, columns: Iterable[str]) -> Iterator[SafeCsvWriter]:
    """Yield a writer of a CSV, which appears when the block ends without an error.

    Args:
        file: The CSV.
        columns: Names of its columns.
    """
    with atomic_path(file) as partial, open_partial_csv(partial, columns) as writer:
        yield writer


@contextmanager
def open_partial_csv(file: Path, columns: Iterable[str]) -> Iterator[SafeCsvWriter]:
    """Yield a writer of a CSV under a temporary path, which the caller renames or removes.

    Args:
        file: The temporary path.
        columns: Names of its columns.
    """
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        yield SafeCsvWriter(stream, tuple(columns))


def write_recording_tsv(
    folder: Path, recording: RecordingResult, suffix: str, rows: Iterable[Iterable[str]]
) -> None:
    """Write a tab-separated table for a recording, named after it and in the same subfolder.

    Args:
        folder: Root of the tables.
        recording: The recording.
        suffix: Is appended to its file name; names that are too long are shortened.
        rows: Cells, which contain no tabs or line breaks.
    """
    path = PurePosixPath(recording.path)
    name = shorten_name(path.name, MAX_NAME_BYTES - len(suffix)) + suffix
    file = folder / path.parent / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ("\t".join(row) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8", newline="\n")


def path_and_time_cells(recording: RecordingResult, seconds: float) -> tuple[str, str, str]:
    """Return the cells of ``PATH_AND_TIME_COLUMNS`` at some seconds into a recording."""
    return (
        recording.path,
        format_datetime_at_offset(recording.recorded_at, seconds),
        recording.deployment,
    )


def format_datetime_at_offset(recorded_at: datetime | None, seconds: float) -> str:
    """Format the moment some seconds into a recording, ISO 8601; empty if its start is unknown."""
    if recorded_at is None:
        return ""
    return add_elapsed_seconds(recorded_at, seconds).isoformat(timespec="seconds")


def format_decimal(number: float) -> str:
    """Format a number with at most six decimals, without exponent and trailing zeros."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def format_probability(probability: float) -> str:
    """Format a probability with six decimals, which keep it within (0, 1)."""
    return f"{probability:.6f}"

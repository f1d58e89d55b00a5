"""Annotation files: what somebody heard, and when.

Raven selection tables, Audacity label tracks, and CSVs of start, end and label. Frequency bounds
are left out: nothing here learns from them.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.recordings.cells import Cells, read_text
from birdmix.suggest import did_you_mean

#: Names under which people keep labels, in lower case.
_LABEL_COLUMNS = ("label", "labels", "annotation", "species", "species code", "common name")

_AUDACITY = re.compile(r"\s*-?\d+([.,]\d+)?\t\s*-?\d+([.,]\d+)?(\t.*)?")


class Annotation(NamedTuple):
    """A named stretch of a recording.

    Attributes:
        start: Seconds.
        end: Seconds; equal to ``start`` for a point.
        name: What the annotator calls it; empty if nothing.
        where: File and row it stands in.
        path: Recording, where the file tells of several; empty elsewhere.
    """

    start: float
    end: float
    name: str
    where: str
    path: str = ""


class _Columns(NamedTuple):
    start: str
    end: str
    path: str


_RAVEN = _Columns("Begin Time (s)", "End Time (s)", "Begin File")
_CSV = _Columns("start", "end", "path")
_FILE_OFFSET = "File Offset (s)"


def is_annotation_file(file: Path) -> bool:
    """Tell whether a text file looks like one of these, by its first line."""
    try:
        first = _first_line(read_text(file))
    except ValueError:
        return False
    return _AUDACITY.fullmatch(first) is not None or _columns(first) is not None


def read_annotations(file: Path, label_column: str | None = None) -> list[Annotation]:
    """Read a file of annotations.

    Args:
        file: Raven selection table, Audacity label track, or CSV with the columns start and end.
        label_column: Column that holds the labels; None takes the one that is named like it.

    Raises:
        ValueError: With file and row, if it is none or a row is wrong.
    """
    text = read_text(file)
    first = _first_line(text)
    columns = _columns(first)
    if columns is not None:
        only_a_header = text.strip() == first.strip()
        return [] if only_a_header else _read_table(Cells(file), columns, label_column)
    if _AUDACITY.fullmatch(first) or not first:
        return _read_audacity(file, text.splitlines())
    raise ValueError(
        f"{file}: no annotations; a Raven selection table has a column '{_RAVEN.start}', an "
        "Audacity track begins with two numbers, a CSV has columns start, end and label"
    )


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _columns(header: str) -> _Columns | None:
    names = {name.strip().strip('"') for name in re.split("[,;\t]", header)}
    return next((each for each in (_RAVEN, _CSV) if {each.start, each.end} <= names), None)


def _read_table(cells: Cells, columns: _Columns, label_column: str | None) -> list[Annotation]:
    if "View" in cells and "Selection" in cells:
        # Raven lists a selection once for each view that was open.
        cells.keep(~cells.rows["Selection"].duplicated().to_numpy())
    start, end = cells.seconds(columns.start), cells.seconds(columns.end)
    cells.refuse(~((start >= 0) & (end >= start)), "start and end need 0 <= start <= end seconds")
    names = cells.text(_label_column(cells, label_column))
    paths = cells.text(columns.path) if columns.path in cells else [""] * len(cells)
    if columns is _RAVEN and len(set(paths)) == 1:
        paths = [""] * len(cells)  # the recording that the table is named after
    elif columns is _RAVEN and _FILE_OFFSET in cells:
        # Raven counts from the first of the files that were open, and tells the others' times here.
        start, end = _in_own_file(cells.numbers(_FILE_OFFSET), end - start)
    where = map(cells.where, range(len(cells)))
    return list(map(Annotation, start.tolist(), end.tolist(), names, where, paths))


def _in_own_file(offset: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return offset, offset + length


def _label_column(cells: Cells, wanted: str | None) -> str:
    """Return the column of labels.

    Raises:
        ValueError: If there is none, or there are several.
    """
    columns = [name for name in cells.rows.columns.tolist() if name]
    if wanted is not None:
        if wanted not in columns:
            raise ValueError(
                f"{cells.file}: no column '{wanted}' (data.label_column)"
                f"{did_you_mean(wanted, columns)}"
            )
        return wanted
    found = [name for name in columns if name.lower() in _LABEL_COLUMNS]
    if len(found) != 1:
        which = f"{' and '.join(found)} may hold" if found else "no column is named like"
        raise ValueError(
            f"{cells.file}: {which} the labels; set data.label_column to one of "
            f"{', '.join(columns)}"
        )
    return found[0]


def _read_audacity(file: Path, lines: list[str]) -> list[Annotation]:
    """Read a label track: start, end and label; lines that begin with a backslash hold Hz."""
    annotations = []
    for row, line in enumerate(lines, start=1):
        where = f"{file}, row {row}"
        if not line.strip() or line.startswith("\\"):
            continue
        if not _AUDACITY.fullmatch(line):
            raise ValueError(f"{where}: a label needs start, end and a name, separated by tabs")
        begin, until, *name = line.split("\t")
        start, end = (float(cell.replace(",", ".")) for cell in (begin, until))
        if not 0 <= start <= end:
            raise ValueError(f"{where}: start and end need 0 <= start <= end seconds")
        annotations.append(Annotation(start, end, " ".join(name).strip(), where))
    return annotations

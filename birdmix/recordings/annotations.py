"""Annotation files: what somebody heard, and when.

Raven selection tables, Audacity label tracks, and CSVs of start, end and label. Frequency bounds
are left out: nothing here learns from them.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.recordings.cells import Cells, read_text
from birdmix.suggest import did_you_mean, first_few

#: Names under which people keep labels, in lower case.
_LABEL_COLUMNS = ("label", "labels", "annotation", "species", "species code", "common name")

_AUDACITY = re.compile(r"\s*-?\d+([.,]\d+)?\t\s*-?\d+([.,]\d+)?(\t.*)?")

_RAVEN_BEGIN, _RAVEN_END = "Begin Time (s)", "End Time (s)"
_BEGIN_FILE, _FILE_OFFSET = "Begin File", "File Offset (s)"


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


def holds_annotations(file: Path) -> bool:
    """Tell by its first line whether a text file is one of these; an empty one is.

    Raises:
        ValueError: If it is not in UTF-8.
    """
    first = _first_line(read_text(file))
    return not first or _AUDACITY.fullmatch(first) is not None or _is_table(first)


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
    if _RAVEN_BEGIN in first:
        return _read_raven(Cells(file, raven=True, may_be_empty=True), label_column)
    if _is_table(first):
        return _read_csv(Cells(file, may_be_empty=True), label_column)
    if _AUDACITY.fullmatch(first) or not first:
        return _read_audacity(file, text.splitlines())
    raise ValueError(
        f"{file}: no annotations; a Raven selection table has a column '{_RAVEN_BEGIN}', an "
        "Audacity track begins with two numbers, a CSV has columns start, end and label"
    )


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _is_table(header: str) -> bool:
    names = {name.strip().strip('"').lower() for name in re.split("[,;\t]", header)}
    return _RAVEN_BEGIN in header or {"start", "end"} <= names


def _read_raven(cells: Cells, label_column: str | None) -> list[Annotation]:
    """Read a selection table, which counts from the first of the files that were open."""
    if not len(cells):
        return []
    if _RAVEN_END not in cells:
        raise ValueError(f"{cells.file}: no column '{_RAVEN_END}'")
    if "View" in cells and "Selection" in cells:
        # A selection is listed once for each view that was open.
        names = ("Selection", _RAVEN_BEGIN, _RAVEN_END, _BEGIN_FILE)
        told = cells.rows[[name for name in names if name in cells]]
        cells.keep(~told.duplicated().to_numpy())
    start, end = cells.seconds(_RAVEN_BEGIN), cells.seconds(_RAVEN_END)
    paths = cells.text(_BEGIN_FILE) if _BEGIN_FILE in cells else [""] * len(cells)
    if _FILE_OFFSET in cells:
        offset = cells.numbers(_FILE_OFFSET)
        start, end = offset, offset + (end - start)
    elif len(set(paths)) > 1:
        raise ValueError(
            f"{cells.file}: it tells of several recordings, but not where in each: save it with "
            f"the column '{_FILE_OFFSET}'"
        )
    return _annotations(cells, start, end, paths, label_column)


def _read_csv(cells: Cells, label_column: str | None) -> list[Annotation]:
    if not len(cells):
        return []
    paths = cells.text("path") if "path" in cells else [""] * len(cells)
    return _annotations(cells, cells.seconds("start"), cells.seconds("end"), paths, label_column)


def _annotations(
    cells: Cells, start: np.ndarray, end: np.ndarray, paths: list[str], label_column: str | None
) -> list[Annotation]:
    cells.refuse(~((start >= 0) & (end >= start)), "start and end need 0 <= start <= end seconds")
    names = cells.text(_label_column(cells, label_column))
    where = map(cells.where, range(len(cells)))
    return list(map(Annotation, start.tolist(), end.tolist(), names, where, paths))


def _label_column(cells: Cells, wanted: str | None) -> str:
    """Return the column of labels.

    Raises:
        ValueError: If there is none, or there are several.
    """
    columns = [name for name in cells.rows.columns.tolist() if name]
    if wanted is not None:
        same = [name for name in columns if name.lower() == wanted.lower()]
        if not same:
            raise ValueError(
                f"{cells.file}: no column '{wanted}' (data.label_column)"
                f"{did_you_mean(wanted, columns)}"
            )
        return same[0]
    found = [name for name in columns if name.lower() in _LABEL_COLUMNS]
    if len(found) != 1:
        which = f"{' and '.join(found)} may hold" if found else "no column is named like"
        raise ValueError(
            f"{cells.file}: {which} the labels; set data.label_column to one of "
            f"{first_few(columns, 12)}"
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

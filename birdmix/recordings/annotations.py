"""Annotation files: what somebody heard, and when.

Raven selection tables, Audacity label tracks, and CSVs of start, end and label. Frequency bounds
are left out: nothing here learns from them.

Sources: columns of Raven's tables as Raven and BirdNET-Analyzer write them (``Begin Path``,
``Begin File``, ``End Path``, ``End File``, ``File Offset (s)``); labels of Audacity tracks as
BirdNET-Analyzer (``name<tab>0.9871``), HawkEars (``name;0.987``) and birdmix (``name 0.98``) write
them.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.recordings.cells import Cells
from birdmix.suggest import did_you_mean, first_few
from birdmix.text import MISSING, nfc, read_text, unquoted

#: Names under which people keep labels, in lower case.
_LABEL_COLUMNS = ("label", "labels", "annotation", "species", "species code", "common name")

_NUMBER = r"\s*-?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?\s*"
_AUDACITY = re.compile(rf"{_NUMBER}\t{_NUMBER}(\t.*)?")

#: Confidences behind a label: any number from 0 to 1 in a cell of its own; behind a semicolon or a
#: space, one with so many digits that it is no part of a name.
_CONFIDENCE = re.compile(r"0|1|0?\.\d+|1\.0*|\d(?:\.\d+)?[eE]-\d+")
_CONFIDENCE_IN_LABEL = re.compile(r"0\.\d{2,}|1\.00+|\d(?:\.\d+)?[eE]-\d+")

_RAVEN_BEGIN, _RAVEN_END = "Begin Time (s)", "End Time (s)"
_BEGIN_PATH, _BEGIN_FILE, _FILE_OFFSET = "Begin Path", "Begin File", "File Offset (s)"
_END_PATH, _END_FILE = "End Path", "End File"

#: Raven's columns by their letters and digits: R renames them to ``Begin.Time..s.`` and the like.
_RAVEN_COLUMNS = {
    re.sub(r"[\W_]+", "", name).lower(): name
    for name in (
        *(_RAVEN_BEGIN, _RAVEN_END, _FILE_OFFSET),
        *(_BEGIN_PATH, _BEGIN_FILE, _END_PATH, _END_FILE),
        *("Selection", "View"),
    )
}


class Annotation(NamedTuple):
    """A named stretch of a recording.

    Attributes:
        start: Seconds.
        end: Seconds; equal to ``start`` for a point.
        name: What the annotator calls it, NFC; empty if nothing.
        where: File and row it stands in.
        path: Recording, where the file tells of several; empty elsewhere.
        is_foreign: Whether ``path`` is one of the annotator's machine: only its end counts.
        may_overrun: Whether it may end after its recording: in the next one, or in the padding of
            a program's last window.
    """

    start: float
    end: float
    name: str
    where: str
    path: str = ""
    is_foreign: bool = False
    may_overrun: bool = False


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
    if _is_raven(first):
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


def _names(header: str) -> set[str]:
    return {name.strip().strip('"') for name in re.split("[,;\t]", header)}


def _is_raven(header: str) -> bool:
    return _RAVEN_BEGIN in map(_raven_name, _names(header))


def _is_table(header: str) -> bool:
    return _is_raven(header) or {"start", "end"} <= {name.lower() for name in _names(header)}


def _raven_name(column: str) -> str:
    """Return Raven's name of one of its columns; another column keeps its own."""
    return _RAVEN_COLUMNS.get(re.sub(r"[\W_]+", "", column).lower(), column)


def _read_raven(cells: Cells, label_column: str | None) -> list[Annotation]:
    """Read a selection table, which counts from the first of the files that were open."""
    cells.rows.columns = cells.rows.columns.map(_raven_name)
    if not len(cells):
        return []
    if _RAVEN_END not in cells:
        raise ValueError(f"{cells.file}: no column '{_RAVEN_END}'")
    if "View" in cells and "Selection" in cells:
        # A selection is listed once for each view that was open.
        names = ("Selection", _RAVEN_BEGIN, _RAVEN_END, _BEGIN_PATH, _BEGIN_FILE)
        told = cells.rows[[name for name in names if name in cells]]
        cells.keep(~told.duplicated().to_numpy())
    start, end = cells.seconds(_RAVEN_BEGIN), cells.seconds(_RAVEN_END)
    paths = _first_of(cells, _BEGIN_PATH, _BEGIN_FILE)
    if _FILE_OFFSET in cells:
        offset = cells.seconds(_FILE_OFFSET)
        start, end = offset, offset + (end - start)
    elif len(set(paths)) > 1:
        raise ValueError(
            f"{cells.file}: it tells of several recordings, but not where in each: save it with "
            f"the column '{_FILE_OFFSET}'"
        )
    found = _annotations(cells, start, end, paths, label_column)
    may_overrun = _may_overrun(cells, paths)
    return [
        each._replace(is_foreign=bool(each.path), may_overrun=overrun)
        for each, overrun in zip(found, may_overrun, strict=True)
    ]


def _first_of(cells: Cells, *columns: str) -> list[str]:
    """Return in each row the first of some columns that is not blank; they may be absent."""
    given = [cells.text(name) for name in columns if name in cells] or [[""] * len(cells)]
    return [next(filter(None, row), "") for row in zip(*given, strict=True)]


def _may_overrun(cells: Cells, paths: list[str]) -> list[bool]:
    """Tell which selections may end after the recording in which they begin.

    So do those that end in another file; where nothing tells the file of an end, all in a table of
    several recordings; and those of a program, whose last window is padded.
    """
    if "confidence" in (name.lower() for name in cells.rows.columns):
        return [True] * len(cells)
    ends = _first_of(cells, _END_PATH, _END_FILE)
    several = len(set(paths)) > 1
    return [
        base_name(end) != base_name(path) if end else several
        for path, end in zip(paths, ends, strict=True)
    ]


def base_name(path: str) -> str:
    """Return the last part of a path of Windows or POSIX."""
    return path.replace("\\", "/").rpartition("/")[2]


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
        same = [name for name in columns if name.lower() == nfc(wanted).lower()]
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
            f"{first_few(found or columns, 12)}"
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
        begin, until, *cells = line.split("\t")
        start, end = (float(cell.replace(",", ".")) for cell in (begin, until))
        if not 0 <= start <= end:
            raise ValueError(f"{where}: start and end need 0 <= start <= end seconds")
        name, is_confident = _without_confidence(cells)
        annotations.append(Annotation(start, end, name, where, may_overrun=is_confident))
    return annotations


def _without_confidence(cells: list[str]) -> tuple[str, bool]:
    """Return the label in the last cells of an Audacity track, and whether a program is behind it.

    A program writes its confidence behind the label: it is no part of it.
    """
    cells = [nfc(unquoted(cell.strip()).strip()) for cell in cells]
    is_confident = len(cells) > 1 and _CONFIDENCE.fullmatch(cells[-1]) is not None
    if is_confident:
        cells = cells[:-1]
    label = " ".join(filter(None, cells))
    at = max(label.rfind(";"), label.rfind(" "))
    if not is_confident and at > 0 and _CONFIDENCE_IN_LABEL.fullmatch(label[at + 1 :]):
        is_confident, label = True, label[:at].rstrip(" ;")
    return "" if label == MISSING else label, is_confident

"""Annotation files: Raven selection tables, Audacity label tracks, CSVs of start, end and label.

Frequency bounds are not read: training does not use them.

Sources: columns of Raven's tables as Raven and BirdNET-Analyzer write them (``Begin Path``,
``Begin File``, ``End Path``, ``End File``, ``File Offset (s)``); labels of Audacity tracks as
BirdNET-Analyzer (``name<tab>0.9871``), HawkEars (``name;0.987``) and birdmix (``name 0.98``) write
them.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.messages import did_you_mean, first_few
from birdmix.recordings.text_table import TextTable
from birdmix.text import MISSING, nfc, read_text, unquote_cell

#: Common names of label columns, in lower case.
_LABEL_COLUMNS = ("label", "labels", "annotation", "species", "species code", "common name")

_NUMBER = r"\s*-?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?\s*"
_AUDACITY = re.compile(rf"{_NUMBER}\t{_NUMBER}(\t.*)?")

#: Confidences after a label: in a separate cell any number from 0 to 1; after a semicolon or a
#: space only numbers with enough digits not to be part of a name.
_CONFIDENCE = re.compile(r"0|1|0?\.\d+|1\.0*|\d(?:\.\d+)?[eE]-\d+")
_CONFIDENCE_IN_LABEL = re.compile(r"0\.\d{2,}|1\.00+|\d(?:\.\d+)?[eE]-\d+")

_RAVEN_BEGIN, _RAVEN_END = "Begin Time (s)", "End Time (s)"
_BEGIN_PATH, _BEGIN_FILE, _FILE_OFFSET = "Begin Path", "Begin File", "File Offset (s)"
_END_PATH, _END_FILE = "End Path", "End File"

#: Raven's columns by their letters and digits only: R renames them to ``Begin.Time..s.``, etc.
_RAVEN_COLUMNS = {
    re.sub(r"[\W_]+", "", name).lower(): name
    for name in (
        *(_RAVEN_BEGIN, _RAVEN_END, _FILE_OFFSET),
        *(_BEGIN_PATH, _BEGIN_FILE, _END_PATH, _END_FILE),
        *("Selection", "View"),
    )
}


class Annotation(NamedTuple):
    """An annotated time span of a recording.

    Attributes:
        start: Seconds.
        end: Seconds; equal to ``start`` for a point.
        name: The annotator's name of the event, NFC; empty if there is none.
        location: File and row of the annotation, for errors.
        path: Recording, if the file annotates several; else empty.
        is_foreign: Whether ``path`` is a path on the annotator's machine, of which only the last
            parts are compared.
        may_overrun: Whether it may end after its recording: in the next recording, or in the
            padding of a program's last window.
    """

    start: float
    end: float
    name: str
    location: str
    path: str = ""
    is_foreign: bool = False
    may_overrun: bool = False


def is_annotation_file(file: Path) -> bool:
    """Return whether a text file is an annotation file, by its first line; an empty file is one.

    Args:
        file: The text file.

    Raises:
        ValueError: If it is not in UTF-8.
    """
    first = _first_line(read_text(file))
    return not first or _AUDACITY.fullmatch(first) is not None or _is_table(first)


def read_annotations(file: Path, label_column: str | None = None) -> list[Annotation]:
    """Read an annotation file.

    Args:
        file: Raven selection table, Audacity label track, or CSV with the columns start and end.
        label_column: Column that holds the labels; None takes the only column with a common name
            of label columns, such as Species.

    Raises:
        ValueError: With file and row, if it is not an annotation file or a row is wrong.
    """
    text = read_text(file)
    first = _first_line(text)
    if _is_raven(first):
        return _read_raven(TextTable(file, raven=True, may_be_empty=True), label_column)
    if _is_table(first):
        return _read_csv(TextTable(file, may_be_empty=True), label_column)
    if _AUDACITY.fullmatch(first) or not first:
        return _read_audacity(file, text.splitlines())
    raise ValueError(
        f"{file}: not an annotation file; a Raven selection table has a column '{_RAVEN_BEGIN}', "
        "an Audacity track begins with two numbers, a CSV has columns start, end and label"
    )


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _column_names(header: str) -> set[str]:
    return {name.strip().strip('"') for name in re.split("[,;\t]", header)}


def _is_raven(header: str) -> bool:
    return _RAVEN_BEGIN in map(_raven_name, _column_names(header))


def _is_table(header: str) -> bool:
    names = {name.lower() for name in _column_names(header)}
    return _is_raven(header) or {"start", "end"} <= names


def _raven_name(column: str) -> str:
    """Return Raven's spelling of the name of one of its columns; other names stay as they are."""
    return _RAVEN_COLUMNS.get(re.sub(r"[\W_]+", "", column).lower(), column)


def _read_raven(cells: TextTable, label_column: str | None) -> list[Annotation]:
    """Read a selection table, whose times count from the start of the first opened file."""
    cells.rows.columns = cells.rows.columns.map(_raven_name)
    if not len(cells):
        return []
    if _RAVEN_END not in cells:
        raise ValueError(f"{cells.file}: no column '{_RAVEN_END}'")
    if "View" in cells and "Selection" in cells:
        # Raven writes a selection once for each open view.
        names = ("Selection", _RAVEN_BEGIN, _RAVEN_END, _BEGIN_PATH, _BEGIN_FILE)
        identity = cells.rows[[name for name in names if name in cells]]
        cells.keep_rows(~identity.duplicated().to_numpy())
    start, end = cells.seconds_column(_RAVEN_BEGIN), cells.seconds_column(_RAVEN_END)
    paths = _first_nonblank(cells, _BEGIN_PATH, _BEGIN_FILE)
    if _FILE_OFFSET in cells:
        offset = cells.seconds_column(_FILE_OFFSET)
        start, end = offset, offset + (end - start)
    elif len(set(paths)) > 1:
        raise ValueError(
            f"{cells.file}: it annotates several recordings without the times in each; save it "
            f"with the column '{_FILE_OFFSET}'"
        )
    annotations = _build_annotations(cells, start, end, paths, label_column)
    may_overrun = _may_overrun(cells, paths)
    return [
        annotation._replace(is_foreign=bool(annotation.path), may_overrun=overrun)
        for annotation, overrun in zip(annotations, may_overrun, strict=True)
    ]


def _first_nonblank(cells: TextTable, *columns: str) -> list[str]:
    """Return each row's first cell that is not blank, among the given columns that exist."""
    values = [cells.text_column(name) for name in columns if name in cells] or [[""] * len(cells)]
    return [next(filter(None, row), "") for row in zip(*values, strict=True)]


def _may_overrun(cells: TextTable, paths: list[str]) -> list[bool]:
    """Return for each selection whether it may end after the recording in which it begins.

    These are selections that end in another file; if no column states the file of the end, all
    selections of a table of several recordings; and all of a program, which pads its last window.
    """
    if "confidence" in (name.lower() for name in cells.rows.columns):
        return [True] * len(cells)
    end_paths = _first_nonblank(cells, _END_PATH, _END_FILE)
    has_several_paths = len(set(paths)) > 1
    return [
        last_path_part(end_path) != last_path_part(path) if end_path else has_several_paths
        for path, end_path in zip(paths, end_paths, strict=True)
    ]


def last_path_part(path: str) -> str:
    """Return the last part of a Windows or POSIX path."""
    return path.replace("\\", "/").rpartition("/")[2]


def _read_csv(cells: TextTable, label_column: str | None) -> list[Annotation]:
    if not len(cells):
        return []
    paths = cells.text_column("path") if "path" in cells else [""] * len(cells)
    start, end = cells.seconds_column("start"), cells.seconds_column("end")
    return _build_annotations(cells, start, end, paths, label_column)


def _build_annotations(
    cells: TextTable, start: np.ndarray, end: np.ndarray, paths: list[str], label_column: str | None
) -> list[Annotation]:
    cells.raise_if_any_wrong(
        ~((start >= 0) & (end >= start)), "start and end need 0 <= start <= end seconds"
    )
    names = cells.text_column(_find_label_column(cells, label_column))
    locations = map(cells.location, range(len(cells)))
    return list(map(Annotation, start.tolist(), end.tolist(), names, locations, paths))


def _find_label_column(cells: TextTable, setting: str | None) -> str:
    """Return the name of the label column.

    Args:
        cells: The table.
        setting: The setting ``data.label_column``.

    Raises:
        ValueError: If no column, or several, can be the label column.
    """
    columns = [name for name in cells.rows.columns.tolist() if name]
    if setting is not None:
        matches = [name for name in columns if name.lower() == nfc(setting).lower()]
        if not matches:
            raise ValueError(
                f"{cells.file}: no column '{setting}' (data.label_column)"
                f"{did_you_mean(setting, columns)}"
            )
        return matches[0]
    candidates = [name for name in columns if name.lower() in _LABEL_COLUMNS]
    if len(candidates) != 1:
        problem = (
            f"each of {' and '.join(candidates)} may be the label column"
            if candidates
            else "no column has a common name of a label column"
        )
        raise ValueError(
            f"{cells.file}: {problem}; set data.label_column to one of "
            f"{first_few(candidates or columns, 12)}"
        )
    return candidates[0]


def _read_audacity(file: Path, lines: list[str]) -> list[Annotation]:
    """Read a label track: start, end and label; lines that begin with a backslash are in Hz."""
    annotations = []
    for row, line in enumerate(lines, start=1):
        location = f"{file}, row {row}"
        if not line.strip() or line.startswith("\\"):
            continue
        if not _AUDACITY.fullmatch(line):
            raise ValueError(f"{location}: a label needs start, end and a name, separated by tabs")
        start_cell, end_cell, *cells = line.split("\t")
        start, end = (float(cell.replace(",", ".")) for cell in (start_cell, end_cell))
        if not 0 <= start <= end:
            raise ValueError(f"{location}: start and end need 0 <= start <= end seconds")
        name, has_confidence = _remove_confidence(cells)
        annotations.append(Annotation(start, end, name, location, may_overrun=has_confidence))
    return annotations


def _remove_confidence(cells: list[str]) -> tuple[str, bool]:
    """Return the label in the last cells of an Audacity track, and whether a confidence followed.

    A program writes its confidence after the label; it is not part of the label.
    """
    cells = [nfc(unquote_cell(cell.strip()).strip()) for cell in cells]
    has_confidence = len(cells) > 1 and _CONFIDENCE.fullmatch(cells[-1]) is not None
    if has_confidence:
        cells = cells[:-1]
    label = " ".join(filter(None, cells))
    at = max(label.rfind(";"), label.rfind(" "))
    if not has_confidence and at > 0 and _CONFIDENCE_IN_LABEL.fullmatch(label[at + 1 :]):
        has_confidence, label = True, label[:at].rstrip(" ;")
    return "" if label == MISSING else label, has_confidence

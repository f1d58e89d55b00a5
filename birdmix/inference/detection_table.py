"""Reading of ``detections.csv``, also in several parts, with the folder of its recordings."""

import csv
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from sys import intern
from typing import NamedTuple

from birdmix.audio.find_recordings import find_recordings
from birdmix.inference.written_tables import RUN
from birdmix.json_data import check_keys, convert_json_value, read_json
from birdmix.messages import did_you_mean, first_line
from birdmix.text import MISSING, file_encoding, nfc, unescape_formula, unescape_formula_in_path

_FILE = "detections.csv"

#: The folder of a part, with the number of parts.
_PART_FOLDER = re.compile(r"part-\d+-of-(\d+)")

#: A column that tables of earlier versions do not have.
_PEAK = "peak_seconds"

#: Spreadsheets of some countries save a CSV with semicolons and decimal commas.
_SEPARATORS = ",;\t"

_MAX_HEADER = 1 << 16


class DetectionRow(NamedTuple):
    """A row of ``detections.csv``.

    Attributes:
        path: The recording, relative to the folder predicted.
        datetime: When the detection starts, ISO 8601; empty if unknown.
        deployment: The folder of the recording.
        start_seconds: Its start in the recording.
        end_seconds: Its end.
        species: Code.
        common_name: Name.
        confidence: In [0, 1].
        peak_seconds: Where the confidence is reached; the middle, in tables without that column.
    """

    path: str
    datetime: str
    deployment: str
    start_seconds: float
    end_seconds: float
    species: str
    common_name: str
    confidence: float
    peak_seconds: float


@dataclass(frozen=True)
class DetectionTable:
    """The detections of a prediction.

    Attributes:
        rows: All detections.
        folder: Folder of the recordings; None if unknown, or if it differs between parts.
        channel: The channel decoded, counted from 1; None is the mean of all.
    """

    rows: list[DetectionRow]
    folder: Path | None
    channel: int | None


def read_detection_table(target: Path, recordings: Path | None = None) -> DetectionTable:
    """Read a table of detections and the ``run.json`` beside it.

    Args:
        target: The table; or the folder that ``birdmix predict`` wrote, whose parts
            (``part-*-of-*/detections.csv``) are read as one table, with a warning if some are
            missing.
        recordings: Folder of the recordings; None is the one in ``run.json``. Paths that differ
            from names on the disk in the Unicode form of accents only are changed to those.

    Raises:
        ValueError: With file and row, if the table is missing, damaged or another kind of file, or
            has no rows.
    """
    files = _find_tables(target)
    rows = [row for file in files for row in _read_rows(file)]
    if not rows:
        raise ValueError(f"{target}: no detections; predict with a lower --threshold")
    run_files = [file.with_name(RUN) for file in files]
    runs = [_read_run(file) for file in run_files if file.is_file()]
    folders, channels = {folder for folder, _ in runs}, {channel for _, channel in runs}
    if len(channels) > 1:
        raise ValueError(f"{target}: its parts are of different channels; name the table of one")
    # Each machine may have the recordings in a folder of its own.
    folder = folders.pop() if len(folders) == 1 else None
    rows = _match_unicode_forms(rows, recordings or folder)
    return DetectionTable(rows, folder, channels.pop() if channels else None)


def _match_unicode_forms(rows: list[DetectionRow], folder: Path | None) -> list[DetectionRow]:
    if folder is None:
        return rows
    accented = {row.path for row in rows if not row.path.isascii()}
    absent = {path for path in accented if not (folder / path).is_file()}
    by_nfc = {nfc(path): path for path in find_recordings(folder)} if absent else {}
    on_disk = {path: by_nfc[nfc(path)] for path in absent if nfc(path) in by_nfc}
    return [row._replace(path=on_disk.get(row.path, row.path)) for row in rows]


def _find_tables(target: Path) -> list[Path]:
    if target.is_file():
        return [target]
    if not target.is_dir():
        raise ValueError(
            f"{target}: no such file or folder; name the folder that `birdmix predict` wrote"
        )
    if (target / _FILE).is_file():
        return [target / _FILE]
    parts = {
        file: int(match[1])
        for file in sorted(target.glob(f"*/{_FILE}"))
        if (match := _PART_FOLDER.fullmatch(file.parent.name))
    }
    if not parts:
        raise ValueError(f"{target}: no {_FILE} here; name the folder that `birdmix predict` wrote")
    count = max(parts.values())
    if len(parts) < count:
        warnings.warn(f"{target}: only {len(parts)} of {count} parts have ended", stacklevel=3)
    return list(parts)


def _read_rows(file: Path) -> Iterator[DetectionRow]:
    """Yield the rows of a table, with columns in any order."""
    # As the table is written: bytes of a path that are not UTF-8 are kept.
    encoding = file_encoding(file)
    with file.open(newline="", encoding=encoding, errors="surrogateescape") as stream:
        header = stream.readline(_MAX_HEADER).strip()
        if not header.replace("\t", " ").isprintable():
            raise ValueError(
                f"{file}: not a table of detections; name one that `birdmix predict` wrote"
            )
        separator = max(_SEPARATORS, key=header.count)
        names = [name.strip() for name in header.replace('"', "").split(separator)]
        for name in DetectionRow._fields:
            if name not in names and name != _PEAK:
                raise ValueError(
                    f"{file}: not a table of detections, as it has no column '{name}'"
                    f"{did_you_mean(name, names)}"
                )
        column_of = {name: names.index(name) for name in DetectionRow._fields if name in names}
        reader = csv.reader(stream, delimiter=separator)
        try:
            for cells in reader:
                if cells:
                    yield _parse_row(cells, column_of, len(names))
        except (ValueError, csv.Error) as error:
            where = f"{file}, row {reader.line_num + 1}"
            raise ValueError(f"{where}: {first_line(error)}; fix or remove the row") from error


def _parse_row(
    cells: Sequence[str], column_of: Mapping[str, int], num_columns: int
) -> DetectionRow:
    if len(cells) != num_columns:
        raise ValueError(f"{len(cells)} cells for {num_columns} columns")
    cell = {name: cells[at] if cells[at] != MISSING else "" for name, at in column_of.items()}
    if not cell["path"] or not cell["species"]:
        raise ValueError("path and species must not be blank")
    _check_inside(cell["path"])
    start, end = _parse_number(cell, "start_seconds"), _parse_number(cell, "end_seconds")
    if not 0 <= start < end < float("inf"):
        raise ValueError(f"start {start:g} and end {end:g} need 0 <= start < end, in seconds")
    peak = _parse_number(cell, _PEAK) if _PEAK in cell else (start + end) / 2
    if not start <= peak <= end:
        raise ValueError(f"{_PEAK} {peak:g} is not within {start:g} and {end:g}")
    confidence = _parse_number(cell, "confidence")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence {confidence:g} is not within [0, 1]")
    return DetectionRow(
        path=intern(unescape_formula_in_path(cell["path"])),
        datetime=cell["datetime"],
        deployment=intern(unescape_formula_in_path(cell["deployment"])),
        start_seconds=start,
        end_seconds=end,
        species=intern(unescape_formula(cell["species"])),
        common_name=intern(unescape_formula(cell["common_name"])),
        confidence=confidence,
        peak_seconds=peak,
    )


def _check_inside(path: str) -> None:
    """Refuse a path outside of the folder predicted, which birdmix never writes."""
    normal = PurePath(os.path.normpath(path))
    if normal.anchor or normal.parts[:1] in ((), ("..",)):
        raise ValueError(f"path '{path}' lies outside of the folder of the recordings")


def _parse_number(cell: Mapping[str, str], name: str) -> float:
    try:
        return float(cell[name].replace(",", "."))
    except ValueError:
        raise ValueError(f"{name} '{cell[name]}' is not a number") from None


def _read_run(file: Path) -> tuple[Path, int | None]:
    """Return the folder of the recordings and the channel decoded, from ``run.json``."""
    try:
        run = read_json(file)
        check_keys(run, None, ("folder",), "")
        channel = convert_json_value(int | None, run.get("channel"), "channel")
        return Path(convert_json_value(str, run["folder"], "folder")), channel
    except ValueError as error:
        raise ValueError(
            f"{file}: damaged ({first_line(error)}); remove it, and name the folder of the "
            "recordings with --recordings"
        ) from error

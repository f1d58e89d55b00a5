"""Read back what a listening found: its detections, and where their recordings lie."""

import csv
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from sys import intern
from typing import NamedTuple

from birdmix.audio.listing import find_recordings
from birdmix.json_data import check_keys, checked, read_json
from birdmix.suggest import did_you_mean, first_line
from birdmix.text import MISSING, file_encoding, nfc, restored, restored_path

_FILE = "detections.csv"

#: The folder of a part: which one it is, and of how many.
_PART = re.compile(r"part-\d+-of-(\d+)")

#: The column that tables of earlier versions lack.
_PEAK = "peak_seconds"

#: Spreadsheets of some countries save a CSV with semicolons and decimal commas.
_SEPARATORS = ",;\t"

_LONGEST_HEADER = 1 << 16


class Found(NamedTuple):
    """A row of ``detections.csv``.

    Attributes:
        path: The recording, relative to the folder listened to.
        datetime: When the detection starts, ISO 8601; empty if nothing tells.
        deployment: The folder that the recording lies in.
        start_seconds: Where in the recording it starts.
        end_seconds: Where it ends.
        species: Code.
        common_name: Name.
        confidence: In [0, 1].
        peak_seconds: Where it is as confident as that; the middle in tables that do not tell.
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
class Listened:
    """What a listening found.

    Attributes:
        found: All detections.
        folder: Folder of the recordings; None if nothing tells, or parts tell different ones.
        channel: The one that was heard, counted from 1; None is the mean of all.
    """

    found: list[Found]
    folder: Path | None
    channel: int | None


def read_found(target: Path, recordings: Path | None = None) -> Listened:
    """Read a table of detections and the ``run.json`` beside it.

    Args:
        target: The table; or the folder that ``birdmix predict`` wrote, whose parts
            (``part-*-of-*/detections.csv``) are read as one. A warning tells if some
            have not ended.
        recordings: Folder of the recordings; None is what ``run.json`` says. Paths that differ from
            names on the disk in the spelling of accents only are spelt as there.

    Raises:
        ValueError: With file and row, if it is missing, damaged or none, or holds no detection.
    """
    files = _files(target)
    found = [each for file in files for each in _rows(file)]
    if not found:
        raise ValueError(f"{target}: no detections; listen with a lower --threshold")
    beside = [file.with_name("run.json") for file in files]
    runs = [_folder_and_channel(file) for file in beside if file.is_file()]
    folders, channels = {folder for folder, _ in runs}, {channel for _, channel in runs}
    if len(channels) > 1:
        raise ValueError(f"{target}: its parts are of different channels; name the table of one")
    # Each machine may have the recordings somewhere else.
    folder = folders.pop() if len(folders) == 1 else None
    found = _as_spelt_on_disk(found, recordings or folder)
    return Listened(found, folder, channels.pop() if channels else None)


def _as_spelt_on_disk(found: list[Found], folder: Path | None) -> list[Found]:
    if folder is None:
        return found
    others = {each.path for each in found if not each.path.isascii()}
    absent = {path for path in others if not (folder / path).is_file()}
    by_nfc = {nfc(path): path for path in find_recordings(folder)} if absent else {}
    spelt = {path: by_nfc[nfc(path)] for path in absent if nfc(path) in by_nfc}
    return [each._replace(path=spelt.get(each.path, each.path)) for each in found]


def _files(target: Path) -> list[Path]:
    if target.is_file():
        return [target]
    if not target.is_dir():
        raise ValueError(f"{target}: no such file or folder; name what `birdmix predict` wrote")
    if (target / _FILE).is_file():
        return [target / _FILE]
    parts = {
        file: int(match[1])
        for file in sorted(target.glob(f"*/{_FILE}"))
        if (match := _PART.fullmatch(file.parent.name))
    }
    if not parts:
        raise ValueError(f"{target}: no {_FILE} here; name the folder that `birdmix predict` wrote")
    count = max(parts.values())
    if len(parts) < count:
        warnings.warn(f"{target}: only {len(parts)} of {count} parts have ended", stacklevel=3)
    return list(parts)


def _rows(file: Path) -> Iterator[Found]:
    """Yield the rows of a table, columns in any order."""
    # As the writer has it: bytes of a path that are no UTF-8 stay what they are.
    encoding = file_encoding(file)
    with file.open(newline="", encoding=encoding, errors="surrogateescape") as stream:
        header = stream.readline(_LONGEST_HEADER).strip()
        if not header.replace("\t", " ").isprintable():
            raise ValueError(f"{file}: no table of detections; name one of `birdmix predict`")
        separator = max(_SEPARATORS, key=header.count)
        names = [name.strip() for name in header.replace('"', "").split(separator)]
        for name in Found._fields:
            if name not in names and name != _PEAK:
                raise ValueError(
                    f"{file}: no table of detections, as it has no column '{name}'"
                    f"{did_you_mean(name, names)}"
                )
        place = {name: names.index(name) for name in Found._fields if name in names}
        reader = csv.reader(stream, delimiter=separator)
        try:
            for cells in reader:
                if cells:
                    yield _row(cells, place, len(names))
        except (ValueError, csv.Error) as error:
            where = f"{file}, row {reader.line_num + 1}"
            raise ValueError(f"{where}: {first_line(error)}; mend or remove the row") from error


def _row(cells: Sequence[str], place: Mapping[str, int], num_columns: int) -> Found:
    if len(cells) != num_columns:
        raise ValueError(f"{len(cells)} cells for {num_columns} columns")
    cell = {name: cells[at] if cells[at] != MISSING else "" for name, at in place.items()}
    if not cell["path"] or not cell["species"]:
        raise ValueError("path and species are not blank")
    _refuse_outside(cell["path"])
    start, end = _number(cell, "start_seconds"), _number(cell, "end_seconds")
    if not 0 <= start < end < float("inf"):
        raise ValueError(f"start {start:g} and end {end:g} need 0 <= start < end, in seconds")
    peak = _number(cell, _PEAK) if _PEAK in cell else (start + end) / 2
    if not start <= peak <= end:
        raise ValueError(f"{_PEAK} {peak:g} is not within {start:g} and {end:g}")
    confidence = _number(cell, "confidence")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence {confidence:g} is not within [0, 1]")
    return Found(
        path=intern(restored_path(cell["path"])),
        datetime=cell["datetime"],
        deployment=intern(restored_path(cell["deployment"])),
        start_seconds=start,
        end_seconds=end,
        species=intern(restored(cell["species"])),
        common_name=intern(restored(cell["common_name"])),
        confidence=confidence,
        peak_seconds=peak,
    )


def _refuse_outside(path: str) -> None:
    """Refuse a path that leads out of the folder listened to: no table of birdmix holds one."""
    normal = PurePath(os.path.normpath(path))
    if normal.anchor or normal.parts[:1] in ((), ("..",)):
        raise ValueError(f"path '{path}' leads out of the folder of the recordings")


def _number(cell: Mapping[str, str], name: str) -> float:
    try:
        return float(cell[name].replace(",", "."))
    except ValueError:
        raise ValueError(f"{name} '{cell[name]}' is no number") from None


def _folder_and_channel(file: Path) -> tuple[Path, int | None]:
    try:
        run = read_json(file)
        check_keys(run, None, ("folder",), "")
        channel = checked(int | None, run.get("channel"), "channel")
        return Path(checked(str, run["folder"], "folder")), channel
    except ValueError as error:
        raise ValueError(
            f"{file}: damaged ({first_line(error)}); remove it, and name the folder of the "
            "recordings with --recordings"
        ) from error

"""Readers: a folder per class, a CSV, a BirdCLEF folder; each gives the one recordings table."""

import ast
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.audio.decode import find_recordings
from birdmix.competitions import BIRDCLEF_2026, Competition
from birdmix.files import inside
from birdmix.labels import Labels
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.suggest import did_you_mean

LABEL_SEPARATOR = ";"


def read_source(settings: DataSettings) -> DataSource:
    """Read whatever ``data`` names.

    Raises:
        ValueError: With file and row, if something does not fit.
    """
    if settings.source == "folder":
        return DataSource(read_folder(_folder(settings.root), settings.group_pattern))
    if settings.source == "csv":
        if settings.table is None:
            raise ValueError("data=csv needs data.table=FILE, a CSV of path, labels and group")
        root = None if settings.root is None else _folder(settings.root)
        return DataSource(read_csv(Path(settings.table), root, settings.group_pattern))
    return read_birdclef(_folder(settings.root), settings.secondary_value)


def read_folder(root: Path, group_pattern: str | None = None) -> Recordings:
    """Read a folder that holds a folder of recordings for each class.

    Args:
        root: Folder of class folders; deeper folders belong to their class.
        group_pattern: See ``DataSettings``.
    """
    paths = [path for path in find_recordings(root) if "/" in path]
    if not paths:
        raise ValueError(f"data.root={root}: no recordings in class folders (root/CLASS/FILE)")
    codes = [path.split("/", 1)[0] for path in paths]
    columns: dict = {
        "path": paths,
        "codes": [(code,) for code in codes],
        "values": [(1.0,)] * len(paths),
        "group": _groups(paths, group_pattern),
    }
    return Recordings.build(root, columns, Labels(tuple(sorted(set(codes)))))


def read_csv(table: Path, root: Path | None = None, group_pattern: str | None = None) -> Recordings:
    """Read a CSV: path, labels (joined by ``;``), and optionally group, weight, start, end.

    Args:
        table: CSV, UTF-8. Labels are read as strings, whatever they look like.
        root: Folder that paths are relative to; None is the table's own.
        group_pattern: See ``DataSettings``; used where there is no group column.
    """
    rows = _read_table(table, required=("path", "labels"))
    root = root or table.parent
    paths = _paths(root, rows["path"], table)
    codes = [_split(labels) for labels in rows["labels"]]
    if not any(codes):
        raise ValueError(f"{table}: no row has a label; fill in the column 'labels'")
    columns: dict = {
        "path": paths,
        "codes": codes,
        "values": [(1.0,) * len(each) for each in codes],
        "group": _groups(paths, group_pattern),
    }
    if "group" in rows:
        columns["group"] = _filled(rows["group"], paths)
    for name in ("weight", "start", "end"):
        if name in rows:
            columns[name] = _numbers(rows[name], table)
    _check_numbers(columns, rows, table)
    return Recordings.build(
        root, columns, Labels(tuple(sorted({c for each in codes for c in each})))
    )


def read_birdclef(root: Path, secondary_value: float) -> DataSource:
    """Read a BirdCLEF folder (layout of 2026).

    Primary labels are 1, secondary labels ``secondary_value``; rating / 5 is the weight (unrated
    counts as 3 of 5, nothing below 0.1); the author is the group.
    """
    layout = BIRDCLEF_2026
    taxonomy = _read_table(
        root / layout.taxonomy, required=("primary_label", "common_name"), hint=layout.hint
    ).sort_values("primary_label")
    labels = Labels(tuple(taxonomy["primary_label"]), tuple(taxonomy["common_name"]))
    train = root / layout.train_table
    rows = _read_table(train, required=("primary_label", "secondary_labels", "filename"))
    primary = [_known(c, labels, f"{train}, row {i}") for i, c in _numbered(rows["primary_label"])]
    secondary = [
        tuple(c for c in _literal_list(text, f"{train}, row {i}") if c in labels and c != first)
        for (i, text), first in zip(_numbered(rows["secondary_labels"]), primary, strict=True)
    ]
    columns: dict = {
        "path": _paths(root, layout.train_audio + "/" + rows["filename"], train),
        "codes": [(first, *others) for first, others in zip(primary, secondary, strict=True)],
        "values": [(1.0, *[secondary_value] * len(others)) for others in secondary],
    }
    columns["group"] = (
        _filled(rows["author"], columns["path"]) if "author" in rows else columns["path"]
    )
    if "rating" in rows:
        rating = _numbers(rows["rating"], train)
        columns["weight"] = np.clip(np.where(rating > 0, rating, 3.0) / 5, 0.1, 1.0)
    return DataSource(
        Recordings.build(root, columns, labels), _labelled_soundscapes(root, layout, labels)
    )


def _labelled_soundscapes(root: Path, layout: Competition, labels: Labels) -> Recordings | None:
    """Read the labelled windows of training soundscapes; windows listed twice count once."""
    table = root / layout.soundscape_labels
    if not table.is_file():
        return None
    rows = _read_table(table, required=("filename", "start", "end", "primary_label"))
    rows = rows.drop_duplicates()
    codes = [
        tuple(_known(code, labels, f"{table}, row {i}") for code in _split(text))
        for i, text in _numbered(rows["primary_label"])
    ]
    columns: dict = {
        "path": _paths(root, layout.train_soundscapes + "/" + rows["filename"], table),
        "codes": codes,
        "values": [(1.0,) * len(each) for each in codes],
        "group": rows["filename"],
        "start": _seconds(rows["start"], table),
        "end": _seconds(rows["end"], table),
    }
    _check_numbers(columns, rows, table)
    columns = {name: list(column) for name, column in columns.items()}
    return Recordings.build(root, columns, labels)


def _folder(root: str | None) -> Path:
    if root is None:
        raise ValueError("data.root is not set; name the folder of the recordings: data.root=DIR")
    if not Path(root).is_dir():
        raise ValueError(f"data.root={root}: no such folder")
    return Path(root)


def _read_table(table: Path, required: tuple[str, ...], hint: str = "") -> pd.DataFrame:
    """Read a CSV with every cell as a string, and empty cells as empty strings."""
    if not table.is_file():
        raise ValueError(f"{table}: no such file{hint and '; ' + hint}")
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{table}: not a CSV in UTF-8: {error}") from error
    for name in required:
        if name not in rows:
            raise ValueError(f"{table}: no column '{name}'{did_you_mean(name, rows.columns)}")
    if rows.empty:
        raise ValueError(f"{table}: no rows")
    return rows


def _numbered(column: pd.Series) -> list[tuple[int, str]]:
    """Pair each cell with its line in the file, counted as an editor does (the header is 1)."""
    return [(int(index) + 2, cell) for index, cell in column.items()]  # type: ignore[call-overload]


def _paths(root: Path, column: pd.Series, table: Path) -> list[str]:
    """Check that every recording stays below the root and exists."""
    cells = _numbered(column)
    paths = [Path(inside(root, cell, f"{table}, row {line}")).as_posix() for line, cell in cells]
    missing = [at for at, path in enumerate(paths) if not os.path.isfile(os.path.join(root, path))]
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(
            f"{table}, row {cells[missing[0]][0]}: no recording at "
            f"{os.path.join(root, paths[missing[0]])}{others}; "
            "correct the path, remove the row, or set data.root"
        )
    return paths


def _numbers(column: pd.Series, table: Path) -> np.ndarray:
    numbers = pd.to_numeric(column.replace("", np.nan), errors="coerce")
    wrong = (numbers.isna() & (column != "")).to_numpy().nonzero()[0]
    if len(wrong):
        line, cell = _numbered(column)[wrong[0]]
        raise ValueError(f"{table}, row {line}: {column.name} '{cell}' is no number")
    return numbers.to_numpy(np.float64)


def _check_numbers(columns: dict, rows: pd.DataFrame, table: Path) -> None:
    """Fill in weights left blank; refuse negative ones and parts that are none, by row."""
    weight = np.nan_to_num(columns.get("weight", np.ones(len(rows))), nan=1.0)
    start, end = (columns.get(name, np.full(len(rows), np.nan)) for name in ("start", "end"))
    given = ~(np.isnan(start) & np.isnan(end))
    for wrong, what in (
        (weight < 0, "a weight is not negative"),
        (given & ~((start >= 0) & (end > start)), "start and end in seconds need 0 <= start < end"),
    ):
        if wrong.any():
            raise ValueError(f"{table}, row {rows.index[wrong][0] + 2}: {what}")
    columns["weight"] = weight


def _seconds(column: pd.Series, table: Path) -> np.ndarray:
    """Parse times such as 00:01:05."""
    times = pd.to_timedelta(column, errors="coerce").dt.total_seconds().to_numpy()
    wrong = np.flatnonzero(np.isnan(times))
    if len(wrong):
        line, cell = _numbered(column)[wrong[0]]
        raise ValueError(f"{table}, row {line}: {column.name} '{cell}' is no time like 00:01:05")
    return times


def _split(labels: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.strip() for c in labels.split(LABEL_SEPARATOR) if c.strip()))


def _literal_list(text: str, where: str) -> list[str]:
    """Parse a stringified Python list: ``"['rufhor2']"``, ``"[]"``, ``"['']"``."""
    try:
        codes = ast.literal_eval(text or "[]")
        return [str(code) for code in codes if str(code)]
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"{where}: secondary_labels {text!r} is no list of labels") from error


def _known(code: str, labels: Labels, where: str) -> str:
    if code not in labels:
        raise ValueError(
            f"{where}: label '{code}' is not in the taxonomy{did_you_mean(code, labels.codes)}"
        )
    return code


def _filled(groups: pd.Series, paths: list[str]) -> list[str]:
    """Make a recording without a group a group of its own: the nameless are not all one person."""
    return [group or path for group, path in zip(groups, paths, strict=True)]


def _groups(paths: list[str], pattern: str | None) -> list[str]:
    """Find each recording's group in its file name; without a pattern each is its own."""
    if pattern is None:
        return paths
    groups = []
    for path in paths:
        match = re.search(pattern, path.rsplit("/", 1)[-1])
        if match is None:
            raise ValueError(f"data.group_pattern={pattern!r} is not found in the name of {path}")
        groups.append(match.group(1) if match.re.groups else match.group(0))
    return groups

"""``data=csv``: a row for each recording, or annotated part of one."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.labels import Labels
from birdmix.recordings.cells import Cells
from birdmix.recordings.columns import (
    datetime_of,
    groups_of,
    parse_labels,
    read_datetime,
    split_labels,
    with_secondary,
)
from birdmix.recordings.ends import Ends
from birdmix.recordings.findings import Findings
from birdmix.recordings.paths import Root, present
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_csv(settings: DataSettings, root: Root, findings: Findings = None) -> DataSource:
    """Read a CSV: a row for each recording, or annotated part of one.

    Its columns are path and labels (joined by ``;``), and whatever there is of secondary_labels,
    start, end (seconds), weight, group, recordist, site, date, datetime and split.
    """
    cells = Cells(Path(str(settings.table)), ("path", "labels"))
    paths = present(cells, cells.text("path"), root, findings)
    codes = cells.each("labels", _labels_of)
    columns: dict = {"codes": codes}
    if "secondary_labels" in cells:
        secondary = cells.each("secondary_labels", _labels_of)
        columns = with_secondary(codes, secondary, settings.secondary, settings.secondary_value)
        codes = [first + second for first, second in zip(codes, secondary, strict=True)]
    if not any(codes):
        raise ValueError(f"{cells.file}: no row has a label; fill in the column 'labels'")
    start, end = (
        cells.seconds(name) if name in cells else np.full(len(cells), np.nan)
        for name in ("start", "end")
    )
    _check_parts(cells, paths, start, end, Ends(root.folder, findings))
    if "weight" in cells:
        columns["weight"] = np.nan_to_num(cells.numbers("weight"), nan=1.0)
        cells.refuse(columns["weight"] < 0, "a weight is not negative")
    moments = _moments(cells, paths)
    recordings = Recordings.build(
        root.folder,
        Labels.of(codes),
        path=paths,
        **columns,
        group=_groups(cells, paths, moments, settings),
        start=start,
        end=end,
        datetime=moments,
        split=_split(cells, paths),
    )
    return DataSource(recordings)


def _labels_of(cell: str) -> tuple[str, ...]:
    """Return the labels of a cell: joined by ``;``, or a list as BirdCLEF has it."""
    return parse_labels(cell) if cell.strip()[:1] == "[" else split_labels(cell)


def _check_parts(
    cells: Cells, paths: list[str], start: np.ndarray, end: np.ndarray, ends: Ends
) -> None:
    """Refuse parts that are none or lie beyond the end, and rows that stand twice."""
    given = ~(np.isnan(start) & np.isnan(end))
    cells.refuse(
        given & ~((start >= 0) & (end > start)),
        "start and end in seconds need 0 <= start < end; leave both blank for all of a recording",
    )
    cells.refuse_repeated(paths, start, end, what="the same recording or part stands")
    for row in np.flatnonzero(given).tolist():
        ends.check(paths[row], start[row], end[row], cells.where(row))
    _warn_of_overlaps(cells, paths, start, end)


def _warn_of_overlaps(cells: Cells, paths: list[str], start: np.ndarray, end: np.ndarray) -> None:
    """Say if parts of a recording overlap: two rows then tell of the same moment."""
    spans = {"path": paths, "start": np.nan_to_num(start), "end": np.nan_to_num(end, nan=np.inf)}
    parts = pd.DataFrame(spans).sort_values(["path", "start"])
    reached = parts.groupby("path")["end"].cummax().groupby(parts["path"]).shift()
    overlaps = np.flatnonzero(parts["start"] < reached)
    if len(overlaps):
        warnings.warn(
            f"{cells.file}: {len(overlaps)} parts overlap others of their recording, first that of "
            f"row {cells.lines[parts.index[overlaps[0]]]}; if their labels differ, one of two is "
            "wrong where both hold: events that may overlap are what data=selections reads",
            stacklevel=2,
        )


def _groups(cells: Cells, paths: list[str], moments: list, settings: DataSettings) -> list[str]:
    given = {name: cells.text(name) for name in ("group", "recordist", "site") if name in cells}
    if "date" in cells or "datetime" in cells:
        dates = cells.text("date") if "date" in cells else [""] * len(cells)
        by_moment = ("" if m is None else m.date().isoformat() for m in moments)
        given["date"] = [date or other for date, other in zip(dates, by_moment, strict=True)]
    pattern = settings.group_pattern if "group" not in given else None
    groups = groups_of(paths, given, settings.group_by, pattern)
    _one_each(cells, paths, groups, "group")
    return groups


def _one_each(cells: Cells, paths: list[str], values: list[str], what: str) -> None:
    """Refuse a recording whose rows do not agree: its parts would stand on both sides."""
    first: dict[str, int] = {}
    for row, (path, value) in enumerate(zip(paths, values, strict=True)):
        other = first.setdefault(path, row)
        if values[other] != value:
            raise ValueError(
                f"{cells.where(row)}: {path} has {what} '{value}', and '{values[other]}' in row "
                f"{cells.lines[other]}; a recording belongs to one"
            )


def _moments(cells: Cells, paths: list[str]) -> list:
    if "datetime" in cells:
        return cells.each("datetime", read_datetime)
    return [datetime_of(path) for path in paths]


def _split(cells: Cells, paths: list[str]) -> list[str] | None:
    if "split" not in cells:
        return None

    def read(cell: str) -> str:
        name = cell.strip().lower()
        if name not in _SPLITS:
            raise ValueError(f"split '{cell}' is none of train, validation, test")
        return _SPLITS[name]

    split = cells.each("split", read)
    _one_each(cells, paths, split, "split")
    return split

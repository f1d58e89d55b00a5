"""Readers of a folder per class and of a CSV; and who reads what."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.labels import Labels
from birdmix.recordings.birdclef import read_birdclef
from birdmix.recordings.cells import Cells, read_text
from birdmix.recordings.columns import (
    datetime_of,
    groups_of,
    read_datetime,
    split_labels,
    with_secondary,
)
from birdmix.recordings.ends import Ends
from birdmix.recordings.findings import Findings
from birdmix.recordings.paths import Root, present
from birdmix.recordings.selections import read_selections
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.suggest import did_you_mean

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


#: Settings that only some sources have, with the value that leaves them alone.
_OWN_SETTINGS: dict[str, tuple[tuple[str, ...], object]] = {
    "table": (("csv", "selections"), None),
    "label_separator": (("folder",), None),
    "negative": (("folder",), []),
    "label_column": (("selections",), None),
    "label_map": (("selections",), None),
    "annotated": (("selections",), "whole_file"),
}


def read_source(settings: DataSettings, findings: Findings = None) -> DataSource:
    """Read whatever ``data`` names, but for what is excluded.

    Args:
        settings: The data settings.
        findings: Takes recordings that are not there, whose rows are left out, and times beyond
            an end; without it the first of them is an error.

    Raises:
        ValueError: With file and row, if something does not fit.
    """
    for name, (sources, usual) in _OWN_SETTINGS.items():
        if getattr(settings, name) != usual and settings.source not in sources:
            wanted = " and ".join(f"data={source}" for source in sources)
            raise ValueError(f"data.{name}={getattr(settings, name)}: it is for {wanted} alone")
    if settings.source == "csv" and settings.table is None:
        raise ValueError("data=csv needs data.table=FILE, a CSV of path and labels")
    readers = {
        "folder": read_folder,
        "csv": read_csv,
        "birdclef": read_birdclef,
        "demo": read_birdclef,
        "selections": read_selections,
    }
    folder = settings.root
    if folder is None and settings.table is not None:
        folder = str(Path(settings.table).parent)
    if folder is None:
        raise ValueError("data.root is not set; name the folder of the recordings: data.root=DIR")
    root = Root(Path(folder), settings.follow_links, excluded_of(settings))
    source = readers[settings.source](settings, root, findings)
    if not len(source.recordings):
        raise ValueError(f"data.root={folder}: none of the recordings is there")
    if settings.segment == "event" and not source.recordings.has_events:
        raise ValueError("data.segment=event: no recording of this data has events")
    strange = sorted(root.excluded - root.met)
    if strange:
        warnings.warn(
            f"{settings.exclude}: {len(strange)} lines name no recording of this data, first "
            f"'{strange[0]}'; paths are relative to {folder}",
            stacklevel=2,
        )
    return source


def excluded_of(settings: DataSettings) -> list[str]:
    """Return the paths that are left out."""
    if settings.exclude is None:
        return []
    lines = read_text(Path(settings.exclude)).splitlines()
    return [line.strip() for line in lines if line.strip()]


def read_background(settings: DataSettings, labels: Labels) -> Recordings:
    """Read the recordings without birds that the pool asks for."""
    root = Root(Path(str(settings.pool.background)), settings.follow_links)
    paths = root.recordings()
    if not paths:
        raise ValueError(f"data.pool.background={root.folder}: no recordings here")
    return Recordings.build(root.folder, labels, path=paths, codes=[()] * len(paths))


def read_folder(settings: DataSettings, root: Root, findings: Findings = None) -> DataSource:
    """Read a folder that holds a folder of recordings for each class.

    Deeper folders belong to their class. Those of ``data.negative`` hold no bird;
    ``data.label_separator`` lets a name carry several labels.
    """
    found = root.recordings(findings)
    paths = [path for path in found if "/" in path]
    if len(found) > len(paths):
        warnings.warn(
            f"{len(found) - len(paths)} recordings lie beside the class folders of {root.folder} "
            "and are left out",
            stacklevel=2,
        )
    if not paths:
        raise ValueError(f"data.root={root.folder}: no recordings in class folders (CLASS/FILE)")
    folders = [path.split("/", 1)[0] for path in paths]
    names = sorted(set(folders))
    for name in settings.negative:
        if name not in names:
            raise ValueError(f"data.negative: no folder '{name}'{did_you_mean(name, names)}")
    labels_of = {
        name: () if name in settings.negative else split_labels(name, settings.label_separator)
        for name in names
    }
    codes = [labels_of[folder] for folder in folders]
    if not any(codes):
        raise ValueError(f"data.negative: no folder of {root.folder} is left for a label")
    recordings = Recordings.build(
        root.folder,
        _labels(codes),
        path=paths,
        codes=codes,
        group=groups_of(paths, {}, settings.group_by, settings.group_pattern),
        datetime=[datetime_of(path) for path in paths],
    )
    return DataSource(recordings)


def read_csv(settings: DataSettings, root: Root, findings: Findings = None) -> DataSource:
    """Read a CSV: a row for each recording, or annotated part of one.

    Its columns are path and labels (joined by ``;``), and whatever there is of secondary_labels,
    start, end (seconds), weight, group, recordist, site, date, datetime and split.
    """
    cells = Cells(Path(str(settings.table)), ("path", "labels"))
    paths = present(cells, cells.text("path"), root, findings)
    codes = cells.each("labels", split_labels)
    columns: dict = {"codes": codes}
    if "secondary_labels" in cells:
        secondary = cells.each("secondary_labels", split_labels)
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
        _labels(codes),
        path=paths,
        **columns,
        group=_groups(cells, paths, moments, settings),
        start=start,
        end=end,
        datetime=moments,
        split=_split(cells, paths),
    )
    return DataSource(recordings)


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


def _labels(codes: list[tuple[str, ...]]) -> Labels:
    return Labels(tuple(sorted({code for each in codes for code in each})))

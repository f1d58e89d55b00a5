"""``data=csv``: a table with a row for each recording, or for each annotated span of one.

Shapes: N rows.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.labels import Labels
from birdmix.recordings.data_findings import Findings
from birdmix.recordings.data_root import DataRoot, resolve_paths_and_drop_missing
from birdmix.recordings.metadata import (
    assign_groups,
    combine_primary_and_secondary_labels,
    parse_datetime,
    parse_label_list,
    parse_start_time_from_name,
    split_label_text,
)
from birdmix.recordings.recording_lengths import RecordingLengths
from birdmix.recordings.recordings_table import Recordings, SourceRecordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.text_table import TextTable

#: Names of the splits, by their accepted spellings.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_csv(settings: DataSettings, root: DataRoot, findings: Findings = None) -> SourceRecordings:
    """Read a CSV with a row for each recording, or for each annotated span of one.

    Its columns are path and labels (joined by ``;``). Optional columns are secondary_labels,
    start, end (seconds), weight, group, recordist, site, date, datetime and split.

    Args:
        settings: The data settings.
        root: The data root.
        findings: List for missing recordings and for spans beyond an end; with None the first is an
            error.

    Raises:
        ValueError: With file and row, if the table is wrong.
    """
    cells = TextTable(Path(str(settings.table)), ("path", "labels"))
    paths = resolve_paths_and_drop_missing(cells, cells.text_column("path"), root, findings)
    codes = cells.parse_column("labels", _parse_label_cell)
    columns: dict = {"codes": codes}
    if "secondary_labels" in cells:
        secondary = cells.parse_column("secondary_labels", _parse_label_cell)
        if settings.secondary in ("unknown", "ignore"):  # others could never have a positive
            classes = {code for row in codes for code in row}
            secondary = [tuple(code for code in row if code in classes) for row in secondary]
        columns = combine_primary_and_secondary_labels(
            codes, secondary, settings.secondary, settings.secondary_value
        )
        codes = [first + second for first, second in zip(codes, secondary, strict=True)]
    if not any(codes):
        raise ValueError(f"{cells.file}: no row has a label; fill in the column 'labels'")
    start, end = (
        cells.seconds_column(name) if name in cells else np.full(len(cells), np.nan)
        for name in ("start", "end")
    )
    _check_spans(cells, paths, start, end, RecordingLengths(root.folder, findings))
    if "weight" in cells:
        columns["weight"] = np.nan_to_num(cells.number_column("weight"), nan=1.0)
        cells.raise_if_any_wrong(columns["weight"] < 0, "weight must not be negative")
    start_times = _read_start_times(cells, paths)
    recordings = Recordings.build(
        root.folder,
        Labels.from_row_codes(codes),
        path=paths,
        **columns,
        group=_read_groups(cells, paths, start_times, settings),
        start=start,
        end=end,
        datetime=start_times,
        split=_read_split(cells, paths),
    )
    return SourceRecordings(recordings)


def _parse_label_cell(cell: str) -> tuple[str, ...]:
    """Return the labels of a cell: joined by ``;``, or a list as in BirdCLEF's tables."""
    return parse_label_list(cell) if cell.strip()[:1] == "[" else split_label_text(cell)


def _check_spans(
    cells: TextTable,
    paths: list[str],
    start: np.ndarray,
    end: np.ndarray,
    lengths: RecordingLengths,
) -> None:
    """Refuse spans that are empty or exceed their recording, and repeated rows."""
    is_span = ~(np.isnan(start) & np.isnan(end))
    cells.raise_if_any_wrong(
        is_span & ~((start >= 0) & (end > start)),
        "start and end in seconds need 0 <= start < end; leave both blank for a whole recording",
    )
    cells.raise_if_any_repeated(paths, start, end, problem="the same recording or span occurs")
    for row in np.flatnonzero(is_span).tolist():
        lengths.check_span(paths[row], start[row], end[row], cells.location(row))
    _warn_about_overlaps(cells, paths, start, end)


def _warn_about_overlaps(
    cells: TextTable, paths: list[str], start: np.ndarray, end: np.ndarray
) -> None:
    """Warn if spans of a recording overlap: two rows then label the same moment."""
    columns = {"path": paths, "start": np.nan_to_num(start), "end": np.nan_to_num(end, nan=np.inf)}
    spans = pd.DataFrame(columns).sort_values(["path", "start"])
    latest_end = spans.groupby("path")["end"].cummax().groupby(spans["path"]).shift()
    overlaps = np.flatnonzero(spans["start"] < latest_end)
    if len(overlaps):
        warnings.warn(
            f"{cells.file}: {len(overlaps)} spans overlap others of their recording, first in row "
            f"{cells.line_numbers[spans.index[overlaps[0]]]}; if their labels differ, the labels "
            "of the overlap are contradictory: use data=selections for events that may overlap",
            stacklevel=2,
        )


def _read_groups(
    cells: TextTable, paths: list[str], start_times: list, settings: DataSettings
) -> list[str]:
    columns = {
        name: cells.text_column(name) for name in ("group", "recordist", "site") if name in cells
    }
    if "date" in cells or "datetime" in cells:
        dates = cells.text_column("date") if "date" in cells else [""] * len(cells)
        start_dates = ("" if time is None else time.date().isoformat() for time in start_times)
        columns["date"] = [date or other for date, other in zip(dates, start_dates, strict=True)]
    pattern = settings.group_pattern if "group" not in columns else None
    groups = assign_groups(paths, columns, settings.group_by, pattern)
    _check_constant(cells, paths, groups, "group")
    return groups


def _check_constant(cells: TextTable, paths: list[str], values: list[str], column: str) -> None:
    """Refuse a recording whose rows differ in group or split: it would be in both splits."""
    first_rows: dict[str, int] = {}
    for row, (path, value) in enumerate(zip(paths, values, strict=True)):
        first = first_rows.setdefault(path, row)
        if values[first] != value:
            raise ValueError(
                f"{cells.location(row)}: {path} has {column} '{value}', but '{values[first]}' in "
                f"row {cells.line_numbers[first]}; use one {column} for all rows of a recording"
            )


def _read_start_times(cells: TextTable, paths: list[str]) -> list:
    if "datetime" in cells:
        return cells.parse_column("datetime", parse_datetime)
    return [parse_start_time_from_name(path) for path in paths]


def _read_split(cells: TextTable, paths: list[str]) -> list[str] | None:
    if "split" not in cells:
        return None

    def parse_split(cell: str) -> str:
        name = cell.strip().lower()
        if name not in _SPLITS:
            raise ValueError(f"split '{cell}' must be one of train, validation, test")
        return _SPLITS[name]

    split = cells.parse_column("split", parse_split)
    _check_constant(cells, paths, split, "split")
    return split

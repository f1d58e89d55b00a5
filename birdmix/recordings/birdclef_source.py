"""``data=birdclef``: a BirdCLEF folder of 2021 to 2026; ``birdmix.competitions`` has the layouts.

Shapes: N rows.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.audio.find_recordings import find_recordings
from birdmix.competitions import NO_CALL, Competition, competition_of_folder
from birdmix.labels import Labels
from birdmix.messages import did_you_mean, first_few
from birdmix.recordings.data_findings import Findings
from birdmix.recordings.data_root import DataRoot, resolve_paths_and_drop_missing
from birdmix.recordings.metadata import (
    LABEL_SEPARATOR,
    assign_groups,
    combine_primary_and_secondary_labels,
    parse_label_list,
    parse_start_time_from_name,
    split_label_text,
)
from birdmix.recordings.recording_lengths import RecordingLengths
from birdmix.recordings.recordings_table import Recordings, SourceRecordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.text_table import TextTable

#: Rating assumed for a recording without one, on the scale from 0 to 5.
_UNRATED = 3.0

_LOWEST_WEIGHT = 0.1


def read_birdclef(
    settings: DataSettings, root: DataRoot, findings: Findings = None
) -> SourceRecordings:
    """Read a BirdCLEF folder.

    The weight is a fifth of the rating, the group is the author. Secondary labels that are not in
    the label set are left out, with a warning.

    Args:
        settings: The data settings.
        root: The folder of the competition.
        findings: List for missing recordings and for windows beyond an end; with None the first is
            an error.

    Raises:
        ValueError: With file and row, if the folder or a table is wrong.
    """
    layout = competition_of_folder(root.folder)
    cells = TextTable(
        root.folder / layout.train_table,
        ("primary_label", "secondary_labels", "filename"),
        layout.required_files_hint,
    )
    cells.raise_if_any_wrong(np.array(cells.text_column("primary_label")) == "", "no primary_label")
    labels = read_label_set(layout, root.folder, cells)
    paths = _find_recordings(layout, root, cells, findings)
    cells.raise_if_any_repeated(paths, problem="the same recording occurs")
    primary = cells.parse_column("primary_label", lambda code: (_check_code(code, labels),))
    secondary = cells.parse_column("secondary_labels", parse_label_list)
    secondary = _drop_foreign_labels(labels, cells, secondary)
    recordings = Recordings.build(
        root.folder,
        labels,
        path=paths,
        **combine_primary_and_secondary_labels(
            primary, secondary, settings.secondary, settings.secondary_value
        ),
        group=assign_groups(
            paths, _read_group_columns(cells), settings.group_by, settings.group_pattern
        ),
        weight=_read_weights(cells),
        datetime=[parse_start_time_from_name(path) for path in paths],
    )
    soundscapes = read_labelled_soundscapes(layout, root, labels, settings.group_by, findings)
    return SourceRecordings(recordings, soundscapes)


def read_label_set(layout: Competition, folder: Path, train: TextTable | None = None) -> Labels:
    """Read the labels of the taxonomy, or of the focal recordings, in the order of submissions.

    Args:
        layout: The competition.
        folder: Its folder.
        train: The table of the focal recordings, if it is read already.
    """
    cells = train
    if cells is None or layout.taxonomy:
        table = folder / (layout.taxonomy or layout.train_table)
        cells = TextTable(table, ("primary_label",), layout.required_files_hint)
    codes = cells.text_column("primary_label")
    names = cells.text_column("common_name") if "common_name" in cells else codes
    names_by_code = dict(zip(codes, names, strict=True))
    ordered = sorted(names_by_code)
    return Labels(tuple(ordered), tuple(names_by_code[code] for code in ordered))


def _find_recordings(
    layout: Competition, root: DataRoot, cells: TextTable, findings: Findings
) -> list[str]:
    files = cells.text_column("filename")
    if layout.folder_per_label:
        files = [
            f"{code}/{f}" for code, f in zip(cells.text_column("primary_label"), files, strict=True)
        ]
    return resolve_paths_and_drop_missing(
        cells, [f"{layout.train_audio}/{file}" for file in files], root, findings
    )


def _read_weights(cells: TextTable) -> np.ndarray | None:
    if "rating" not in cells:
        return None
    rating = cells.number_column("rating")
    return np.clip(np.where(rating > 0, rating, _UNRATED) / 5, _LOWEST_WEIGHT, 1.0)


def _read_group_columns(cells: TextTable) -> dict[str, list[str]]:
    columns = {}
    if "author" in cells:
        columns["recordist"] = cells.text_column("author")
    if "latitude" in cells and "longitude" in cells:
        places = zip(cells.text_column("latitude"), cells.text_column("longitude"), strict=True)
        columns["site"] = [f"{north},{east}" if north and east else "" for north, east in places]
    if "date" in cells:
        columns["date"] = cells.text_column("date")
    return columns


def read_labelled_soundscapes(
    layout: Competition,
    root: DataRoot,
    labels: Labels,
    group_by: str = "recording",
    findings: Findings = None,
) -> Recordings | None:
    """Read the labelled windows of training soundscapes; focal recordings are not needed.

    Args:
        layout: The competition.
        root: Its folder.
        labels: Its label set.
        group_by: site, date or recording; recording is used for other values, and for site if the
            table has no sites.
        findings: List for missing soundscapes and for windows beyond an end; with None the first
            is an error.

    Returns:
        A row for each distinct window; None if the folder has no labelled soundscapes.

    Raises:
        ValueError: With file and row, if the table is wrong.
    """
    table = root.folder / layout.soundscape_labels
    if not layout.soundscape_labels or not table.is_file():
        return None
    by_row_id = layout.folder_per_label
    if by_row_id:
        cells = TextTable(table, ("site", "audio_id", "seconds", "birds"))
        names = _find_soundscapes_2021(layout, root, cells)
    else:
        cells = TextTable(table, ("filename", "start", "end", "primary_label"))
        names = cells.text_column("filename")
    paths = resolve_paths_and_drop_missing(
        cells, [f"{layout.train_soundscapes}/{name}" for name in names], root, findings
    )
    column, separator = ("birds", " ") if by_row_id else ("primary_label", LABEL_SEPARATOR)
    codes = cells.parse_column(column, lambda text: _parse_codes(text, separator, labels))
    # The table of 2026 lists every window twice.
    windows = pd.DataFrame({"path": paths, "codes": list(map(frozenset, codes))})
    windows["end"] = cells.seconds_column("seconds" if by_row_id else "end")
    windows["start"] = (
        windows["end"] - layout.window_seconds if by_row_id else cells.seconds_column("start")
    )
    is_first = ~windows.duplicated().to_numpy()
    cells.keep_rows(is_first)
    windows = windows[is_first]
    start, end = windows["start"].to_numpy(), windows["end"].to_numpy()
    cells.raise_if_any_wrong(
        ~((start >= 0) & (end > start)), "start and end in seconds need 0 <= start < end"
    )
    paths = windows["path"].tolist()
    cells.raise_if_any_repeated(
        paths, start, end, problem="the same window occurs with different labels"
    )
    lengths = RecordingLengths(root.folder, findings)
    for row, path in enumerate(paths):
        lengths.check_span(path, start[row], end[row], cells.location(row))
    return Recordings.build(
        root.folder,
        labels,
        path=paths,
        codes=[window_codes for window_codes, keep in zip(codes, is_first, strict=True) if keep],
        group=_group_soundscapes(cells, paths, group_by),
        start=start,
        end=end,
        datetime=[parse_start_time_from_name(path) for path in paths],
    )


def _group_soundscapes(cells: TextTable, paths: list[str], group_by: str) -> list[str]:
    """Group soundscapes by site (a column of 2021) or date, if set; else each is its own group."""
    columns = {"site": cells.text_column("site")} if "site" in cells else {}
    return assign_groups(
        paths, columns, group_by if group_by in ("date", *columns) else "recording"
    )


def _find_soundscapes_2021(layout: Competition, root: DataRoot, cells: TextTable) -> list[str]:
    """Find soundscapes by audio id and site: their names end in a date that is not in the table."""
    by_id_and_site = {
        tuple(path.split("_")[:2]): path
        for path in find_recordings(root.folder / layout.train_soundscapes)
    }
    ids = zip(cells.text_column("audio_id"), cells.text_column("site"), strict=True)
    return [by_id_and_site.get((audio, site), f"{audio}_{site}_*.ogg") for audio, site in ids]


def _parse_codes(text: str, separator: str, labels: Labels) -> tuple[str, ...]:
    codes = split_label_text(text, separator)
    return tuple(_check_code(code, labels) for code in codes if code != NO_CALL)


def _check_code(code: str, labels: Labels) -> str:
    if code not in labels:
        raise ValueError(f"label '{code}' is not in the taxonomy{did_you_mean(code, labels.codes)}")
    return code


def _drop_foreign_labels(
    labels: Labels, cells: TextTable, secondary: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return the secondary labels that are in the label set, with a warning about the others."""
    foreign = [code for codes in secondary for code in codes if code not in labels]
    if foreign:
        names = [code for code, _ in Counter(foreign).most_common()]
        warnings.warn(
            f"{cells.file}: {len(foreign)} secondary labels ({len(names)} distinct) are not in the "
            f"label set and are left out: {first_few(names, 10)}",
            stacklevel=3,
        )
    return [tuple(code for code in codes if code in labels) for codes in secondary]

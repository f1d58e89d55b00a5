"""BirdCLEF folders, 2021 to 2026; what differs from year to year stands in ``competitions``."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.audio.listing import find_recordings
from birdmix.competitions import NO_CALL, Competition, competition_of
from birdmix.labels import Labels
from birdmix.recordings.cells import Cells
from birdmix.recordings.columns import (
    LABEL_SEPARATOR,
    datetime_of,
    groups_of,
    parse_labels,
    split_labels,
    with_secondary,
)
from birdmix.recordings.ends import Ends
from birdmix.recordings.findings import Findings
from birdmix.recordings.paths import Root, present
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.suggest import did_you_mean, first_few

#: What a recording that nobody has rated counts as, of five.
_UNRATED = 3.0

_LOWEST_WEIGHT = 0.1


def read_birdclef(settings: DataSettings, root: Root, findings: Findings = None) -> DataSource:
    """Read a BirdCLEF folder.

    A fifth of the rating is the weight; the author is the group; secondary labels outside of the
    label set are left out, and a warning counts and names them.
    """
    layout = competition_of(root.folder)
    cells = Cells(
        root.folder / layout.train_table,
        ("primary_label", "secondary_labels", "filename"),
        layout.hint,
    )
    cells.refuse(np.array(cells.text("primary_label")) == "", "no primary_label")
    labels = label_set(layout, root.folder, cells)
    paths = _recording_paths(layout, root, cells, findings)
    cells.refuse_repeated(paths, what="the same recording stands")
    primary = cells.each("primary_label", lambda code: (_known(code, labels),))
    secondary = _within(labels, cells, cells.each("secondary_labels", parse_labels))
    recordings = Recordings.build(
        root.folder,
        labels,
        path=paths,
        **with_secondary(primary, secondary, settings.secondary, settings.secondary_value),
        group=groups_of(paths, _group_columns(cells), settings.group_by, settings.group_pattern),
        weight=_weights(cells),
        datetime=[datetime_of(path) for path in paths],
    )
    soundscapes = read_soundscapes(layout, root, labels, settings.group_by, findings)
    return DataSource(recordings, soundscapes)


def label_set(layout: Competition, folder: Path, train: Cells | None = None) -> Labels:
    """Return the taxonomy's labels, or those of the recordings, in the order of submissions.

    Args:
        layout: The competition.
        folder: Its folder.
        train: The metadata of the focal recordings, where they are already read.
    """
    cells = train
    if cells is None or layout.taxonomy:
        table = folder / (layout.taxonomy or layout.train_table)
        cells = Cells(table, ("primary_label",), layout.hint)
    codes = cells.text("primary_label")
    names = cells.text("common_name") if "common_name" in cells else codes
    name_of = dict(zip(codes, names, strict=True))
    ordered = sorted(name_of)
    return Labels(tuple(ordered), tuple(name_of[code] for code in ordered))


def _recording_paths(
    layout: Competition, root: Root, cells: Cells, findings: Findings
) -> list[str]:
    files = cells.text("filename")
    if layout.folder_per_label:
        files = [f"{code}/{f}" for code, f in zip(cells.text("primary_label"), files, strict=True)]
    return present(cells, [f"{layout.train_audio}/{file}" for file in files], root, findings)


def _weights(cells: Cells) -> np.ndarray | None:
    if "rating" not in cells:
        return None
    rating = cells.numbers("rating")
    return np.clip(np.where(rating > 0, rating, _UNRATED) / 5, _LOWEST_WEIGHT, 1.0)


def _group_columns(cells: Cells) -> dict[str, list[str]]:
    columns = {}
    if "author" in cells:
        columns["recordist"] = cells.text("author")
    if "latitude" in cells and "longitude" in cells:
        places = zip(cells.text("latitude"), cells.text("longitude"), strict=True)
        columns["site"] = [f"{north},{east}" if north and east else "" for north, east in places]
    if "date" in cells:
        columns["date"] = cells.text("date")
    return columns


def read_soundscapes(
    layout: Competition,
    root: Root,
    labels: Labels,
    group_by: str = "recording",
    findings: Findings = None,
) -> Recordings | None:
    """Read the labelled windows of training soundscapes; focal recordings need not be there.

    Args:
        layout: The competition.
        root: Its folder.
        labels: Its label set.
        group_by: site, date or recording; what the soundscapes do not have is the recording.
        findings: Takes soundscapes that are missing, and windows beyond an end; without it the
            first of them is an error.

    Returns:
        A row for each window, each once; None if there are no labels.
    """
    table = root.folder / layout.soundscape_labels
    if not layout.soundscape_labels or not table.is_file():
        return None
    by_row_id = layout.folder_per_label
    if by_row_id:
        cells = Cells(table, ("site", "audio_id", "seconds", "birds"))
        names = _files_of_2021(layout, root, cells)
    else:
        cells = Cells(table, ("filename", "start", "end", "primary_label"))
        names = cells.text("filename")
    paths = present(cells, [f"{layout.train_soundscapes}/{name}" for name in names], root, findings)
    birds, separator = ("birds", " ") if by_row_id else ("primary_label", LABEL_SEPARATOR)
    codes = cells.each(birds, lambda text: _all_known(text, separator, labels))
    # 2026 lists every window twice.
    told = pd.DataFrame({"path": paths, "codes": list(map(frozenset, codes))})
    told["end"] = cells.seconds("seconds" if by_row_id else "end")
    told["start"] = told["end"] - layout.window_seconds if by_row_id else cells.seconds("start")
    once = ~told.duplicated().to_numpy()
    cells.keep(once)
    told = told[once]
    start, end = told["start"].to_numpy(), told["end"].to_numpy()
    cells.refuse(~((start >= 0) & (end > start)), "start and end in seconds need 0 <= start < end")
    cells.refuse_repeated(
        told["path"].tolist(), start, end, what="the same window stands with other labels"
    )
    paths = told["path"].tolist()
    ends = Ends(root.folder, findings)
    for row, path in enumerate(paths):
        ends.check(path, start[row], end[row], cells.where(row))
    return Recordings.build(
        root.folder,
        labels,
        path=paths,
        codes=[each for each, keep in zip(codes, once, strict=True) if keep],
        group=_soundscape_groups(cells, paths, group_by),
        start=start,
        end=end,
        datetime=[datetime_of(path) for path in paths],
    )


def _soundscape_groups(cells: Cells, paths: list[str], group_by: str) -> list[str]:
    """Group soundscapes by site (2021 tells it) or date if that is asked for; else each alone."""
    columns = {"site": cells.text("site")} if "site" in cells else {}
    return groups_of(paths, columns, group_by if group_by in ("date", *columns) else "recording")


def _files_of_2021(layout: Competition, root: Root, cells: Cells) -> list[str]:
    """Find the soundscapes by audio id and site: their names end in a date that no row tells."""
    by_start = {
        tuple(path.split("_")[:2]): path
        for path in find_recordings(root.folder / layout.train_soundscapes)
    }
    ids = zip(cells.text("audio_id"), cells.text("site"), strict=True)
    return [by_start.get((audio, site), f"{audio}_{site}_*.ogg") for audio, site in ids]


def _all_known(text: str, separator: str, labels: Labels) -> tuple[str, ...]:
    codes = split_labels(text, separator)
    return tuple(_known(code, labels) for code in codes if code != NO_CALL)


def _known(code: str, labels: Labels) -> str:
    if code not in labels:
        raise ValueError(f"label '{code}' is not in the taxonomy{did_you_mean(code, labels.codes)}")
    return code


def _within(
    labels: Labels, cells: Cells, secondary: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return the secondary labels that are in the label set; say which are not."""
    foreign = [code for codes in secondary for code in codes if code not in labels]
    if foreign:
        names = [code for code, _ in Counter(foreign).most_common()]
        warnings.warn(
            f"{cells.file}: {len(foreign)} secondary labels are outside of the label set and left "
            f"out, of {len(names)} kinds: {first_few(names, 10)}",
            stacklevel=3,
        )
    return [tuple(code for code in codes if code in labels) for codes in secondary]

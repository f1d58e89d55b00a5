"""Readers by data source (``data.source``), of the exclude list, and of pools with a folder."""

import warnings
from pathlib import Path

from birdmix.labels import Labels
from birdmix.recordings.birdclef_source import read_birdclef
from birdmix.recordings.csv_source import read_csv
from birdmix.recordings.data_findings import Findings
from birdmix.recordings.data_root import DataRoot
from birdmix.recordings.folder_source import read_class_folders, read_pool_class_folders
from birdmix.recordings.recordings_table import Recordings, SourceRecordings
from birdmix.recordings.selections_source import read_annotated_recordings
from birdmix.recordings.settings import DataSettings
from birdmix.text import read_text, unquote_cell

#: Settings that only some sources use, with these sources and the setting's default.
_SOURCE_SETTINGS: dict[str, tuple[tuple[str, ...], object]] = {
    "table": (("csv", "selections"), None),
    "label_separator": (("folder",), None),
    "negative": (("folder",), []),
    "label_column": (("selections",), None),
    "label_map": (("selections",), None),
    "annotated": (("selections",), "whole_file"),
}


def read_source(settings: DataSettings, findings: Findings = None) -> SourceRecordings:
    """Read the data source of the settings, without the recordings in ``data.exclude``.

    Args:
        settings: The data settings.
        findings: List for missing recordings, whose rows are left out, and for times beyond the
            end of a recording; with None the first of them is an error.

    Returns:
        The recordings, and the labelled soundscapes if the source has them.

    Raises:
        ValueError: With file and row, if settings, tables and recordings do not fit together.
    """
    for name, (sources, default) in _SOURCE_SETTINGS.items():
        if getattr(settings, name) != default and settings.source not in sources:
            users = " and ".join(f"data={source}" for source in sources)
            raise ValueError(
                f"data.{name}={getattr(settings, name)}: only {users} use it; remove it"
            )
    if settings.source == "csv" and settings.table is None:
        raise ValueError("data=csv needs data.table=FILE, a CSV with the columns path and labels")
    readers = {
        "folder": read_class_folders,
        "csv": read_csv,
        "birdclef": read_birdclef,
        "demo": read_birdclef,
        "selections": read_annotated_recordings,
    }
    folder = settings.root
    if folder is None and settings.table is not None:
        folder = str(Path(settings.table).parent)
    if folder is None:
        raise ValueError("data.root is not set; set the folder of the recordings: data.root=DIR")
    root = DataRoot(Path(folder), settings.follow_links, read_exclude_list(settings))
    source = readers[settings.source](settings, root, findings)
    if not len(source.recordings):
        raise ValueError(f"data.root={folder}: all recordings of this data are missing")
    if settings.segment == "event" and not source.recordings.has_any_events:
        raise ValueError("data.segment=event: no recording of this data has events")
    unmatched = sorted(root.excluded - root.matched_exclusions)
    if unmatched:
        warnings.warn(
            f"{settings.exclude}: {len(unmatched)} lines match no recording of this data, first "
            f"'{unmatched[0]}'; paths must be relative to {folder}",
            stacklevel=2,
        )
    return source


def read_exclude_list(settings: DataSettings) -> list[str]:
    """Read the exclude list ``data.exclude``.

    Args:
        settings: The data settings.

    Returns:
        Paths relative to the data root; empty if no list is set.

    Raises:
        ValueError: If the file is missing, or not text.
    """
    if settings.exclude is None:
        return []
    lines = read_text(Path(settings.exclude)).splitlines()
    return [path for line in lines if (path := unquote_cell(line.strip()))]


def read_pool_folder(settings: DataSettings, name: str, labels: Labels) -> Recordings:
    """Read the recordings of a pool with a folder of its own: background, or a folder per class.

    Args:
        settings: The data settings.
        name: Name of the pool.
        labels: Label set of the run.

    Raises:
        ValueError: If the folder is missing or holds no recordings, or it has classes that are not
            labels of the run.
    """
    key = f"data.pools.{name}.root"
    root = DataRoot(Path(str(settings.pools[name].root)), settings.follow_links, key=key)
    if settings.pool_source(name) == "folder":
        return read_pool_class_folders(settings, root, labels, key)
    paths = root.list_recordings()
    if not paths:
        raise ValueError(f"{key}={root.folder}: no recordings in this folder")
    return Recordings.build(root.folder, labels, path=paths, codes=[()] * len(paths))

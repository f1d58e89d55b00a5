"""Who reads what; and the reader of a folder per class."""

import warnings
from pathlib import Path

from birdmix.labels import Labels
from birdmix.recordings.birdclef import read_birdclef
from birdmix.recordings.columns import datetime_of, groups_of, split_labels
from birdmix.recordings.csv_table import read_csv
from birdmix.recordings.findings import Findings
from birdmix.recordings.paths import Root
from birdmix.recordings.selections import read_selections
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.suggest import did_you_mean
from birdmix.text import nfc, read_text, unquoted

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
    return [path for line in lines if (path := unquoted(line.strip()))]


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
    folders = [nfc(path.split("/", 1)[0]) for path in paths]
    names = sorted(set(folders))
    negative = set(map(nfc, settings.negative))
    for name in sorted(negative.difference(names)):
        raise ValueError(f"data.negative: no folder '{name}'{did_you_mean(name, names)}")
    labels_of = {
        name: () if name in negative else split_labels(name, settings.label_separator)
        for name in names
    }
    codes = [labels_of[folder] for folder in folders]
    if not any(codes):
        raise ValueError(f"data.negative: no folder of {root.folder} is left for a label")
    recordings = Recordings.build(
        root.folder,
        Labels.of(codes),
        path=paths,
        codes=codes,
        group=groups_of(paths, {}, settings.group_by, settings.group_pattern),
        datetime=[datetime_of(path) for path in paths],
    )
    return DataSource(recordings)

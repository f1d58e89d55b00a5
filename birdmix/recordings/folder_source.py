"""``data=folder``, and pools of ``source: folder``: a folder of recordings for each class."""

import warnings
from collections.abc import Sequence

from birdmix.labels import Labels
from birdmix.messages import did_you_mean, first_few
from birdmix.recordings.data_findings import Findings
from birdmix.recordings.data_root import DataRoot
from birdmix.recordings.metadata import assign_groups, parse_start_time_from_name, split_label_text
from birdmix.recordings.recordings_table import Recordings, SourceRecordings
from birdmix.recordings.settings import DataSettings
from birdmix.text import nfc


def read_class_folders(
    settings: DataSettings, root: DataRoot, findings: Findings = None
) -> SourceRecordings:
    """Read a folder that holds one folder of recordings per class.

    Nested folders belong to the class of their top folder. Recordings in the folders
    ``data.negative`` have no label. ``data.label_separator`` splits a folder's name into several
    labels.

    Args:
        settings: The data settings.
        root: The data root.
        findings: List for problems of the recordings; with None they are errors or warnings.

    Raises:
        ValueError: If there are no class folders, or ``data.negative`` does not fit them.
    """
    paths = _list_in_class_folders(root, "data.root", findings)
    names = sorted(set(map(_class_folder, paths)))
    for name in sorted(set(map(nfc, settings.negative)).difference(names)):
        raise ValueError(f"data.negative: no folder '{name}'{did_you_mean(name, names)}")
    codes = _codes_of_folders(paths, settings)
    if not any(codes):
        raise ValueError(
            f"data.negative: {root.folder} has no other class folders; leave one out of the list"
        )
    recordings = Recordings.build(
        root.folder,
        Labels.from_row_codes(codes),
        path=paths,
        codes=codes,
        group=assign_groups(paths, {}, settings.group_by, settings.group_pattern),
        datetime=[parse_start_time_from_name(path) for path in paths],
    )
    return SourceRecordings(recordings)


def read_pool_class_folders(
    settings: DataSettings, root: DataRoot, labels: Labels, key: str
) -> Recordings:
    """Read the class folders of a pool, with the labels of the run.

    Folder names are read as ``read_class_folders`` reads them.

    Args:
        settings: The data settings.
        root: Folder of the pool.
        labels: Label set of the run.
        key: Setting that names the folder, for errors.

    Raises:
        ValueError: If there are no class folders, or some are no label of the run.
    """
    paths = _list_in_class_folders(root, key, None)
    codes = _codes_of_folders(paths, settings)
    foreign = sorted({code for row in codes for code in row if code not in labels})
    if foreign:
        raise ValueError(
            f"{key}={root.folder}: {len(foreign)} folders are no label of this run: "
            f"{first_few(foreign, 5)}; rename them to labels of the run, or move them out of this "
            "folder"
        )
    return Recordings.build(
        root.folder,
        labels,
        path=paths,
        codes=codes,
        datetime=[parse_start_time_from_name(path) for path in paths],
    )


def _list_in_class_folders(root: DataRoot, key: str, findings: Findings) -> list[str]:
    """Return the recordings in class folders; warn about others, refuse a folder without any."""
    all_paths = root.list_recordings(findings)
    paths = [path for path in all_paths if "/" in path]
    if len(all_paths) > len(paths):
        warnings.warn(
            f"{root.folder}: {len(all_paths) - len(paths)} recordings are not in a class folder "
            "and are left out",
            stacklevel=3,
        )
    if not paths:
        raise ValueError(f"{key}={root.folder}: no recordings in class folders (CLASS/FILE)")
    return paths


def _class_folder(path: str) -> str:
    return nfc(path.split("/", 1)[0])


def _codes_of_folders(paths: Sequence[str], settings: DataSettings) -> list[tuple[str, ...]]:
    """Return the labels of each recording by its class folder."""
    folders = [_class_folder(path) for path in paths]
    negative = set(map(nfc, settings.negative))
    codes_by_folder: dict[str, tuple[str, ...]] = {
        name: () if name in negative else split_label_text(name, settings.label_separator)
        for name in set(folders)
    }
    return [codes_by_folder[folder] for folder in folders]

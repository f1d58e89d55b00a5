"""``data=folder``: a folder of recordings for each class."""

import warnings

from birdmix.labels import Labels
from birdmix.messages import did_you_mean
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
    all_paths = root.list_recordings(findings)
    paths = [path for path in all_paths if "/" in path]
    if len(all_paths) > len(paths):
        warnings.warn(
            f"{root.folder}: {len(all_paths) - len(paths)} recordings are not in a class folder "
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
    labels_by_folder = {
        name: () if name in negative else split_label_text(name, settings.label_separator)
        for name in names
    }
    codes = [labels_by_folder[folder] for folder in folders]
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

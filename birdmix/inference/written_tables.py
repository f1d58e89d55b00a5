"""Tables that an earlier command wrote, and that need not be written again.

``run.json`` has for each table a digest of all that it depends on, and the identity of the file
that was written from it. A table is kept if the digest is the same now and the file is still that
one: so a file that was removed, changed or replaced meanwhile is written again, also if a command
that replaced it was killed before it wrote ``run.json``.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from birdmix.json_data import check_keys, convert_json_value, read_json
from birdmix.ownership import (
    LIST,
    ContentIdentity,
    FileList,
    content_identity,
    files_below,
    foreign_folder_reason,
    read_file_list,
)

#: Name of the file with the options and counts of a prediction.
RUN = "run.json"


@dataclass(frozen=True)
class WrittenTable:
    """A table, and what it was written from.

    Attributes:
        inputs: Digest of all that it depends on.
        size, modified, sha256: Identity of the file; of a folder, that of its file list.
    """

    inputs: str
    size: int
    modified: int
    sha256: str

    def is_at(self, path: Path) -> bool:
        """Return whether a path is still the file or folder that was written."""
        file = path / LIST if path.is_dir() else path
        identity = ContentIdentity(self.size, self.modified, self.sha256)
        if not file.is_file() or not FileList(versions={"": [identity]}).has_version("", file):
            return False
        return file == path or _is_complete(path)


class WrittenTables:
    """The tables of an output folder: those kept from an earlier command, and new ones.

    Args:
        out: The output folder.

    Attributes:
        tables: The tables of this command, by name.
        num_detections: Rows of the earlier ``detections.csv``.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.tables: dict[str, WrittenTable] = {}
        self._former, self.num_detections = _read_former(out / RUN)

    def keep(self, name: str, inputs: str) -> bool:
        """Return whether a table with these inputs exists; if so, it is kept."""
        former = self._former.get(name)
        if former is None or former.inputs != inputs or not former.is_at(self.out / name):
            return False
        self.tables[name] = former
        return True

    def add(self, name: str, inputs: str) -> None:
        """Add a table that was just written, as it was before it got its name."""
        folder = self.out / name
        if folder.is_dir():
            self.tables[name] = WrittenTable(inputs, *content_identity(folder / LIST))
        elif versions := (read_file_list(self.out) or FileList()).versions.get(name):
            self.tables[name] = WrittenTable(inputs, *versions[-1])

    def to_json(self) -> dict[str, Any]:
        """Return the tables of this command for ``run.json``."""
        return {name: asdict(self.tables[name]) for name in sorted(self.tables)}


def digest_inputs(values: Iterable[object]) -> str:
    """Return a digest of values that have an exact ``repr``: text, numbers, lists of them, ..."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(f"{value!r}\n".encode())
    return digest.hexdigest()


def _is_complete(folder: Path) -> bool:
    """Return whether a folder holds the files of its list, unchanged, and no others."""
    listed = read_file_list(folder)
    return (
        listed is not None
        and set(files_below(folder)) == set(listed.versions)
        and foreign_folder_reason(folder) is None
    )


def _read_former(file: Path) -> tuple[dict[str, WrittenTable], int]:
    """Return tables and number of detections from ``run.json``; none if it is of no use."""
    try:
        run = read_json(file)
        check_keys(run, None, ("tables", "counts"), "")
        check_keys(run["counts"], None, ("detections",), "counts")
        tables = convert_json_value(dict[str, WrittenTable], run["tables"], "tables")
        return tables, convert_json_value(int, run["counts"]["detections"], "counts.detections")
    except (OSError, ValueError):  # absent, of an earlier birdmix or damaged
        return {}, 0

"""Ownership of files: lists of the files that birdmix wrote, which alone are replaced or removed.

A folder that birdmix writes to has a list of its files, ``.birdmix.jsonl``: for each file a line
with its name, size, modification time and SHA-256. The line is appended before the file gets its
name, so the list is complete even after a kill. Lists are only appended to, so several processes
may write to one folder. A file belongs to birdmix if it equals one of the versions listed under
its name; any other content was written or changed by another program. A line with a name only is
for a file that is updated continuously, such as a log: it belongs to birdmix with any content. A
folder belongs to birdmix if all files below it do.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from birdmix.partial_files import is_partial

#: Name of the file list in a folder.
LIST = ".birdmix.jsonl"

#: Kind of a folder with clips for people to check; its files are excerpts of other recordings.
CLIPS_KIND = "clips"

#: Files that operating systems write to folders that are opened in a file manager.
_SYSTEM_FILES = frozenset({".DS_Store", ".directory", "Thumbs.db", "desktop.ini"})


class ContentIdentity(NamedTuple):
    """Identity of a file's content.

    Attributes:
        size: Size in bytes.
        modified: Modification time in nanoseconds since 1970.
        sha256: SHA-256 of the content; that of a copy is the same.
    """

    size: int
    modified: int
    sha256: str


@dataclass
class FileList:
    """Content of a file list, ``.birdmix.jsonl``.

    Attributes:
        kind: Kind of a folder that birdmix made and replaces as a whole; else empty.
        versions: Versions of each file that birdmix wrote, by its path relative to the folder, with
            forward slashes. None for a file that is updated continuously.
    """

    kind: str = ""
    versions: dict[str, list[ContentIdentity] | None] = field(default_factory=dict)

    def has_version(self, name: str, file: Path) -> bool:
        """Return whether a file is a version that is listed under a name."""
        versions = self.versions.get(name, [])
        if versions is None:
            return True
        state = os.lstat(file)
        same_size = [each for each in versions if each.size == state.st_size]
        if not stat.S_ISREG(state.st_mode) or not same_size:
            return False
        if any(each.modified == state.st_mtime_ns for each in same_size):
            return True
        return sha256_of(file) in {each.sha256 for each in same_size}


def read_file_list(folder: Path) -> FileList | None:
    """Read the file list of a folder; None if it has none. Damaged lines are ignored."""
    try:
        text = (Path(folder) / LIST).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    listed = FileList()
    for line in text.splitlines():
        try:
            _parse_line(listed, json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # incomplete after a kill: its file is treated as a user's
    return listed


def _parse_line(listed: FileList, line: Mapping[str, Any]) -> None:
    if "kind" in line:
        listed.kind = str(line["kind"])
    if "name" not in line:
        return
    name = str(line["name"])
    if "size" not in line:
        listed.versions[name] = None
        return
    versions = listed.versions.setdefault(name, [])
    if versions is not None:
        version = ContentIdentity(int(line["size"]), int(line["modified"]), str(line["sha256"]))
        versions.append(version)


def append_file_to_list(folder: Path, name: str, file: Path | None = None) -> None:
    """Append a file to the list of a folder; the list is created if there is none.

    Args:
        folder: The folder.
        name: The file's path relative to it, with forward slashes.
        file: The file with the content, under its present name; None for a file that is updated
            continuously.
    """
    _append(folder, [_line(name, file)])


def append_version_if_list_exists(file: Path, content: Path) -> None:
    """Append the new version of a file to the list of its folder, if the folder has one.

    Args:
        file: The file.
        content: The file with the new content, before it is renamed.
    """
    listed = read_file_list(file.parent)
    if listed is not None and listed.versions.get(file.name, []) is not None:
        append_file_to_list(file.parent, file.name, content)


def write_full_file_list(folder: Path, kind: str) -> None:
    """Write the file list of a folder that birdmix made as a whole, with all of its files."""
    write_file_list(folder, kind, files_below(folder))


def write_file_list(folder: Path, kind: str, names: Iterable[str]) -> None:
    """Write the file list of a folder that birdmix made as a whole.

    Args:
        folder: The folder.
        kind: Kind of folder.
        names: The files to list, as paths relative to it with forward slashes.
    """
    lines = [_line(name, folder / name) for name in names]
    (folder / LIST).unlink(missing_ok=True)
    _append(folder, [{"kind": kind}, *lines])


def _line(name: str, file: Path | None) -> dict[str, Any]:
    return {"name": name} | ({} if file is None else content_identity(file)._asdict())


def _append(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    # ASCII, since names may have bytes that are not UTF-8. A single write appends all lines after
    # those of other processes; the leading line feed ends an incomplete line.
    text = "".join(f"\n{json.dumps(line)}" for line in lines) + "\n"
    with (folder / LIST).open("ab") as stream:
        stream.write(text.encode())


def content_identity(file: Path) -> ContentIdentity:
    """Return the identity of a file's content."""
    state = os.stat(file)
    return ContentIdentity(state.st_size, state.st_mtime_ns, sha256_of(file))


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(folder: Path) -> Iterator[str]:
    """Yield all files below a folder except its list, as relative paths with forward slashes.

    Symbolic links are yielded and not followed. Files of operating systems (``.DS_Store``,
    ``Thumbs.db``, ...) and partial files of birdmix are left out.
    """
    for parent, folders, names in os.walk(folder):
        relative = Path(os.path.relpath(parent, folder)).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted([*names, *links]):
            is_system = name in _SYSTEM_FILES or name[:2] == "._"
            if not is_system and not is_partial(name) and prefix + name != LIST:
                yield prefix + name


def foreign_file_reason(path: Path) -> str | None:
    """Return the reason why a file must not be replaced or removed; None if it may be."""
    path = Path(path)
    if not os.path.lexists(path):
        return None
    listed = read_file_list(path.parent) or FileList()
    if path.is_file() and listed.versions.get(path.name, []) is None:
        return None
    if path.is_symlink():
        return f"it is a symbolic link to {os.readlink(path)}"
    if not path.is_file():
        return "it is not a file"
    if path.name not in listed.versions:
        return "birdmix did not write it"
    return None if listed.has_version(path.name, path) else "it was changed after birdmix wrote it"


def foreign_folder_reason(folder: Path) -> str | None:
    """Return the reason why a folder must not be replaced or removed; None if it may be.

    All of its files must belong to birdmix. A symbolic link is resolved.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        return None
    if folder.is_symlink() and not folder.is_dir():
        return f"it is a symbolic link to {os.readlink(folder)}, which is not a folder"
    if not folder.is_dir():
        return "it is a file"
    listed = read_file_list(folder)
    for name in files_below(folder):
        if listed is None or name not in listed.versions:
            return f"it holds {name}, which birdmix did not write"
        if not listed.has_version(name, folder / name):
            return f"it holds {name}, which was changed after birdmix wrote it"
    return None


def refuse_with_reason(path: Path, why: str | None, remedy: str = "") -> None:
    """Refuse to replace or remove a file or folder that does not belong to birdmix.

    Args:
        path: The file or folder.
        why: The reason; None if there is none.
        remedy: Alternative to moving it away, for the message.

    Raises:
        ValueError: If there is a reason.
    """
    if why is not None:
        alternative = f", or {remedy}" if remedy else ""
        raise ValueError(f"{path}: {why}, so it is not replaced; move it away{alternative}")


@dataclass(frozen=True)
class OutputFiles:
    """Files that a command writes to a folder that may also hold the user's files.

    Attributes:
        folder: The folder.
        names: Names of the files that are written atomically.
        live_names: Names of the files that are updated continuously.
        remedy: Alternative to moving away an existing file, for messages.
        may_replace: Returns whether a file that is not listed may be replaced, for example since an
            early version of birdmix wrote it, which kept no lists.
    """

    folder: Path
    names: tuple[str, ...] = ()
    live_names: tuple[str, ...] = ()
    remedy: str = "name another folder"
    may_replace: Callable[[Path], bool] = lambda file: False

    def check(self) -> None:
        """Refuse a folder in which a file of these names is not birdmix's; nothing is written.

        Raises:
            ValueError: With the file and a remedy.
        """
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: it is not a folder; {self.remedy}")
        listed = read_file_list(self.folder)
        if listed is not None and listed.kind:
            raise ValueError(
                f"{self.folder}: birdmix made this folder ({listed.kind}) and replaces it as a "
                f"whole; {self.remedy}"
            )
        for name in (*self.names, *self.live_names):
            why = foreign_file_reason(self.folder / name)
            if why is not None and not self.may_replace(self.folder / name):
                refuse_with_reason(self.folder / name, why, self.remedy)

    def register(self) -> None:
        """Check again, make the folder and its list; to be called right before the first write.

        Raises:
            ValueError: As ``check``.
        """
        self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        listed = read_file_list(self.folder)
        new = [
            _line(name, None)
            for name in self.live_names
            if listed is None or listed.versions.get(name, []) is not None
        ]
        allowed = [
            name for name in self.names if foreign_file_reason(self.folder / name) is not None
        ]
        new += [_line(name, self.folder / name) for name in allowed]
        if new or listed is None:
            _append(self.folder, new)

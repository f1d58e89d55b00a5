"""Ownership: which files and folders birdmix wrote. Nothing else is ever replaced or removed.

A folder that birdmix writes into holds a list of what it wrote there, ``.birdmix.jsonl``: for each
file a line with its name, size, time of change and SHA-256. The line is appended before the file
gets its name, so the list is complete whatever ends the process; and nothing but appending changes
a list, so several processes may write into one folder. A file is birdmix's if it is one of the
versions listed under its name; other content there was made, or changed, by somebody else. A line
with a name alone is of a file that changes all the time, such as a log: it is birdmix's whatever it
holds. A folder is birdmix's if all files below it are.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from birdmix.partials import is_partial

#: The list in a folder.
LIST = ".birdmix.jsonl"

#: The kind of a folder of short excerpts for people to check; it holds no recordings of its own.
CLIPS = "clips"

#: What operating systems leave in folders that people look into.
_SYSTEM_FILES = frozenset({".DS_Store", ".directory", "Thumbs.db", "desktop.ini"})


class Version(NamedTuple):
    """Identity of a file's content.

    Attributes:
        size: Bytes.
        modified: When it was last written, in nanoseconds.
        sha256: Of the content; a copy of the file has it too.
    """

    size: int
    modified: int
    sha256: str


@dataclass
class FileList:
    """What ``.birdmix.jsonl`` says.

    Attributes:
        kind: What the folder is, where birdmix made it and replaces it as a whole; else empty.
        versions: Versions of each file that birdmix wrote, by its path relative to the folder, with
            forward slashes. None is a file that changes all the time.
    """

    kind: str = ""
    versions: dict[str, list[Version] | None] = field(default_factory=dict)

    def holds(self, name: str, file: Path) -> bool:
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


def read_list(folder: Path) -> FileList | None:
    """Read the list of a folder; None if it has none. Lines that are damaged are left out."""
    try:
        text = (Path(folder) / LIST).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = FileList()
    for line in text.splitlines():
        try:
            _add_line(found, json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # torn by a kill: its file counts as a user's
    return found


def _add_line(found: FileList, line: Mapping[str, Any]) -> None:
    if "kind" in line:
        found.kind = str(line["kind"])
    if "name" not in line:
        return
    name = str(line["name"])
    if "size" not in line:
        found.versions[name] = None
        return
    versions = found.versions.setdefault(name, [])
    if versions is not None:
        version = Version(int(line["size"]), int(line["modified"]), str(line["sha256"]))
        versions.append(version)


def add_to_list(folder: Path, name: str, file: Path | None = None) -> None:
    """Append a file to the list of a folder, which is begun if there is none.

    Args:
        folder: The folder.
        name: The file's path relative to it, with forward slashes.
        file: Where the content lies now; None for a file that changes all the time.
    """
    _append(folder, [_line(name, file)])


def add_version(file: Path, content: Path) -> None:
    """Enter what a file is about to become in the list of its folder, if that folder has one.

    Args:
        file: The file.
        content: Where its new content lies now.
    """
    listed = read_list(file.parent)
    if listed is not None and listed.versions.get(file.name, []) is not None:
        add_to_list(file.parent, file.name, content)


def list_everything(folder: Path, kind: str) -> None:
    """Begin the list of a folder that birdmix made as a whole, with all files that it holds."""
    list_files(folder, kind, files_below(folder))


def list_files(folder: Path, kind: str, names: Iterable[str]) -> None:
    """Begin the list of a folder that birdmix made as a whole, with some of its files."""
    lines = [_line(name, folder / name) for name in names]
    (folder / LIST).unlink(missing_ok=True)
    _append(folder, [{"kind": kind}, *lines])


def _line(name: str, file: Path | None) -> dict[str, Any]:
    return {"name": name} | ({} if file is None else version_of(file)._asdict())


def _append(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    # In ASCII: names may hold bytes that are no UTF-8. One call writes it all, behind what others
    # append; the line feed in front ends a line that was torn.
    text = "".join(f"\n{json.dumps(line)}" for line in lines) + "\n"
    with (folder / LIST).open("ab") as stream:
        stream.write(text.encode())


def version_of(file: Path) -> Version:
    """Return the identity of a file's content."""
    state = os.stat(file)
    return Version(state.st_size, state.st_mtime_ns, sha256_of(file))


def sha256_of(file: Path) -> str:
    """Return the hash of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(folder: Path) -> Iterator[str]:
    """Yield all that is below a folder but folders and lists, as paths relative to it.

    Symbolic links are yielded and never followed. Forward slashes stand between names. Files that
    operating systems leave everywhere (``.DS_Store``, ``Thumbs.db``, ...) are left out, and so are
    files of birdmix that a kill left unfinished.
    """
    for place, folders, names in os.walk(folder):
        below = Path(os.path.relpath(place, folder)).as_posix()
        prefix = "" if below == "." else f"{below}/"
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*names, *links]):
            is_system = name in _SYSTEM_FILES or name[:2] == "._"
            if not is_system and not is_partial(name) and prefix + name != LIST:
                yield prefix + name


def why_foreign_file(path: Path) -> str | None:
    """Say why a file must not be replaced or removed; None if it may be, or is absent."""
    path = Path(path)
    if not os.path.lexists(path):
        return None
    listed = read_list(path.parent) or FileList()
    if path.is_file() and listed.versions.get(path.name, []) is None:
        return None
    if path.is_symlink():
        return f"it is a symbolic link to {os.readlink(path)}"
    if not path.is_file():
        return "it is no file"
    if path.name not in listed.versions:
        return "birdmix did not write it"
    return None if listed.holds(path.name, path) else "it was changed since birdmix wrote it"


def why_foreign_folder(folder: Path) -> str | None:
    """Say why a folder must not be replaced or removed as a whole; None if it may be, or is absent.

    All that it holds must be birdmix's. A symbolic link stands for the folder that it leads to.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        return None
    if folder.is_symlink() and not folder.is_dir():
        return f"it is a symbolic link to {os.readlink(folder)}, which is no folder"
    if not folder.is_dir():
        return "it is a file"
    listed = read_list(folder)
    for name in files_below(folder):
        if listed is None or name not in listed.versions:
            return f"it holds {name}, which birdmix did not write"
        if not listed.holds(name, folder / name):
            return f"it holds {name}, which was changed since birdmix wrote it"
    return None


def refuse_foreign(path: Path, why: str | None, remedy: str = "") -> None:
    """Refuse to replace or remove what is not birdmix's.

    Args:
        path: A file or a folder.
        why: What is said against it; None is nothing.
        remedy: What else to do than to move it away.

    Raises:
        ValueError: If something is said against it.
    """
    if why is not None:
        either = f", or {remedy}" if remedy else ""
        raise ValueError(f"{path}: {why}, so it is not replaced; move it away{either}")


@dataclass(frozen=True)
class OutputFiles:
    """Files that a command writes into a folder which may hold files of its user as well.

    Attributes:
        folder: The folder.
        names: Of the files that are written whole.
        changing: Of the files that change all the time.
        remedy: What else to do where one of them is somebody else's than to move it away.
        allows: Whether a file that the list does not vouch for may be replaced nevertheless: it was
            written by a birdmix that kept no list, say.
    """

    folder: Path
    names: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()
    remedy: str = "name another folder"
    allows: Callable[[Path], bool] = lambda file: False

    def check(self) -> None:
        """Refuse a folder in which one of the files is somebody else's; nothing is written.

        Raises:
            ValueError: With the file and a remedy.
        """
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: it is no folder; {self.remedy}")
        listed = read_list(self.folder)
        if listed is not None and listed.kind:
            raise ValueError(
                f"{self.folder}: birdmix made this folder ({listed.kind}) and replaces it as a "
                f"whole; {self.remedy}"
            )
        for name in (*self.names, *self.changing):
            why = why_foreign_file(self.folder / name)
            if why is not None and not self.allows(self.folder / name):
                refuse_foreign(self.folder / name, why, self.remedy)

    def claim(self) -> None:
        """Check once more, make the folder and begin its list, right before the first writing.

        Raises:
            ValueError: As ``check``.
        """
        self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        listed = read_list(self.folder)
        new = [
            _line(name, None)
            for name in self.changing
            if listed is None or listed.versions.get(name, []) is not None
        ]
        allowed = [name for name in self.names if why_foreign_file(self.folder / name) is not None]
        new += [_line(name, self.folder / name) for name in allowed]
        if new or listed is None:
            _append(self.folder, new)

"""Files and folders that are whole or absent, and paths that stay where they belong.

Nothing that birdmix did not write is ever replaced: see ``birdmix.ownership``.
"""

import errno
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from birdmix.ownership import (
    CLIPS,
    LIST,
    add_version,
    list_everything,
    read_list,
    refuse_foreign,
    why_foreign_file,
    why_foreign_folder,
)
from birdmix.partials import OUTGOING, partial_of, remove_partials


@contextmanager
def atomic_path(path: Path, *, is_ours: bool = False) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an error.

    Where the directory has a list of what birdmix wrote, the file is entered in it.

    Args:
        path: The final file. Its directory is created if needed.
        is_ours: Whether the caller knows that birdmix wrote what stands there; else only what the
            directory's list names is replaced.

    Yields:
        The path to write to. If the block raises, whatever stands there is removed.

    Raises:
        ValueError: If something stands there that birdmix did not write.
    """
    path = Path(path)
    if not is_ours:
        refuse_foreign(path, why_foreign_file(path))
    with _new_parents(path):
        partial = partial_of(path)
        try:
            yield partial
            if not is_ours:
                refuse_foreign(path, why_foreign_file(path))
            add_version(path, partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, kind: str = "folder") -> Iterator[Path]:
    """Yield a temporary directory that replaces ``path`` when the block ends without an error.

    The new directory gets a list of all that it holds, so a later call may replace it. What was to
    become the same directory and was left by a kill is removed.

    Args:
        path: The final directory; of a symbolic link, the directory that it leads to.
        kind: What the directory is, for its list.

    Raises:
        ValueError: If the directory holds something that birdmix did not write.
        OSError: If it cannot be replaced, or the temporary one was removed meanwhile.
    """
    check_replaceable(path)
    path = Path(os.path.realpath(path))  # '.' has no name
    with _new_parents(path):
        remove_partials(path.parent, of=path)
        partial, outgoing = partial_of(path), partial_of(path, OUTGOING)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        mark = partial_of(partial / "whole")  # writers make a folder that is gone again
        mark.touch()
        try:
            yield partial
            if not mark.exists():
                raise FileNotFoundError(
                    errno.ENOENT, "it was removed while birdmix wrote into it", str(partial)
                )
            mark.unlink()
            list_everything(partial, kind)
            check_replaceable(path)
            _replace_directory(partial, path, outgoing)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _replace_directory(new: Path, path: Path, outgoing: Path) -> None:
    if not path.exists():
        os.replace(new, path)
        return
    os.replace(path, outgoing)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(outgoing, path)
        raise
    if why_foreign_folder(outgoing) is None:  # else somebody has just put something there
        shutil.rmtree(outgoing, ignore_errors=True)
    else:
        warnings.warn(f"{path}: replaced, but what it held is kept in {outgoing}", stacklevel=2)


def check_replaceable(folder: Path, remedy: str = "name another folder") -> None:
    """Refuse a folder that ``atomic_directory`` cannot replace; nothing is written.

    Args:
        folder: The folder; it need not exist.
        remedy: What else to do than to move away what it holds.

    Raises:
        ValueError: If it holds something that birdmix did not write.
        OSError: If it is a mount point, or nothing may be written beside it.
    """
    refuse_foreign(folder, why_foreign_folder(folder), remedy)
    real = Path(os.path.realpath(folder))
    if os.path.ismount(real):
        raise OSError(errno.EBUSY, "it is a mount point; name a folder in it", str(folder))
    beside = next(each for each in real.parents if each.is_dir())
    if not os.access(beside, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(beside))


def remove_folder(folder: Path) -> bool:
    """Remove a folder if it holds nothing but what birdmix wrote; return whether it is gone."""
    if folder.is_symlink() or why_foreign_folder(folder) is not None:
        return False
    shutil.rmtree(folder)
    return True


@contextmanager
def _new_parents(path: Path) -> Iterator[None]:
    """Make the directory that a path lies in; if the block raises, what is empty of it goes."""
    with removed_if_empty(absent_folders(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield


@contextmanager
def removed_if_empty(folders: Iterable[Path]) -> Iterator[None]:
    """Remove folders that are empty, in their order, if the block raises."""
    try:
        yield
    except BaseException:
        for folder in folders:
            remove_if_empty(folder)
        raise


def absent_folders(folder: Path) -> list[Path]:
    """Return a folder and those above it as far as they do not exist, the innermost first."""
    folder = Path(folder).absolute()
    return [each for each in (folder, *folder.parents) if not os.path.lexists(each)]


#: Folders that systems keep for themselves, in lower case: trash, snapshots, previews. What lies in
#: them was deleted, or is a copy. Those that begin with a dot (``.Trashes``) are hidden anyway.
SYSTEM_FOLDERS = frozenset(
    {"$recycle.bin", "recycler", "recycled", "system volume information"}  # Windows
    | {"#recycle", "#snapshot", "@eadir", "@tmp"}  # Synology
    | {"@recycle", "@recently-snapshot"}  # QNAP
    | {"__macosx", "network trash folder", "temporary items"}  # macOS, and what it zips
    | {"lost+found", "~snapshot"}  # Linux' file systems, NetApp
)


def walk(folder: Path) -> Iterator[str]:
    """Yield the files below a folder, as paths relative to it with forward slashes.

    Hidden files and folders are skipped, among them the ``._*`` files that macOS leaves on cards,
    and ``SYSTEM_FOLDERS``. Folders of clips that birdmix cut out of recordings are left out with a
    warning, but for the folder itself. Links are followed; each folder is entered once.
    """
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        if LIST in names and entered != {real} and _holds_clips(Path(place)):
            folders.clear()
            continue
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name.lower() not in SYSTEM_FOLDERS
        )
        below = Path(os.path.relpath(place, folder)).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in names:
            if name[0] != "." and os.path.isfile(os.path.join(place, name)):
                yield prefix + name


def _holds_clips(folder: Path) -> bool:
    listed = read_list(folder)
    if listed is None or listed.kind != CLIPS:
        return False
    warnings.warn(
        f"{folder}: left out, since birdmix cut these clips out of other recordings; to use them, "
        "name that folder itself",
        stacklevel=4,
    )
    return True


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing."""
    with suppress(OSError):  # it holds something, or another process was faster
        folder.rmdir()


def write_text(path: Path, text: str, *, is_ours: bool = False) -> None:
    """Write a text file (UTF-8) whole or not at all; see ``atomic_path``."""
    with atomic_path(path, is_ours=is_ours) as partial:
        partial.write_text(text, encoding="utf-8")


def shown(text: str) -> str:
    """Return text that any page and terminal can hold: bytes of a name that are no UTF-8 go."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_plain_name(name: str, what: str) -> None:
    """Refuse a name of a file that is not that of a file in the folder it is looked for in.

    Args:
        name: As a manifest or a table gives it.
        what: Where it stands and its value, for the message.

    Raises:
        ValueError: If it is empty, holds a separator, drive or control character, or is . or ..
    """
    if name in ("", ".", "..") or re.search(r"[\x00-\x1f\x7f/\\:]", name):
        raise ValueError(f"{what}: it must be a plain file name, without a folder")


def inside(root: Path, relative: str, where: str) -> str:
    """Return ``relative`` normalised, or refuse it if it leaves ``root``.

    Args:
        root: Directory that all paths of a data set stay in.
        relative: Path as the metadata gives it, relative to ``root`` or absolute.
        where: File and row it stands in, for the message.

    Raises:
        ValueError: If the path points outside ``root``.
    """
    base = os.path.abspath(root)
    full = os.path.normpath(os.path.join(base, relative))
    if os.path.commonpath([base, full]) != base or full == base:
        raise ValueError(
            f"{where}: path '{relative}' leaves the data root {base}; "
            "correct the path, or set data.root to a folder that holds every recording"
        )
    return os.path.relpath(full, base)

"""Atomic writing of files and folders, listing of folders, and checks of paths.

Only files that birdmix wrote are replaced: see ``birdmix.ownership``.
"""

import errno
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from birdmix.ownership import (
    CLIPS_KIND,
    LIST,
    append_version_if_list_exists,
    foreign_file_reason,
    foreign_folder_reason,
    read_file_list,
    refuse_with_reason,
    write_full_file_list,
)
from birdmix.partial_files import OUTGOING, partial_path, remove_partials


@contextmanager
def atomic_path(path: Path, *, is_ours: bool = False) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` if the block ends without an error.

    If the directory has a list of the files that birdmix wrote, the file is added to it.

    Args:
        path: The final file. Its directory is created if needed.
        is_ours: Whether the caller knows that birdmix wrote an existing file; else it is replaced
            only if the directory's list names it.

    Yields:
        The path to write to. If the block raises, it is removed.

    Raises:
        ValueError: If a file exists that birdmix did not write.
    """
    path = Path(path)
    if not is_ours:
        refuse_with_reason(path, foreign_file_reason(path))
    with _new_parents(path):
        partial = partial_path(path)
        try:
            yield partial
            if not is_ours:
                refuse_with_reason(path, foreign_file_reason(path))
            append_version_if_list_exists(path, partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, kind: str = "folder") -> Iterator[Path]:
    """Yield a temporary directory that replaces ``path`` if the block ends without an error.

    The new directory gets a list of its files, so that a later call may replace it. Temporary
    directories for the same path that killed processes left are removed.

    Args:
        path: The final directory; a symbolic link is resolved.
        kind: Kind of directory, written to its list.

    Yields:
        The directory to write to. If the block raises, it is removed.

    Raises:
        ValueError: If the directory holds files that birdmix did not write.
        OSError: If it cannot be replaced, or the temporary one was removed meanwhile.
    """
    check_replaceable_folder(path)
    path = Path(os.path.realpath(path))  # '.' has no name
    with _new_parents(path):
        remove_partials(path.parent, target=path)
        partial, outgoing = partial_path(path), partial_path(path, OUTGOING)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        # Writers create missing folders again, so a marker file shows whether it was removed.
        marker = partial_path(partial / "whole")
        marker.touch()
        try:
            yield partial
            if not marker.exists():
                raise FileNotFoundError(
                    errno.ENOENT, "it was removed while birdmix wrote into it", str(partial)
                )
            marker.unlink()
            write_full_file_list(partial, kind)
            check_replaceable_folder(path)
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
    if foreign_folder_reason(outgoing) is None:  # else another program has just added a file
        shutil.rmtree(outgoing, ignore_errors=True)
    else:
        warnings.warn(f"{path}: replaced, its former files are kept in {outgoing}", stacklevel=2)


def check_replaceable_folder(folder: Path, remedy: str = "name another folder") -> None:
    """Refuse a folder that ``atomic_directory`` cannot replace; nothing is written.

    Args:
        folder: The folder; it need not exist.
        remedy: Alternative to moving its files away, for the message.

    Raises:
        ValueError: If it holds files that birdmix did not write.
        OSError: If it is a mount point, or its parent folder is not writable.
    """
    refuse_with_reason(folder, foreign_folder_reason(folder), remedy)
    real = Path(os.path.realpath(folder))
    if os.path.ismount(real):
        raise OSError(errno.EBUSY, "it is a mount point; name a folder in it", str(folder))
    parent = next(folder for folder in real.parents if folder.is_dir())
    if not os.access(parent, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(parent))


def remove_folder_if_owned(folder: Path) -> bool:
    """Remove a folder if birdmix wrote all of its files; return whether it was removed."""
    if folder.is_symlink() or foreign_folder_reason(folder) is not None:
        return False
    shutil.rmtree(folder)
    return True


@contextmanager
def _new_parents(path: Path) -> Iterator[None]:
    """Make a path's parent directories; if the block raises, remove those made that are empty."""
    with remove_empty_on_error(absent_folders(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield


@contextmanager
def remove_empty_on_error(folders: Iterable[Path]) -> Iterator[None]:
    """Remove those of some folders that are empty, in the given order, if the block raises."""
    try:
        yield
    except BaseException:
        for folder in folders:
            remove_if_empty(folder)
        raise


def absent_folders(folder: Path) -> list[Path]:
    """Return those of a folder and its parents that do not exist, the innermost first."""
    folder = Path(folder).absolute()
    return [each for each in (folder, *folder.parents) if not os.path.lexists(each)]


#: Folders of operating systems, in lower case: trash, snapshots, previews. Their files are deleted
#: ones or copies. Folders that begin with a dot (``.Trashes``) are skipped as hidden.
SYSTEM_FOLDERS = frozenset(
    {"$recycle.bin", "recycler", "recycled", "system volume information"}  # Windows
    | {"#recycle", "#snapshot", "@eadir", "@tmp"}  # Synology
    | {"@recycle", "@recently-snapshot"}  # QNAP
    | {"__macosx", "network trash folder", "temporary items"}  # macOS, and its ZIP archives
    | {"lost+found", "~snapshot"}  # Linux file systems, NetApp
)


def walk_files(folder: Path) -> Iterator[str]:
    """Yield the files below a folder, as paths relative to it with forward slashes.

    Hidden files and folders are skipped, among them the ``._*`` files that macOS writes to memory
    cards, and ``SYSTEM_FOLDERS``. Subfolders of clips that birdmix made from recordings are skipped
    with a warning. Links are followed; each folder is visited once.
    """
    visited: set[str] = set()
    pending = [""]  # relative paths of folders, the next one last
    while pending:
        prefix = pending.pop()
        parent = os.path.join(folder, prefix)
        real = os.path.realpath(parent)
        if real in visited:
            continue
        visited.add(real)
        try:
            with os.scandir(parent) as listed:
                entries = {entry.name: entry for entry in listed}
        except OSError:  # it was removed meanwhile, or may not be read
            continue
        if LIST in entries and visited != {real} and _is_folder_of_clips(Path(parent)):
            continue
        shown = {name: entry for name, entry in entries.items() if name[0] != "."}
        folders = [name for name, entry in shown.items() if _is_kind(entry.is_dir)]
        pending += [
            f"{prefix}{name}/"
            for name in sorted(folders, reverse=True)
            if name.lower() not in SYSTEM_FOLDERS
        ]
        # Listing a folder states the kind of its entries: on network disks a question each is slow.
        yield from (prefix + name for name, entry in shown.items() if _is_kind(entry.is_file))


def _is_kind(question: Callable[[], bool]) -> bool:
    """Return the answer of ``is_file`` or ``is_dir`` of an entry; False for a link in a circle."""
    try:
        return question()
    except OSError:
        return False


def _is_folder_of_clips(folder: Path) -> bool:
    """Return whether birdmix made a folder of clips; warn that it is skipped if so."""
    listed = read_file_list(folder)
    if listed is None or listed.kind != CLIPS_KIND:
        return False
    warnings.warn(
        f"{folder}: skipped, since it holds clips that birdmix made from other recordings; to use "
        "them, name that folder itself",
        stacklevel=4,
    )
    return True


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with suppress(OSError):  # it is not empty, or another process removed it
        folder.rmdir()


def write_text(path: Path, text: str, *, is_ours: bool = False) -> None:
    """Write a text file (UTF-8) atomically; see ``atomic_path``."""
    with atomic_path(path, is_ours=is_ours) as partial:
        partial.write_text(text, encoding="utf-8")


def replace_surrogates(text: str) -> str:
    """Return text that can be printed: bytes of a name that are not UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_plain_name(name: str, what: str) -> None:
    """Refuse a name that could lead to a file in another folder.

    Args:
        name: The name in a manifest or a table.
        what: Key and value, for the message.

    Raises:
        ValueError: If it is empty, has a separator, drive or control character, or is . or ..
    """
    if name in ("", ".", "..") or re.search(r"[\x00-\x1f\x7f/\\:]", name):
        raise ValueError(f"{what}: it must be a plain file name, without a folder")


def relative_path_inside(root: Path, relative: str, where: str) -> str:
    """Return a path normalised and relative to ``root``, or refuse it if it leaves ``root``.

    Args:
        root: Directory that must hold all files of a data set.
        relative: Path in the metadata, relative to ``root`` or absolute.
        where: File and row of the path, for the message.

    Raises:
        ValueError: If the path is outside of ``root``.
    """
    base = os.path.abspath(root)
    full = os.path.normpath(os.path.join(base, relative))
    if os.path.commonpath([base, full]) != base or full == base:
        raise ValueError(
            f"{where}: path '{relative}' leaves the data root {base}; "
            "correct the path, or set data.root to a folder that holds every recording"
        )
    return os.path.relpath(full, base)

"""Files that are whole or absent, and paths that stay where they belong."""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an error.

    The temporary name stands in the same directory (a rename across file systems is a copy, and a
    copy can be torn) and keeps the suffix, since many writers choose the format by it.

    Args:
        path: The final file. Its directory is created if needed.

    Yields:
        The path to write to. If the block raises, whatever stands there is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f".{path.stem}.{writer}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that replaces ``path`` when the block ends without an error."""
    path = Path(path).absolute()  # '.' has no name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    outgoing = path.with_name(f".{path.name}.{os.getpid()}.outgoing")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            os.replace(path, outgoing)
        try:
            os.replace(partial, path)
        except OSError:
            if outgoing.exists():
                os.replace(outgoing, path)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(outgoing, ignore_errors=True)


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
    and ``SYSTEM_FOLDERS``. Links are followed; each folder is entered once.
    """
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name.lower() not in SYSTEM_FOLDERS
        )
        below = Path(os.path.relpath(place, folder)).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in names:
            if name[0] != "." and os.path.isfile(os.path.join(place, name)):
                yield prefix + name


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing."""
    with suppress(OSError):  # it holds something, or another process was faster
        folder.rmdir()


def remove_partials(folder: Path) -> None:
    """Remove what killed writers of this module left in a folder."""
    for kind in ("partial", "outgoing"):
        for path in folder.glob(f".*.{kind}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all."""
    with atomic_path(path) as partial:
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

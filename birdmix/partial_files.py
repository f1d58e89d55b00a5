"""Partial files and folders: their names while they are written, and their removal after a kill.

A name is ``.STEM.birdmix-HOST-PROCESS-THREAD.partial.SUFFIX``, which no other program uses. HOST is
a hash of the machine's name: it distinguishes files left by this machine from files that a process
on another machine, with access to the same disk, is writing.
"""

import os
import platform
import re
import shutil
import threading
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

#: A new file or folder that is incomplete; an old folder that a new one has just replaced.
PARTIAL, OUTGOING = "partial", "outgoing"

_NAME = re.compile(
    r"\.(?P<stem>.+)\.birdmix-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-\d+"
    rf"\.(?:{PARTIAL}|{OUTGOING})(?P<suffix>\.[^.]*)?"
)

#: Most bytes of the stem in a partial name; file systems allow 255 for the whole name.
_MAX_STEM_BYTES = 120

#: Seconds without a change after which a partial file of another machine counts as left over.
_LEFT_OVER_AFTER = 24 * 3600


def partial_path(path: Path, kind: str = PARTIAL) -> Path:
    """Return the temporary path for the new content of a path, in the same directory.

    A rename across file systems would be a copy, which a kill can leave incomplete. The suffix is
    kept, since many writers choose the format by it.
    """
    writer = f"birdmix-{_host()}-{os.getpid()}-{threading.get_ident()}"
    return path.with_name(f".{_stem(path)}.{writer}.{kind}{path.suffix}")


def is_partial(name: str) -> bool:
    """Return whether a file name is one that ``partial_path`` returns."""
    return _NAME.fullmatch(name) is not None


def remove_partials(
    folder: Path, target: Path | None = None, *, is_only_writer: bool = False
) -> None:
    """Remove partial files and folders that killed processes left in a folder.

    Those of running processes are kept. Whether a process on another machine is running is unknown:
    its partial files are kept for a day after their last change.

    Args:
        folder: The folder; it need not exist.
        target: Remove only partial versions of this file or folder.
        is_only_writer: Whether the caller knows that no other process writes to the folder, for
            example since it holds a lock.
    """
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None or entry.is_symlink():
                continue
            if target is not None and (match["stem"], match["suffix"] or "") != (
                _stem(target),
                target.suffix,
            ):
                continue
            if is_only_writer or _is_left_over(entry, match["host"], int(match["process"])):
                _remove(entry)


def _remove(entry: os.DirEntry) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):  # another process removed it
            os.unlink(entry)


def _is_left_over(entry: os.DirEntry, host: str, process: int) -> bool:
    if host != _host() or os.name != "posix":
        return time.time() - entry.stat().st_mtime > _LEFT_OVER_AFTER
    try:
        os.kill(process, 0)  # signal 0 only checks whether the process exists
    except ProcessLookupError:
        return True
    except OSError:  # it exists and belongs to another user
        return False
    return False


def _stem(path: Path) -> str:
    return os.fsencode(path.stem)[:_MAX_STEM_BYTES].decode("utf-8", "ignore")


def _host() -> str:
    return sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]

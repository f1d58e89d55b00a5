"""Names of files and folders that are being written, and what a kill leaves of them.

``.STEM.birdmix-HOST-PROCESS-THREAD.partial.SUFFIX``: no other program gives such a name. HOST is a
hash of the machine's name, so that what a process on this machine left can be told from what a
process on another machine, which shares the disk, is writing now.
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

#: A new file or folder that is not whole yet; an old folder that a new one has just replaced.
PARTIAL, OUTGOING = "partial", "outgoing"

_NAME = re.compile(
    r"\.(?P<stem>.+)\.birdmix-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-\d+"
    rf"\.(?:{PARTIAL}|{OUTGOING})(?P<suffix>\.[^.]*)?"
)

#: Bytes of a name that are kept; file systems take 255 with what is added.
_LONGEST_STEM = 120

#: After so many seconds without a change, what another machine was writing is taken for left over.
_LEFT_AFTER = 24 * 3600


def partial_of(path: Path, kind: str = PARTIAL) -> Path:
    """Return where the new content of a path is written, in the same directory.

    A rename across file systems would be a copy, and a copy can be torn. The suffix is kept, since
    many writers choose the format by it.
    """
    writer = f"birdmix-{_host()}-{os.getpid()}-{threading.get_ident()}"
    return path.with_name(f".{_stem(path)}.{writer}.{kind}{path.suffix}")


def is_partial(name: str) -> bool:
    """Return whether a file name is one that ``partial_of`` gives."""
    return _NAME.fullmatch(name) is not None


def remove_partials(folder: Path, of: Path | None = None, *, is_only_writer: bool = False) -> None:
    """Remove what killed processes left in a folder.

    What a running process writes stays. Of a process on another machine that cannot be known: what
    it wrote stays for a day after its last change.

    Args:
        folder: The folder; it need not exist.
        of: Remove only what was to become this file or folder.
        is_only_writer: Whether it is known that no other process writes here, by a lock say.
    """
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None or entry.is_symlink():
                continue
            if of is not None and (match["stem"], match["suffix"] or "") != (_stem(of), of.suffix):
                continue
            if is_only_writer or _is_left_over(entry, match["host"], int(match["process"])):
                _remove(entry)


def _remove(entry: os.DirEntry) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):  # another process was faster
            os.unlink(entry)


def _is_left_over(entry: os.DirEntry, host: str, process: int) -> bool:
    if host != _host() or os.name != "posix":
        return time.time() - entry.stat().st_mtime > _LEFT_AFTER
    try:
        os.kill(process, 0)  # tells whether it runs, and does nothing to it
    except ProcessLookupError:
        return True
    except OSError:  # it runs, for another user
        return False
    return False


def _stem(path: Path) -> str:
    return os.fsencode(path.stem)[:_LONGEST_STEM].decode("utf-8", "ignore")


def _host() -> str:
    return sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]

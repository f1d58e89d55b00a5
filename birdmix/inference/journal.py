"""The journal of a prediction: each recording's logits, saved as soon as they are computed.

It is one SQLite file. A recording is added completely or not at all, also if the process is killed.

Shapes: W windows, C columns of logits.
"""

import os
import sqlite3
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.inference.journal_faults import find_header_fault, find_logits_fault
from birdmix.messages import first_line
from birdmix.partial_files import partial_path

#: Windows in one cell: SQLite's cells hold less than a GB.
WINDOWS_PER_CELL = 4096

_TABLES = {
    "about": "(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "recordings": "(id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL, size INTEGER NOT NULL, "
    "modified INTEGER NOT NULL, seconds REAL NOT NULL, recorded_at TEXT, warning TEXT NOT NULL)",
    "logits": "(recording INTEGER, chunk INTEGER, logits BLOB, PRIMARY KEY (recording, chunk))",
}


@dataclass(frozen=True)
class EntryHeader:
    """A journal's entry of a recording, without its logits.

    Attributes:
        path: The recording, relative to the folder predicted.
        size: Bytes of the file ...
        modified: ... and when it was last written, in nanoseconds: if they change, the recording is
            predicted again.
        seconds: Length of the recording.
        recorded_at: When it began by its own clock, ISO 8601; None if unknown.
        warning: What was unusual in the file; empty if nothing.
    """

    path: str
    size: int
    modified: int
    seconds: float
    recorded_at: str | None
    warning: str


@dataclass(frozen=True)
class EntryWithLogits(EntryHeader):
    """A journal's entry of a recording.

    Attributes:
        logits: Float32 [W, C].
    """

    logits: np.ndarray


def read_fingerprint(file: Path) -> dict[str, str]:
    """Return a journal's fingerprint; empty if there is no journal, or it is damaged.

    Raises:
        ValueError: If another process is writing it.
    """
    if not file.exists():
        return {}
    with _one_line_errors(file), closing(sqlite3.connect(file, timeout=0.5)) as database:
        try:
            about = dict(database.execute("SELECT key, value FROM about"))
            return about if all(isinstance(text, str) for text in about.values()) else {}
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise
            return {}


def is_journal(file: Path) -> bool:
    """Return whether a file is a journal that birdmix wrote, or is empty.

    Raises:
        ValueError: If another process is writing it.
    """
    return file.is_file() and (not file.stat().st_size or "birdmix" in read_fingerprint(file))


class Journal:
    """Logits of recordings under one fingerprint; opened with another one, it starts empty.

    Args:
        file: The journal; created if there is none.
        fingerprint: All that the logits depend on: key to value.
        num_columns: Columns C of the logits.
        unknown: Columns that hold NaN, of species that a model does not have, bool [C]; None if
            there are none.
        num_windows: Returns the fewest and the most windows W of a recording, given its seconds;
            None allows any number.

    Attributes:
        changed: Keys of the fingerprint that changed, with their former values; empty if the
            journal is continued or new.
        backup: Where the former journal was moved to, if it started empty.
        dropped: Recordings whose entries were damaged and removed, and why.

    Raises:
        ValueError: If another process is writing it, or the disk is full.
    """

    def __init__(
        self,
        file: Path,
        fingerprint: dict[str, str],
        num_columns: int,
        *,
        unknown: np.ndarray | None = None,
        num_windows: Callable[[float], tuple[int, int]] | None = None,
    ) -> None:
        self.file, self.num_columns = Path(file), num_columns
        self.unknown = np.zeros(num_columns, bool) if unknown is None else unknown
        self.num_windows = num_windows or (lambda _: (1, sys.maxsize))
        self.changed: dict[str, str] = {}
        self.backup: Path | None = None
        self.dropped: dict[str, str] = {}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with _one_line_errors(self.file):
            try:
                before = self._open()
                if before == fingerprint:
                    self._drop_damaged_entries()
            except sqlite3.OperationalError:  # locked, full, no permission: not damaged
                raise
            except sqlite3.DatabaseError:
                before = None
                self._replace_damaged_file()
            if before is not None and before != fingerprint:
                self.changed = {
                    key: before.get(key, "")
                    for key, value in fingerprint.items()
                    if before.get(key) != value
                }
                self._back_up()
            if before != fingerprint:
                self._create(fingerprint)
        self._inode = self._read_inode()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def _open(self) -> dict[str, str] | None:
        """Open the file; return its fingerprint, None if it is a new one."""
        self.database = sqlite3.connect(self.file, isolation_level=None, timeout=0.5)
        # Damaged text need not be UTF-8. It is decoded nevertheless, and differs from what was
        # written.
        self.database.text_factory = lambda data: data.decode("utf-8", "replace")
        # One process at a time: then the log needs no shared memory, which network disks lack.
        self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():  # takes the lock, and keeps it
            (state,) = self.database.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            # Other databases are not written to; and a view in one could run without end.
            query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_%'"
            tables = dict(self.database.execute(query))
            if not tables:
                return None
            if tables != {name: f"CREATE TABLE {name} {cols}" for name, cols in _TABLES.items()}:
                raise sqlite3.DatabaseError("its tables are not those of a journal")
            return dict(self.database.execute("SELECT key, value FROM about"))

    def _replace_damaged_file(self) -> None:
        self.database.close()
        self.backup = self._backup_path("damaged")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.file.with_name(self.file.name + suffix).rename(f"{self.backup}{suffix}")
        self._open()

    def _back_up(self) -> None:
        (num_entries,) = self.database.execute("SELECT COUNT(*) FROM recordings").fetchone()
        if num_entries:
            self.backup = self._backup_path("before")
            partial = partial_path(self.backup)
            self.database.execute("VACUUM INTO ?", (str(partial),))
            os.replace(partial, self.backup)

    def _backup_path(self, what: str) -> Path:
        """Return an unused name beside the journal: no backup is ever overwritten."""
        number, path = 1, self.file.with_stem(f"{self.file.stem}-{what}")
        while os.path.lexists(path):
            number += 1
            path = self.file.with_stem(f"{self.file.stem}-{what}-{number}")
        return path

    def _read_inode(self) -> tuple[int, int] | None:
        try:
            state = os.stat(self.file)
        except FileNotFoundError:
            return None
        return state.st_dev, state.st_ino

    def check_not_replaced(self) -> None:
        """Check that the file still exists: SQLite would write on to a deleted one.

        Raises:
            ValueError: If it was removed or replaced meanwhile.
        """
        if self._read_inode() != self._inode:
            raise ValueError(
                f"{self.file}: it was removed or replaced while birdmix wrote it, and its content "
                "is lost; start the same command again, and do not change the folder meanwhile"
            )

    def _create(self, fingerprint: dict[str, str]) -> None:
        with self._transaction():
            for name, columns in _TABLES.items():
                self.database.execute(f"DROP TABLE IF EXISTS {name}")
                self.database.execute(f"CREATE TABLE {name} {columns}")
            self.database.executemany("INSERT INTO about VALUES (?, ?)", fingerprint.items())

    def _drop_damaged_entries(self) -> None:
        """Remove the entries that are not as they were written, so that they are made again."""
        run = self.database.execute
        columns = "id, path, size, modified, seconds, recorded_at, warning"
        damaged = {}
        for number, *header in run(f"SELECT {columns} FROM recordings"):
            query = "SELECT chunk, logits FROM logits WHERE recording = ? ORDER BY chunk"
            fault = find_header_fault(*header)
            fault = fault or find_logits_fault(
                run(query, (number,)), WINDOWS_PER_CELL, self.unknown, self.num_windows(header[3])
            )
            if fault:
                damaged[number] = (header[0], fault)
        with self._transaction():
            for number, (path, fault) in damaged.items():
                run("DELETE FROM logits WHERE recording = ?", (number,))
                run("DELETE FROM recordings WHERE id = ?", (number,))
                self.dropped[_decode(path) if isinstance(path, bytes) else str(path)] = fault

    def sizes_and_times(self) -> dict[str, tuple[int, int]]:
        """Return size in bytes and time of change in nanoseconds of each recording, by path."""
        rows = self.database.execute("SELECT path, size, modified FROM recordings")
        return {_decode(path): (size, modified) for path, size, modified in rows}

    def headers(self, paths: Container[str]) -> Iterator[EntryHeader]:
        """Yield the entries of some recordings without their logits, sorted by path."""
        rows = self.database.execute(
            "SELECT path, size, modified, seconds, recorded_at, warning "
            "FROM recordings ORDER BY path"
        )
        for path, *rest in rows:
            if _decode(path) in paths:
                yield EntryHeader(_decode(path), *rest)

    def add(self, entry: EntryWithLogits) -> None:
        """Add a recording, in place of an entry with the same path.

        Raises:
            ValueError: If the disk is full or cannot be written, or the journal was removed
                meanwhile.
        """
        self.check_not_replaced()
        logits, path = np.ascontiguousarray(entry.logits, "<f4"), _encode(entry.path)
        header = (entry.size, entry.modified, entry.seconds, entry.recorded_at, entry.warning)
        run = self.database.execute
        with _one_line_errors(self.file), self._transaction():
            run(
                "DELETE FROM logits WHERE recording = (SELECT id FROM recordings WHERE path = ?)",
                (path,),
            )
            run("DELETE FROM recordings WHERE path = ?", (path,))
            number = run(
                "INSERT INTO recordings (path, size, modified, seconds, recorded_at, warning) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (path, *header),
            ).lastrowid
            for part, at in enumerate(range(0, len(logits), WINDOWS_PER_CELL)):
                cell = logits[at : at + WINDOWS_PER_CELL].data.cast("B")
                run("INSERT INTO logits VALUES (?, ?, ?)", (number, part, cell))

    def entries_with_logits(self, paths: Container[str]) -> Iterator[EntryWithLogits]:
        """Yield the entries of some recordings, sorted by path."""
        rows = self.database.execute(
            "SELECT id, path, size, modified, seconds, recorded_at, warning FROM recordings "
            "ORDER BY path"
        )
        for number, path, size, modified, seconds, recorded_at, warning in rows:
            if _decode(path) not in paths:
                continue
            cells = self.database.execute(
                "SELECT logits FROM logits WHERE recording = ? ORDER BY chunk", (number,)
            )
            content = bytearray()
            for (cell,) in cells:
                content += cell
            logits = np.frombuffer(content, "<f4").reshape(-1, self.num_columns)
            yield EntryWithLogits(
                _decode(path), size, modified, seconds, recorded_at, warning, logits
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN EXCLUSIVE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # the first error is the one to report
                self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")


@contextmanager
def _one_line_errors(file: Path) -> Iterator[None]:
    """Raise SQLite's errors as a line with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        message = first_line(error)
        if "locked" in message:
            remedy = "another birdmix is writing into this folder; wait, or use another --out"
        elif "full" in message:
            remedy = "predictions so far are kept; free some space, then run the same command"
        else:
            remedy = "check that it can be written; predictions so far are kept"
        raise ValueError(f"{file}: {message}; {remedy}") from error


def _encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _decode(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")

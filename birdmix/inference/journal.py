"""A journal: what was heard of a folder, kept as it comes, whatever ends the process.

It is one SQLite file. A recording enters it whole or not at all.

Shapes: R rows, C columns of scores.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.suggest import first_line

# Rows of scores in one cell: SQLite's cells hold less than a GB.
_ROWS = 4096

_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE heard (
    id INTEGER PRIMARY KEY,
    path BLOB UNIQUE NOT NULL,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    seconds REAL NOT NULL,
    recorded_at TEXT,
    warning TEXT NOT NULL
);
CREATE TABLE scores (heard INTEGER, part INTEGER, score BLOB, PRIMARY KEY (heard, part));
"""


@dataclass(frozen=True)
class Entry:
    """What the journal keeps of a recording.

    Attributes:
        path: The recording, relative to the folder listened to.
        size: Its bytes ...
        modified: ... and when it was last written, in nanoseconds: another file under its name is
            heard again.
        seconds: Its length.
        recorded_at: What its clock said when it began, ISO; None if nothing tells.
        warning: What was odd about it.
        score: Logits, float32 [R, C].
    """

    path: str
    size: int
    modified: int
    seconds: float
    recorded_at: str | None
    warning: str
    score: np.ndarray


class Journal:
    """What was heard in one way; another way starts it afresh.

    Args:
        file: The journal; made if there is none.
        way: All that what is heard depends on: key to value.
        num_columns: Columns C of the scores.

    Attributes:
        changed: What was different when the journal was started afresh, key to the value before;
            empty if it goes on or is new.
        damaged: Whether the file was no journal and has been replaced.

    Raises:
        ValueError: If another process is writing it.
    """

    def __init__(self, file: Path, way: dict[str, str], num_columns: int) -> None:
        self.file, self.num_columns = Path(file), num_columns
        self.changed: dict[str, str] = {}
        self.damaged = False
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            try:
                before = self._open()
            except sqlite3.OperationalError:  # locked, full, not allowed: no damage
                raise
            except sqlite3.DatabaseError:
                self.damaged, before = True, None
            if before is not None and before != way:
                self.changed = {k: before.get(k, "") for k in way if before.get(k) != way[k]}
            if before != way:
                self._start(way)

    def _open(self) -> dict[str, str] | None:
        """Open the file; return the way that it was made in, None if it is a new one."""
        self.database = sqlite3.connect(self.file, isolation_level=None, timeout=0.5)
        # One process at a time; then the log needs no shared memory, which network disks lack.
        self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():  # takes the lock
            tables = {name for (name,) in self.database.execute("SELECT name FROM sqlite_master")}
            if not {"about", "heard", "scores"} <= tables:
                return None
            return dict(self.database.execute("SELECT key, value FROM about"))

    def _start(self, way: dict[str, str]) -> None:
        self.database.close()
        for suffix in ("", "-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        self._open()
        self.database.executescript(f"BEGIN EXCLUSIVE; {_TABLES} COMMIT;")
        with self._transaction():
            self.database.executemany("INSERT INTO about VALUES (?, ?)", way.items())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def known(self) -> dict[str, tuple[int, int]]:
        """Return the size and time of each recording in it, by its path."""
        rows = self.database.execute("SELECT path, size, modified FROM heard")
        return {_text(path): (size, modified) for path, size, modified in rows}

    def keep(self, entry: Entry) -> None:
        """Keep a recording, in place of what was kept under its path.

        Raises:
            ValueError: If the disk is full, or takes no more for another reason.
        """
        score = np.ascontiguousarray(entry.score, "<f4")
        parts = [score[at : at + _ROWS].tobytes() for at in range(0, len(score), _ROWS)]
        about = (entry.size, entry.modified, entry.seconds, entry.recorded_at, entry.warning)
        with self._told(), self._transaction():
            self._forget([entry.path])
            number = self.database.execute(
                "INSERT INTO heard (path, size, modified, seconds, recorded_at, warning) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (_bytes(entry.path), *about),
            ).lastrowid
            self.database.executemany(
                "INSERT INTO scores VALUES (?, ?, ?)",
                [(number, part, cells) for part, cells in enumerate(parts)],
            )

    def forget(self, paths: Sequence[str]) -> None:
        """Drop recordings."""
        with self._told(), self._transaction():
            self._forget(paths)

    def _forget(self, paths: Sequence[str]) -> None:
        names = [(_bytes(path),) for path in paths]
        self.database.executemany(
            "DELETE FROM scores WHERE heard = (SELECT id FROM heard WHERE path = ?)", names
        )
        self.database.executemany("DELETE FROM heard WHERE path = ?", names)

    def entries(self) -> Iterator[Entry]:
        """Yield the recordings, by their paths."""
        rows = self.database.execute(
            "SELECT id, path, size, modified, seconds, recorded_at, warning FROM heard "
            "ORDER BY path"
        )
        for number, path, size, modified, seconds, recorded_at, warning in rows:
            parts = self.database.execute(
                "SELECT score FROM scores WHERE heard = ? ORDER BY part", (number,)
            )
            cells = b"".join(score for (score,) in parts)
            score = np.frombuffer(cells, "<f4").reshape(-1, self.num_columns)
            yield Entry(_text(path), size, modified, seconds, recorded_at, warning, score)

    def num_rows(self) -> int:
        """Return the rows R of all recordings together."""
        (total,) = self.database.execute("SELECT SUM(LENGTH(score)) FROM scores").fetchone()
        return (total or 0) // (4 * self.num_columns)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN EXCLUSIVE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # the first error is the one to tell
                self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                remedy = (
                    "another birdmix is listening into this folder; wait, or take another --out"
                )
            else:
                remedy = "what was heard so far is kept: make room, and the same command goes on"
            raise ValueError(f"{self.file}: {first_line(error)}; {remedy}") from error


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")

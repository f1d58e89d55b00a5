"""A journal: what was heard of a folder, kept as it comes, whatever ends the process.

It is one SQLite file. A recording enters it whole or not at all.

Shapes: R rows, C columns of scores.
"""

import os
import sqlite3
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.inference.journal_faults import fault_of_recording, fault_of_scores
from birdmix.partials import partial_of
from birdmix.suggest import first_line

#: Rows of scores in one cell: SQLite's cells hold less than a GB.
ROWS = 4096

_TABLES = {
    "about": "(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "heard": "(id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL, size INTEGER NOT NULL, "
    "modified INTEGER NOT NULL, seconds REAL NOT NULL, recorded_at TEXT, warning TEXT NOT NULL)",
    "scores": "(heard INTEGER, part INTEGER, score BLOB, PRIMARY KEY (heard, part))",
}


@dataclass(frozen=True)
class Heading:
    """What the journal keeps of a recording, but for its scores.

    Attributes:
        path: The recording, relative to the folder listened to.
        size: Its bytes ...
        modified: ... and when it was last written, in nanoseconds: another file under its name is
            heard again.
        seconds: Its length.
        recorded_at: What its clock said when it began, ISO; None if nothing tells.
        warning: What was odd about it.
    """

    path: str
    size: int
    modified: int
    seconds: float
    recorded_at: str | None
    warning: str


@dataclass(frozen=True)
class Entry(Heading):
    """What the journal keeps of a recording.

    Attributes:
        score: Logits, float32 [R, C].
    """

    score: np.ndarray


def way_of(file: Path) -> dict[str, str]:
    """Return the way that a journal was made in; nothing if there is none, or it is damaged.

    Raises:
        ValueError: If another process is writing it.
    """
    if not file.exists():
        return {}
    with _told(file), closing(sqlite3.connect(file, timeout=0.5)) as database:
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
    return file.is_file() and (not file.stat().st_size or "birdmix" in way_of(file))


class Journal:
    """What was heard in one way; another way starts it afresh.

    Args:
        file: The journal; made if there is none.
        way: All that what is heard depends on: key to value.
        num_columns: Columns C of the scores.
        unknown: Columns that hold NaN, those of species that a model does not know, bool [C]; None
            is none.
        num_rows: Returns the fewest and the most rows R of a recording of so many seconds; None
            takes any.

    Attributes:
        changed: What was different when the journal was started afresh, key to the value before;
            empty if it goes on or is new.
        aside: Where the journal of before is, if it was started afresh.
        dropped: Recordings whose entries were damaged, and why; they are no longer in it.

    Raises:
        ValueError: If another process is writing it, or the disk is full.
    """

    def __init__(
        self,
        file: Path,
        way: dict[str, str],
        num_columns: int,
        *,
        unknown: np.ndarray | None = None,
        num_rows: Callable[[float], tuple[int, int]] | None = None,
    ) -> None:
        self.file, self.num_columns = Path(file), num_columns
        self.unknown = np.zeros(num_columns, bool) if unknown is None else unknown
        self.num_rows = num_rows or (lambda _: (1, sys.maxsize))
        self.changed: dict[str, str] = {}
        self.aside: Path | None = None
        self.dropped: dict[str, str] = {}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with _told(self.file):
            try:
                before = self._open()
                if before == way:
                    self._drop_damaged()
            except sqlite3.OperationalError:  # locked, full, not allowed: no damage
                raise
            except sqlite3.DatabaseError:
                before = None
                self._replace_damaged()
            if before is not None and before != way:
                self.changed = {k: before.get(k, "") for k in way if before.get(k) != way[k]}
                self._set_aside()
            if before != way:
                self._start(way)
        self._place = self._identity()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def _open(self) -> dict[str, str] | None:
        """Open the file; return the way that it was made in, None if it is a new one."""
        self.database = sqlite3.connect(self.file, isolation_level=None, timeout=0.5)
        # Text that is no UTF-8 is told from what was written by what it says.
        self.database.text_factory = lambda data: data.decode("utf-8", "replace")
        # One process at a time; then the log needs no shared memory, which network disks lack.
        self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():  # takes the lock, and keeps it
            (sound,) = self.database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
            # What somebody else made is not written to; a view could run for ever.
            query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_%'"
            tables = dict(self.database.execute(query))
            if not tables:
                return None
            if tables != {name: f"CREATE TABLE {name} {cols}" for name, cols in _TABLES.items()}:
                raise sqlite3.DatabaseError("it has other tables than a journal")
            return dict(self.database.execute("SELECT key, value FROM about"))

    def _replace_damaged(self) -> None:
        self.database.close()
        self.aside = self._free_place("damaged")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.file.with_name(self.file.name + suffix).rename(f"{self.aside}{suffix}")
        self._open()

    def _set_aside(self) -> None:
        (num_heard,) = self.database.execute("SELECT COUNT(*) FROM heard").fetchone()
        if num_heard:
            self.aside = self._free_place("before")
            partial = partial_of(self.aside)
            self.database.execute("VACUUM INTO ?", (str(partial),))
            os.replace(partial, self.aside)

    def _free_place(self, what: str) -> Path:
        """Return a name beside the journal that is not taken: what is set aside is never lost."""
        number, place = 1, self.file.with_stem(f"{self.file.stem}-{what}")
        while os.path.lexists(place):
            number += 1
            place = self.file.with_stem(f"{self.file.stem}-{what}-{number}")
        return place

    def _identity(self) -> tuple[int, int] | None:
        try:
            state = os.stat(self.file)
        except FileNotFoundError:
            return None
        return state.st_dev, state.st_ino

    def check_in_place(self) -> None:
        """Check that the file is where it was: SQLite goes on to write one that was deleted.

        Raises:
            ValueError: If it was removed or replaced meanwhile.
        """
        if self._identity() != self._place:
            raise ValueError(
                f"{self.file}: it was removed or replaced while birdmix wrote it, and what it held "
                "is lost; start the same command again, and leave the folder alone"
            )

    def _start(self, way: dict[str, str]) -> None:
        with self._transaction():
            for name, columns in _TABLES.items():
                self.database.execute(f"DROP TABLE IF EXISTS {name}")
                self.database.execute(f"CREATE TABLE {name} {columns}")
            self.database.executemany("INSERT INTO about VALUES (?, ?)", way.items())

    def _drop_damaged(self) -> None:
        """Remove the entries that are not as they were written, so that they are made again."""
        run = self.database.execute
        columns = "id, path, size, modified, seconds, recorded_at, warning"
        wrong = {}
        for number, *about in run(f"SELECT {columns} FROM heard"):
            query = "SELECT part, score FROM scores WHERE heard = ? ORDER BY part"
            fault = fault_of_recording(*about)
            fault = fault or fault_of_scores(
                run(query, (number,)), ROWS, self.unknown, self.num_rows(about[3])
            )
            if fault:
                wrong[number] = (about[0], fault)
        with self._transaction():
            for number, (path, fault) in wrong.items():
                run("DELETE FROM scores WHERE heard = ?", (number,))
                run("DELETE FROM heard WHERE id = ?", (number,))
                self.dropped[_text(path) if isinstance(path, bytes) else str(path)] = fault

    def known(self) -> dict[str, tuple[int, int]]:
        """Return the size and time of each recording in it, by its path."""
        rows = self.database.execute("SELECT path, size, modified FROM heard")
        return {_text(path): (size, modified) for path, size, modified in rows}

    def headings(self, wanted: Container[str]) -> Iterator[Heading]:
        """Yield the recordings that are wanted, by their paths, without their scores."""
        rows = self.database.execute(
            "SELECT path, size, modified, seconds, recorded_at, warning FROM heard ORDER BY path"
        )
        for path, *rest in rows:
            if _text(path) in wanted:
                yield Heading(_text(path), *rest)

    def keep(self, entry: Entry) -> None:
        """Keep a recording, in place of what was kept under its path.

        Raises:
            ValueError: If the disk is full, takes no more for another reason, or the journal was
                removed meanwhile.
        """
        self.check_in_place()
        score, path = np.ascontiguousarray(entry.score, "<f4"), _bytes(entry.path)
        about = (entry.size, entry.modified, entry.seconds, entry.recorded_at, entry.warning)
        run = self.database.execute
        with _told(self.file), self._transaction():
            run("DELETE FROM scores WHERE heard = (SELECT id FROM heard WHERE path = ?)", (path,))
            run("DELETE FROM heard WHERE path = ?", (path,))
            number = run(
                "INSERT INTO heard (path, size, modified, seconds, recorded_at, warning) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (path, *about),
            ).lastrowid
            for part, at in enumerate(range(0, len(score), ROWS)):
                cells = score[at : at + ROWS].data.cast("B")
                run("INSERT INTO scores VALUES (?, ?, ?)", (number, part, cells))

    def entries(self, wanted: Container[str]) -> Iterator[Entry]:
        """Yield the recordings that are wanted, by their paths."""
        rows = self.database.execute(
            "SELECT id, path, size, modified, seconds, recorded_at, warning FROM heard "
            "ORDER BY path"
        )
        for number, path, size, modified, seconds, recorded_at, warning in rows:
            if _text(path) not in wanted:
                continue
            parts = self.database.execute(
                "SELECT score FROM scores WHERE heard = ? ORDER BY part", (number,)
            )
            cells = bytearray()
            for (score,) in parts:
                cells += score
            table = np.frombuffer(cells, "<f4").reshape(-1, self.num_columns)
            yield Entry(_text(path), size, modified, seconds, recorded_at, warning, table)

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
def _told(file: Path) -> Iterator[None]:
    """Say what SQLite says in a line, with what to do about it."""
    try:
        yield
    except sqlite3.Error as error:
        said = first_line(error)
        if "locked" in said:
            remedy = "another birdmix is listening into this folder; wait, or take another --out"
        elif "full" in said:
            remedy = "what was heard so far is kept: make room, and the same command goes on"
        else:
            remedy = "see that it can be written; what was heard so far is kept"
        raise ValueError(f"{file}: {said}; {remedy}") from error


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")

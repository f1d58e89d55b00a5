"""The SQLite file of a journal: its lock, its fingerprint, and backups before it starts again."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from birdmix.messages import first_line
from birdmix.partial_files import partial_path

# Columns of the table ``about``, which has the fingerprint.
_ABOUT = "(key TEXT PRIMARY KEY, value TEXT NOT NULL)"


def read_fingerprint(file: Path) -> dict[str, str]:
    """Return a journal's fingerprint; empty if there is no journal, or it is damaged.

    Raises:
        ValueError: If another process is writing it.
    """
    if not file.exists():
        return {}
    with one_line_errors(file), closing(sqlite3.connect(file, timeout=0.5)) as database:
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


class JournalFile:
    """Tables in an SQLite file under one fingerprint; opened with another one, they start empty.

    Args:
        file: The file; created if there is none.
        fingerprint: All that the content depends on: key to value.
        tables: Columns of each table, by its name.

    Attributes:
        database: The connection, which holds the lock.
        changed: Keys of the fingerprint that changed, with their former values; empty if the
            journal is continued or new.
        backup: Where the former journal was moved to, if it started empty.

    Raises:
        ValueError: If another process is writing it, or the disk is full.
    """

    def __init__(self, file: Path, fingerprint: dict[str, str], tables: dict[str, str]) -> None:
        self.file, self.fingerprint, self.tables = Path(file), fingerprint, tables
        self.changed: dict[str, str] = {}
        self.backup: Path | None = None
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with one_line_errors(self.file):
            try:
                before = self._open()
                if before == fingerprint:
                    self.check_entries()
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

    def __enter__(self) -> Self:
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
        # 16 MB: each time the log is moved into the file, all waits for the disk.
        self.database.execute("PRAGMA wal_autocheckpoint = 4000")
        with self.transaction():  # takes the lock, and keeps it
            (state,) = self.database.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            # Other databases are not written to; and a view in one could run without end.
            query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_%'"
            tables = dict(self.database.execute(query))
            if not tables:
                return None
            columns_of = {"about": _ABOUT, **self.tables}
            expected = {
                name: f"CREATE TABLE {name} {columns}" for name, columns in columns_of.items()
            }
            # An earlier birdmix may have had other columns.
            is_journal = tables.keys() == expected.keys() and tables["about"] == expected["about"]
            if is_journal and all(sql.startswith("CREATE TABLE ") for sql in tables.values()):
                before = dict(self.database.execute("SELECT key, value FROM about"))
                if tables == expected or before != self.fingerprint:
                    return before
            raise sqlite3.DatabaseError("its tables are not those of a journal")

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
        with self.transaction():
            for name, columns in {"about": _ABOUT, **self.tables}.items():
                self.database.execute(f"DROP TABLE IF EXISTS {name}")
                self.database.execute(f"CREATE TABLE {name} {columns}")
            self.database.executemany("INSERT INTO about VALUES (?, ?)", fingerprint.items())

    def check_entries(self) -> None:
        """Check the content of a journal that is continued; to be overridden.

        Raises:
            sqlite3.DatabaseError: If it cannot be read: then the journal starts again.
        """

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of a block, or nothing if it raises."""
        self.database.execute("BEGIN EXCLUSIVE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # the first error is the one to report
                self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")


@contextmanager
def one_line_errors(file: Path) -> Iterator[None]:
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

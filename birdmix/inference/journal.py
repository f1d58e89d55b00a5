"""The journal of a prediction: each recording's logits, saved as soon as they are computed.

It is one SQLite file. A recording is added completely or not at all, also if the process is killed.
Checksums show which entries were damaged since.

Shapes: W windows, C classes.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.inference.journal_file import JournalFile, one_line_errors
from birdmix.inference.recording_predictions import PredictionLayout, RecordingPredictions

#: Windows in one cell: SQLite's cells hold less than a GB.
WINDOWS_PER_CELL = 4096

# Bytes from which a cell's checksum takes longer than a call.
_LONG = 1 << 12

# The columns of a recording that its checksum covers, in this order.
_COVERED = {
    "path": "BLOB UNIQUE NOT NULL",
    "size": "INTEGER NOT NULL",
    "modified": "INTEGER NOT NULL",
    "seconds": "REAL NOT NULL",
    "recorded_at": "TEXT",
    "warning": "TEXT NOT NULL",
    "windows": "INTEGER NOT NULL",
    "logits_checksum": "BLOB NOT NULL",
}
_COVERED_NAMES = ", ".join(_COVERED)
_COVERED_TYPES = ", ".join(f"{name} {kind}" for name, kind in _COVERED.items())

_TABLES = {
    "recordings": f"(id INTEGER PRIMARY KEY, {_COVERED_TYPES}, checksum BLOB NOT NULL)",
    "logits": "(recording INTEGER, chunk INTEGER, logits BLOB, PRIMARY KEY (recording, chunk))",
}


class FileState(NamedTuple):
    """State of a recording's file; if it changes, the recording is predicted again.

    Attributes:
        size: Size in bytes.
        modified: When it was last written, in nanoseconds since 1970.
    """

    size: int
    modified: int


class JournalEntry(NamedTuple):
    """A journal's entry of a recording, without its logits.

    Attributes:
        id: Number of the entry.
        path: The recording, relative to the folder predicted.
        file_state: The file when it was predicted.
        seconds: Length of the recording.
        recorded_at: Time at which it begins, by its own clock; None if unknown.
        warning: Problems of the recording; empty if there are none.
        num_windows: Number of windows W.
        logits_checksum: Checksum of the logits: equal logits have equal ones.
    """

    id: int
    path: str
    file_state: FileState
    seconds: float
    recorded_at: datetime | None
    warning: str
    num_windows: int
    logits_checksum: bytes


class Journal(JournalFile):
    """Predictions of recordings under one fingerprint; opened with another one, it starts empty.

    Args:
        file: The journal; created if there is none.
        fingerprint: All that the logits depend on: key to value.
        layout: What all predictions have in common; it is not stored.

    Attributes:
        dropped: Recordings whose entries were damaged, and removed.

    Raises:
        ValueError: If another process is writing it, or the disk is full.
    """

    def __init__(self, file: Path, fingerprint: dict[str, str], layout: PredictionLayout) -> None:
        self.layout = layout
        self.dropped: list[str] = []
        super().__init__(file, fingerprint, _TABLES)

    def check_entries(self) -> None:
        """Remove the entries that are not as they were written, so that they are made again."""
        run = self.database.execute
        rows = run(f"SELECT id, {_COVERED_NAMES}, checksum FROM recordings")
        damaged = {
            number: path
            for number, path, *rest, logits_checksum, checksum in rows
            if _checksum([path, *rest, logits_checksum]) != checksum
            or _checksum(value for cell in self._cells(number) for value in cell) != logits_checksum
        }
        with self.transaction():
            run("DELETE FROM logits WHERE recording IS NULL")
            run("DELETE FROM logits WHERE recording NOT IN (SELECT id FROM recordings)")
            for number, path in damaged.items():
                run("DELETE FROM logits WHERE recording = ?", (number,))
                run("DELETE FROM recordings WHERE id = ?", (number,))
                self.dropped.append(_decode(path) if isinstance(path, bytes) else str(path))

    def _cells(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and content of an entry's cells of logits."""
        query = "SELECT chunk, logits FROM logits WHERE recording = ? ORDER BY chunk"
        return self.database.execute(query, (number,))

    def file_states(self) -> dict[str, FileState]:
        """Return the state that the file of each entry had, by its path."""
        rows = self.database.execute("SELECT path, size, modified FROM recordings")
        return {_decode(path): FileState(size, modified) for path, size, modified in rows}

    def entries(self) -> Iterator[JournalEntry]:
        """Yield all entries, sorted by path."""
        rows = self.database.execute(f"SELECT id, {_COVERED_NAMES} FROM recordings ORDER BY path")
        for number, path, size, modified, seconds, recorded_at, *rest in rows:
            yield JournalEntry(
                number,
                _decode(path),
                FileState(size, modified),
                seconds,
                None if recorded_at is None else datetime.fromisoformat(recorded_at),
                *rest,
            )

    def read(self, entry: JournalEntry) -> RecordingPredictions:
        """Return the predictions of an entry."""
        content = bytearray()
        for _, cell in self._cells(entry.id):
            content += cell
        return self.layout.build(
            entry.path,
            np.frombuffer(content, "<f4"),
            seconds=entry.seconds,
            recorded_at=entry.recorded_at,
            warning=entry.warning,
        )

    def add(self, predictions: RecordingPredictions, file_state: FileState) -> None:
        """Add a recording, in place of an entry with the same path.

        Args:
            predictions: Predictions in the layout of the journal.
            file_state: The file, as it was before it was read.

        Raises:
            ValueError: If the disk is full or cannot be written, or the journal was removed
                meanwhile.
        """
        self.check_not_replaced()
        path, logits = _encode(predictions.path), np.ascontiguousarray(predictions.logits, "<f4")
        cells = [
            (chunk, logits[at : at + WINDOWS_PER_CELL].data.cast("B"))
            for chunk, at in enumerate(range(0, len(logits), WINDOWS_PER_CELL))
        ]
        recorded_at = predictions.recorded_at
        covered = (
            path,
            *file_state,
            float(predictions.seconds),
            None if recorded_at is None else recorded_at.isoformat(),
            predictions.warning,
            len(logits),
            _checksum(value for cell in cells for value in cell),
        )
        run = self.database.execute
        with one_line_errors(self.file), self.transaction():
            run(
                "DELETE FROM logits WHERE recording IN (SELECT id FROM recordings WHERE path = ?)",
                (path,),
            )
            run("DELETE FROM recordings WHERE path = ?", (path,))
            marks = ", ".join("?" * (len(covered) + 1))
            number = run(
                f"INSERT INTO recordings ({_COVERED_NAMES}, checksum) VALUES ({marks})",
                (*covered, _checksum(covered)),
            ).lastrowid
            for cell in cells:
                run("INSERT INTO logits VALUES (?, ?, ?)", (number, *cell))


def _checksum(values: Iterable[object]) -> bytes:
    """Return a checksum of cells, which depends on their values and types."""
    parts: list[bytes | memoryview] = []
    for value in values:
        if isinstance(value, bytes | memoryview):
            parts += (f"{len(value)} bytes ".encode(), value)
        else:
            parts.append(f"{value!r} ".encode())
    checksum = hashlib.blake2b(digest_size=16)
    # One call for all that is short, none that copies the logits of a long recording.
    for is_long, some in itertools.groupby(parts, lambda part: len(part) > _LONG):
        if is_long:
            for part in some:
                checksum.update(part)
        else:
            checksum.update(b"".join(some))
    return checksum.digest()


def _encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _decode(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")

"""What the tables of listening have in common: CSV files that are whole or absent, and their cells.

Seconds are plain decimals, datetimes ISO 8601 to the second (rounded down). Bytes of a path that
are no UTF-8 are written as they are.
"""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from birdmix.audio.clock import later
from birdmix.files import atomic_path
from birdmix.inference.detections import HeardRecording

PLACE = ("path", "datetime", "deployment")


@contextmanager
def table(file: Path, columns: Iterable[str]) -> Iterator[Any]:
    """Yield a writer of the rows of a CSV, which is there when the block ends without an error."""
    with (
        atomic_path(file) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(columns)
        yield writer


def place(recording: HeardRecording, seconds: float) -> tuple[str, str, str]:
    """Return the cells of ``PLACE`` so many seconds into a recording."""
    return recording.path, moment(recording.began, seconds), recording.deployment


def moment(began: datetime | None, seconds: float) -> str:
    """Write the moment so many seconds later; empty if nobody knows the beginning."""
    return "" if began is None else later(began, seconds).isoformat(timespec="seconds")


def decimal(seconds: float) -> str:
    """Write a number with six digits at most, without an exponent and without idle zeros."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def confident(probability: float) -> str:
    """Write a probability with six digits, which keep it within (0, 1)."""
    return f"{probability:.6f}"


def utf8(text: str) -> str:
    """Return a text as UTF-8 has it: other bytes, which a path may hold, become ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

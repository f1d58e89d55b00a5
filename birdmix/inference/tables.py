"""The tables that listening writes, each whole or absent.

Seconds are plain decimals, datetimes ISO 8601 to the second (rounded down), confidences lie within
(0, 1). Bytes of a path that are no UTF-8 are written as they are.
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
from birdmix.labels import Labels
from birdmix.windows import WindowPredictions

DETECTION_COLUMNS = (
    *("path", "datetime", "deployment", "start_seconds", "end_seconds"),
    *("species", "common_name", "confidence"),
)


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


def decimal(seconds: float) -> str:
    """Write seconds to the microsecond, without an exponent and without idle zeros."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def moment(began: datetime | None, seconds: float) -> str:
    """Write a moment of a recording; empty if nobody knows when it began."""
    return "" if began is None else later(began, seconds).isoformat(timespec="seconds")


def write_detections(file: Path, recordings: Iterable[HeardRecording], labels: Labels) -> int:
    """Write ``detections.csv``: a row per detection, its datetime that of its start.

    Returns:
        Number of rows.
    """
    num_rows = 0
    with table(file, DETECTION_COLUMNS) as writer:
        for each in recordings:
            for start, end, column, confidence in each.detections:
                place = (each.path, moment(each.began, start), each.deployment)
                name = (labels.codes[column], labels.names[column])
                writer.writerow([*place, decimal(start), decimal(end), *name, f"{confidence:.6f}"])
            num_rows += len(each.detections)
    return num_rows


def write_predictions(file: Path, predictions: Iterable[WindowPredictions], labels: Labels) -> int:
    """Write ``predictions.csv`` as predictions come: a row per window, a column per label.

    Columns: path, start_seconds, end_seconds, the probability of each label, warning.

    Returns:
        Number of rows.
    """
    num_rows = 0
    with table(file, ["path", "start_seconds", "end_seconds", *labels.codes, "warning"]) as writer:
        for each in predictions:
            for start, end, probabilities in zip(
                each.start_seconds, each.end_seconds, each.probability, strict=True
            ):
                row = [each.path, f"{start:.10g}", f"{end:.10g}"]
                writer.writerow([*row, *(f"{p:.6g}" for p in probabilities), each.warning])
                num_rows += 1
    return num_rows


def write_failed(file: Path, failed: Iterable[tuple[str, str]]) -> None:
    """Write ``failed.csv``: path and error of each recording that yields no samples."""
    with table(file, ("path", "error")) as writer:
        writer.writerows(failed)

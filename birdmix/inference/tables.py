"""The tables that listening writes, each whole or absent."""

import csv
from collections.abc import Iterable
from pathlib import Path

from birdmix.files import atomic_path
from birdmix.labels import Labels
from birdmix.windows import WindowPredictions


def write_predictions(file: Path, predictions: Iterable[WindowPredictions], labels: Labels) -> int:
    """Write ``predictions.csv`` as predictions come: a row per window, a column per label.

    Columns: path, start_seconds, end_seconds, the probability of each label, warning.

    Returns:
        Number of rows.
    """
    num_rows = 0
    with (
        atomic_path(file) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(["path", "start_seconds", "end_seconds", *labels.codes, "warning"])
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
    with (
        atomic_path(file) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(["path", "error"])
        writer.writerows(failed)

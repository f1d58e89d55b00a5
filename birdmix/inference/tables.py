"""The tables that listening writes, each whole or absent."""

from collections.abc import Iterable
from pathlib import Path

from birdmix.inference.activity import write_activity
from birdmix.inference.csv_files import PLACE, confident, decimal, place, table
from birdmix.inference.detections import HeardRecording
from birdmix.inference.scores import SCORES, write_scores
from birdmix.labels import Labels
from birdmix.windows import WindowPredictions

__all__ = [
    "SCORES",
    "write_activity",
    "write_detections",
    "write_failed",
    "write_predictions",
    "write_recordings",
    "write_scores",
]

DETECTION_COLUMNS = (
    *PLACE,
    *("start_seconds", "end_seconds", "species", "common_name", "confidence"),
)
RECORDING_COLUMNS = (*PLACE, "seconds", "windows", "detections", "warning")


def write_detections(file: Path, recordings: Iterable[HeardRecording], labels: Labels) -> int:
    """Write ``detections.csv``: a row per detection, its datetime that of its start.

    Returns:
        Number of rows.
    """
    num_rows = 0
    with table(file, DETECTION_COLUMNS) as writer:
        for each in recordings:
            for start, end, column, confidence in each.detections:
                stretch = (*place(each, start), decimal(start), decimal(end))
                name = (labels.codes[column], labels.names[column])
                writer.writerow([*stretch, *name, confident(confidence)])
            num_rows += len(each.detections)
    return num_rows


def write_recordings(file: Path, recordings: Iterable[HeardRecording]) -> int:
    """Write ``recordings.csv``: a row per recording that was heard, detections or not.

    Returns:
        Number of rows.
    """
    num_rows = 0
    with table(file, RECORDING_COLUMNS) as writer:
        for each in recordings:
            counts = (len(each.predictions.start_seconds), len(each.detections))
            told = (decimal(each.seconds), *counts, each.predictions.warning)
            writer.writerow([*place(each, 0), *told])
            num_rows += 1
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

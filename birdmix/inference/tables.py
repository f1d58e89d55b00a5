"""The tables that listening writes, each whole or absent."""

from collections.abc import Iterable
from pathlib import Path

from birdmix.inference.csv_files import PLACE, confident, decimal, place, table
from birdmix.inference.detections import HeardRecording
from birdmix.labels import Labels

DETECTION_COLUMNS = (
    *PLACE,
    *("start_seconds", "end_seconds", "species", "common_name", "confidence", "peak_seconds"),
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
            for start, end, column, confidence, peak in each.detections:
                stretch = (*place(each, start), decimal(start), decimal(end))
                name = (labels.codes[column], labels.names[column])
                writer.writerow([*stretch, *name, confident(confidence), decimal(peak)])
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


def write_failed(file: Path, failed: Iterable[tuple[str, str]]) -> None:
    """Write ``failed.csv``: path and error of each recording that yields no samples."""
    with table(file, ("path", "error")) as writer:
        writer.writerows(failed)

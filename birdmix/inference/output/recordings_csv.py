"""``recordings.csv`` and ``failed.csv``: a row per recording that was predicted, or was not."""

from collections.abc import Iterable
from pathlib import Path

from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    PATH_AND_TIME_COLUMNS,
    format_decimal,
    open_csv,
    path_and_time_cells,
)

RECORDING_COLUMNS = (*PATH_AND_TIME_COLUMNS, "seconds", "windows", "detections", "warning")

#: Name of the table of failures.
FAILED = "failed.csv"


def write_recordings(
    file: Path, recordings: Iterable[RecordingResult], info: SharedMetadata
) -> int:
    """Write ``recordings.csv``: a row per recording that was predicted, also without detections.

    Returns:
        Number of rows.
    """
    num_rows = 0
    with open_csv(file, RECORDING_COLUMNS) as writer:
        for each in recordings:
            counts = (len(each.predictions.start_seconds), len(each.detections))
            cells = (format_decimal(each.seconds), *counts, each.predictions.warning)
            writer.writerow([*path_and_time_cells(each, 0), *cells])
            num_rows += 1
    return num_rows


def write_failed(file: Path, failed: Iterable[tuple[str, str]]) -> None:
    """Write ``failed.csv``: path and error of each recording that yields no samples."""
    with open_csv(file, ("path", "error")) as writer:
        writer.writerows(failed)

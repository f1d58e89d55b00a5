"""``recordings.csv`` and ``failed.csv``: a row per recording that was predicted, or was not."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    PATH_AND_TIME_COLUMNS,
    Write,
    format_decimal,
    open_csv,
    open_partial_csv,
    path_and_time_cells,
)

RECORDING_COLUMNS = (*PATH_AND_TIME_COLUMNS, "seconds", "windows", "detections", "warning")

#: Name of the table of failures.
FAILED = "failed.csv"


@contextmanager
def open_recordings(file: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``recordings.csv``: a row per recording that was predicted, also without detections."""
    with open_partial_csv(file, RECORDING_COLUMNS) as writer:

        def write(result: RecordingResult) -> None:
            predictions = result.predictions
            counts = (len(predictions.start_seconds), len(result.detections))
            cells = (format_decimal(predictions.seconds), *counts, predictions.warning)
            writer.writerow([*path_and_time_cells(result, 0), *cells])

        yield write


def write_failed(file: Path, failed: Iterable[tuple[str, str]]) -> None:
    """Write ``failed.csv``: path and error of each recording that yields no samples."""
    with open_csv(file, ("path", "error")) as writer:
        writer.writerows(failed)

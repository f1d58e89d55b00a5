"""``detections.csv``: a row per detection."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    PATH_AND_TIME_COLUMNS,
    Write,
    format_decimal,
    format_probability,
    open_partial_csv,
    path_and_time_cells,
)

DETECTION_COLUMNS = (
    *PATH_AND_TIME_COLUMNS,
    *("start_seconds", "end_seconds", "species", "common_name", "confidence", "peak_seconds"),
)


@contextmanager
def open_detections(file: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``detections.csv``: a row per detection, with the datetime of its start."""
    labels = info.labels
    with open_partial_csv(file, DETECTION_COLUMNS) as writer:

        def write(result: RecordingResult) -> None:
            for start, end, column, confidence, peak in result.detections:
                writer.writerow(
                    [
                        *path_and_time_cells(result, start),
                        *(format_decimal(start), format_decimal(end)),
                        *(labels.codes[column], labels.names[column]),
                        *(format_probability(confidence), format_decimal(peak)),
                    ]
                )

        yield write

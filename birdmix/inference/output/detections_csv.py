"""``detections.csv``: a row per detection."""

from collections.abc import Iterable
from pathlib import Path

from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    PATH_AND_TIME_COLUMNS,
    format_decimal,
    format_probability,
    open_csv,
    path_and_time_cells,
)

DETECTION_COLUMNS = (
    *PATH_AND_TIME_COLUMNS,
    *("start_seconds", "end_seconds", "species", "common_name", "confidence", "peak_seconds"),
)


def write_detections(
    file: Path, recordings: Iterable[RecordingResult], info: SharedMetadata
) -> int:
    """Write ``detections.csv``: a row per detection, with the datetime of its start.

    Returns:
        Number of rows.
    """
    labels, num_rows = info.labels, 0
    with open_csv(file, DETECTION_COLUMNS) as writer:
        for each in recordings:
            for start, end, column, confidence, peak in each.detections:
                writer.writerow(
                    [
                        *path_and_time_cells(each, start),
                        *(format_decimal(start), format_decimal(end)),
                        *(labels.codes[column], labels.names[column]),
                        *(format_probability(confidence), format_decimal(peak)),
                    ]
                )
            num_rows += len(each.detections)
    return num_rows

"""A table with the columns of BirdNET's CSV, for programs that read those.

Labels have codes and names of any kind: the code is written as the scientific name, the name as the
common name.

Source: the CSV that BirdNET-Analyzer writes (``birdnet_analyzer/analyze``).
"""

from collections.abc import Iterable
from pathlib import Path

from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    format_decimal,
    format_probability,
    open_csv_in_own_folder,
)

BIRDNET_COLUMNS = (
    *("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"),
)


def write_birdnet(out: Path, recordings: Iterable[RecordingResult], info: SharedMetadata) -> int:
    """Write ``birdnet.csv``: a row per detection; paths begin with the folder predicted.

    Returns:
        Number of rows.
    """
    labels, num_rows = info.labels, 0
    with open_csv_in_own_folder(out, "birdnet.csv", BIRDNET_COLUMNS) as writer:
        for each in recordings:
            for start, end, column, confidence, _ in each.detections:
                writer.writerow(
                    [
                        *(format_decimal(start), format_decimal(end)),
                        *(labels.codes[column], labels.names[column]),
                        *(format_probability(confidence), str(info.folder / each.path)),
                    ]
                )
            num_rows += len(each.detections)
    return num_rows

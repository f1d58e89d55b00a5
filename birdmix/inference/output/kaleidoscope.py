"""A table for Wildlife Acoustics' Kaleidoscope, to view and verify detections there.

Labels have codes and names of any kind: the code is written as the scientific name, the name as the
common name.

Source: the columns of Kaleidoscope's ``cluster.csv``.
"""

from collections.abc import Iterable
from pathlib import Path

from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    format_datetime_at_offset,
    format_decimal,
    format_probability,
    open_csv_in_own_folder,
)

KALEIDOSCOPE_COLUMNS = (
    *("INDIR", "FOLDER", "IN FILE", "CHANNEL", "OFFSET", "DURATION", "DATE", "TIME", "HOUR"),
    *("TOP1MATCH", "TOP1DIST", "MANUAL ID"),
    *("scientific_name", "common_name", "confidence"),
)


def write_kaleidoscope(
    out: Path, recordings: Iterable[RecordingResult], info: SharedMetadata
) -> int:
    """Write ``kaleidoscope.csv``: a row per detection.

    TOP1MATCH is the name and TOP1DIST the confidence (birdnet-team/BirdNET-Analyzer#855);
    Kaleidoscope writes the user's text into MANUAL ID. The columns behind it are BirdNET's, which
    other programs read and Kaleidoscope ignores.

    Returns:
        Number of rows.
    """
    root, labels, num_rows = str(info.folder.resolve()), info.labels, 0
    with open_csv_in_own_folder(out, "kaleidoscope.csv", KALEIDOSCOPE_COLUMNS) as writer:
        for each in recordings:
            folder, _, file = each.path.rpartition("/")
            for start, end, column, confidence, _ in each.detections:
                code, name = labels.codes[column], labels.names[column]
                date, _, time = format_datetime_at_offset(each.recorded_at, start)[:19].partition(
                    "T"
                )
                writer.writerow(
                    [
                        *(root, folder, file, str(info.channel - 1)),
                        *(format_decimal(start), format_decimal(end - start)),
                        *(date, time, time[:2]),
                        *(name or code, format_probability(confidence), ""),
                        *(code, name, format_probability(confidence)),
                    ]
                )
            num_rows += len(each.detections)
    return num_rows

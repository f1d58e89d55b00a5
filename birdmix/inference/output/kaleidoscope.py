"""A table for Wildlife Acoustics' Kaleidoscope, to view and verify detections there.

Labels have codes and names of any kind: the code is written as the scientific name, the name as the
common name.

Source: the columns of Kaleidoscope's ``cluster.csv``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    Write,
    format_datetime_at_offset,
    format_decimal,
    format_probability,
    open_partial_csv,
)

KALEIDOSCOPE_COLUMNS = (
    *("INDIR", "FOLDER", "IN FILE", "CHANNEL", "OFFSET", "DURATION", "DATE", "TIME", "HOUR"),
    *("TOP1MATCH", "TOP1DIST", "MANUAL ID"),
    *("scientific_name", "common_name", "confidence"),
)


@contextmanager
def open_kaleidoscope(folder: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``kaleidoscope.csv``: a row per detection.

    TOP1MATCH is the name and TOP1DIST the confidence (birdnet-team/BirdNET-Analyzer#855);
    Kaleidoscope writes the user's text into MANUAL ID. The columns behind it are BirdNET's, which
    other programs read and Kaleidoscope ignores.
    """
    root, labels = str(info.folder.resolve()), info.labels
    with open_partial_csv(folder / "kaleidoscope.csv", KALEIDOSCOPE_COLUMNS) as writer:

        def write(result: RecordingResult) -> None:
            subfolder, _, file = result.path.rpartition("/")
            for start, end, column, confidence, _ in result.detections:
                code, name = labels.codes[column], labels.names[column]
                moment = format_datetime_at_offset(result.recorded_at, start)[:19]
                date, _, time = moment.partition("T")
                writer.writerow(
                    [
                        *(root, subfolder, file, str(info.channel - 1)),
                        *(format_decimal(start), format_decimal(end - start)),
                        *(date, time, time[:2]),
                        *(name or code, format_probability(confidence), ""),
                        *(code, name, format_probability(confidence)),
                    ]
                )

        yield write

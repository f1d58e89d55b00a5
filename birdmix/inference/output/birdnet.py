"""A table with the columns of BirdNET's CSV, for programs that read those.

Labels have codes and names of any kind: the code is written as the scientific name, the name as the
common name.

Source: the CSV that BirdNET-Analyzer writes (``birdnet_analyzer/analyze``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    Write,
    format_decimal,
    format_probability,
    open_partial_csv,
)

BIRDNET_COLUMNS = (
    *("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"),
)


@contextmanager
def open_birdnet(folder: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``birdnet.csv``: a row per detection; paths begin with the folder predicted."""
    labels = info.labels
    with open_partial_csv(folder / "birdnet.csv", BIRDNET_COLUMNS) as writer:

        def write(result: RecordingResult) -> None:
            for start, end, column, confidence, _ in result.detections:
                writer.writerow(
                    [
                        *(format_decimal(start), format_decimal(end)),
                        *(labels.codes[column], labels.names[column]),
                        *(format_probability(confidence), str(info.folder / result.path)),
                    ]
                )

        yield write

"""Audacity label tracks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    Write,
    format_decimal,
    format_probability,
    write_recording_tsv,
)
from birdmix.text import one_line


@contextmanager
def open_audacity(folder: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write a label track, ``NAME.wav.txt``, for each recording with detections.

    A label is the name and, rounded down to two decimals, its confidence.
    """
    labels = info.labels

    def write(result: RecordingResult) -> None:
        rows = [
            (
                *(format_decimal(start), format_decimal(end)),
                f"{one_line(labels.names[column] or labels.codes[column])} "
                f"{format_probability(confidence)[:4]}",
            )
            for start, end, column, confidence, _ in result.detections
        ]
        if rows:
            write_recording_tsv(folder, result, ".txt", rows)

    yield write

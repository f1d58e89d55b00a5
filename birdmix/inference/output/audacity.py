"""Audacity label tracks."""

from collections.abc import Iterable
from pathlib import Path

from birdmix.files import atomic_directory
from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    format_decimal,
    format_probability,
    write_recording_tsv,
)
from birdmix.text import one_line


def write_audacity(out: Path, recordings: Iterable[RecordingResult], info: SharedMetadata) -> int:
    """Write a label track, ``NAME.wav.txt``, for each recording with detections.

    A label is the name and, rounded down to two decimals, its confidence.

    Returns:
        Number of labels.
    """
    labels, num_rows = info.labels, 0
    with atomic_directory(out, out.name) as partial:
        for each in recordings:
            rows = [
                (
                    *(format_decimal(start), format_decimal(end)),
                    f"{one_line(labels.names[column] or labels.codes[column])} "
                    f"{format_probability(confidence)[:4]}",
                )
                for start, end, column, confidence, _ in each.detections
            ]
            if rows:
                write_recording_tsv(partial, each, ".txt", rows)
            num_rows += len(rows)
    return num_rows

"""Raven selection tables.

Source: the tables of Raven as ``birdmix.recordings`` reads them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    Write,
    format_decimal,
    format_probability,
    write_recording_tsv,
)
from birdmix.text import escape_formula, escape_formula_in_path, one_line

RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Species", "Common Name", "Confidence"),
)


@contextmanager
def open_raven(folder: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write a selection table, ``NAME.wav.selections.txt``, for each recording with detections.

    A file name that is too long is shortened; the table contains the full name. The tables can be
    read back with ``data=selections data.label_column=Species``.
    """
    low, high = map(format_decimal, info.band)
    labels = info.labels

    def write(result: RecordingResult) -> None:
        name = one_line(escape_formula_in_path(PurePosixPath(result.path).name))
        rows = [
            (
                *(str(number), "Spectrogram 1", str(info.channel)),
                *(format_decimal(start), format_decimal(end), low, high),
                *(name, one_line(escape_formula(labels.codes[column]))),
                one_line(escape_formula(labels.names[column])),
                format_probability(confidence),
            )
            for number, (start, end, column, confidence, _) in enumerate(result.detections, start=1)
        ]
        if rows:
            write_recording_tsv(folder, result, ".selections.txt", [RAVEN_COLUMNS, *rows])

    yield write

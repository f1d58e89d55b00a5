"""Raven selection tables.

Source: the tables of Raven as ``birdmix.recordings`` reads them.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from birdmix.files import atomic_directory
from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    format_decimal,
    format_probability,
    write_recording_tsv,
)
from birdmix.text import escape_formula, escape_formula_in_path, one_line

RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Species", "Common Name", "Confidence"),
)


def write_raven(out: Path, recordings: Iterable[RecordingResult], info: SharedMetadata) -> int:
    """Write a selection table, ``NAME.wav.selections.txt``, for each recording with detections.

    A file name that is too long is shortened; the table contains the full name. The tables can be
    read back with ``data=selections data.label_column=Species``.

    Returns:
        Number of rows.
    """
    low, high = map(format_decimal, info.band)
    labels, num_rows = info.labels, 0
    with atomic_directory(out, out.name) as partial:
        for each in recordings:
            name = one_line(escape_formula_in_path(PurePosixPath(each.path).name))
            rows = [
                (
                    *(str(number), "Spectrogram 1", str(info.channel)),
                    *(format_decimal(start), format_decimal(end), low, high),
                    *(name, one_line(escape_formula(labels.codes[column]))),
                    one_line(escape_formula(labels.names[column])),
                    format_probability(confidence),
                )
                for number, (start, end, column, confidence, _) in enumerate(
                    each.detections, start=1
                )
            ]
            if rows:
                write_recording_tsv(partial, each, ".selections.txt", [RAVEN_COLUMNS, *rows])
            num_rows += len(rows)
    return num_rows

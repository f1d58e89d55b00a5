"""All output formats of a prediction, and the pass that writes recordings to several of them.

A new format is a module, and a line in one of the tables below.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from birdmix.files import atomic_directory, atomic_path, check_replaceable_folder
from birdmix.inference.output.activity_csv import open_activity, open_effort
from birdmix.inference.output.audacity import open_audacity
from birdmix.inference.output.birdnet import open_birdnet
from birdmix.inference.output.detections_csv import open_detections
from birdmix.inference.output.kaleidoscope import open_kaleidoscope
from birdmix.inference.output.probabilities import (
    open_probabilities_csv,
    open_probabilities_parquet,
)
from birdmix.inference.output.raven import open_raven
from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.recordings_csv import open_recordings
from birdmix.inference.output.table_writer import Write
from birdmix.ownership import foreign_file_reason, refuse_with_reason


@dataclass(frozen=True)
class OutputFormat:
    """An output format.

    Attributes:
        name: The file or folder that it writes, in the output folder.
        open: Context manager that yields a function, to be called with each recording; at its end
            the table is complete. Its arguments are the file to write, or an empty folder, and what
            all recordings have in common.
        is_folder: Whether it writes a folder.
        has_detections: Whether it needs detections, and so depends on thresholds; if not, the
            recordings that it gets have none.
    """

    name: str
    open: Callable[[Path, SharedMetadata], AbstractContextManager[Write]]
    is_folder: bool = False
    has_detections: bool = True


#: Tables that are always written.
TABLES = (
    OutputFormat("detections.csv", open_detections),
    OutputFormat("activity.csv", open_activity),
    OutputFormat("effort.csv", open_effort, has_detections=False),
    OutputFormat("recordings.csv", open_recordings),
)

#: Values of --probabilities.
PROBABILITIES = {
    "csv": OutputFormat("probabilities.csv", open_probabilities_csv, has_detections=False),
    "parquet": OutputFormat(
        "probabilities.parquet", open_probabilities_parquet, has_detections=False
    ),
}

#: Values of --format: other programs that read detections.
PROGRAMS = {
    "raven": OutputFormat("raven", open_raven, is_folder=True),
    "audacity": OutputFormat("audacity", open_audacity, is_folder=True),
    "birdnet": OutputFormat("birdnet", open_birdnet, is_folder=True),
    "kaleidoscope": OutputFormat("kaleidoscope", open_kaleidoscope, is_folder=True),
}


def write_formats(
    out: Path,
    formats: Sequence[OutputFormat],
    results: Iterable[RecordingResult],
    info: SharedMetadata,
) -> int:
    """Write recordings to several formats in one pass; if one fails, no former table is replaced.

    Args:
        out: The output folder.
        formats: The formats.
        results: The recordings, each read once.
        info: What they have in common.

    Returns:
        Number of detections of the recordings.

    Raises:
        ValueError: If a file or folder exists that birdmix did not write.
    """
    num_detections = 0
    with ExitStack() as replacing:
        partials = [
            replacing.enter_context(
                atomic_directory(out / each.name, each.name)
                if each.is_folder
                else atomic_path(out / each.name)
            )
            for each in formats
        ]
        with ExitStack() as writing:
            writers = [
                (each.has_detections, writing.enter_context(each.open(partial, info)))
                for each, partial in zip(formats, partials, strict=True)
            ]
            for result in results:
                num_detections += len(result.detections)
                without_detections = replace(result, detections=())
                for has_detections, write in writers:
                    write(result if has_detections else without_detections)
        for each in formats:
            if each.is_folder:
                check_replaceable_folder(out / each.name)
            else:
                refuse_with_reason(out / each.name, foreign_file_reason(out / each.name))
    return num_detections

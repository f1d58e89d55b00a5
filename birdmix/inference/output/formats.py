"""All output formats of a prediction.

A new format is a module with a writer, and a line in one of the tables below.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.activity_csv import EFFORT, write_activity
from birdmix.inference.output.audacity import write_audacity
from birdmix.inference.output.birdnet import write_birdnet
from birdmix.inference.output.detections_csv import write_detections
from birdmix.inference.output.kaleidoscope import write_kaleidoscope
from birdmix.inference.output.probabilities import (
    write_probabilities_csv,
    write_probabilities_parquet,
)
from birdmix.inference.output.raven import write_raven
from birdmix.inference.output.recordings_csv import write_recordings

#: Writes a file or a folder, which replaces the former one, and returns a count. Recordings are
#: iterated once.
Writer = Callable[[Path, Iterable[RecordingResult], SharedMetadata], int]


@dataclass(frozen=True)
class OutputFormat:
    """An output format.

    Attributes:
        name: The file or folder that it writes, in the output folder.
        write: Its writer.
        count: Key in ``run.json`` of the count that the writer returns; empty if it is not kept.
        further_files: Names of other files that it writes in that folder.
    """

    name: str
    write: Writer
    count: str = ""
    further_files: tuple[str, ...] = ()


#: Tables that are always written.
TABLES = (
    OutputFormat("detections.csv", write_detections, "detections"),
    OutputFormat("activity.csv", write_activity, "undated", (EFFORT,)),
    OutputFormat("recordings.csv", write_recordings, "recordings"),
)

#: Values of --probabilities.
PROBABILITIES = {
    "csv": OutputFormat("probabilities.csv", write_probabilities_csv),
    "parquet": OutputFormat("probabilities.parquet", write_probabilities_parquet),
}

#: Values of --format: other programs that read detections.
PROGRAMS = {
    "raven": OutputFormat("raven", write_raven),
    "audacity": OutputFormat("audacity", write_audacity),
    "birdnet": OutputFormat("birdnet", write_birdnet),
    "kaleidoscope": OutputFormat("kaleidoscope", write_kaleidoscope),
}

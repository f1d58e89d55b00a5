"""Detections for other programs: Raven, Audacity, and those that read what BirdNET writes.

Labels know codes and names, whatever they are: where a format has a scientific name there stands
the code, and the name where it has a common one.

Sources: Raven's selection tables as birdmix.recordings reads them; columns of the CSVs as
BirdNET-Analyzer writes them (``birdnet_analyzer/analyze``).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from birdmix.files import atomic_directory
from birdmix.inference.csv_files import confident, decimal, table, utf8
from birdmix.inference.detections import HeardRecording
from birdmix.inference.names import LONGEST, shortened
from birdmix.labels import Labels

RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Species", "Common Name", "Confidence"),
)
BIRDNET_COLUMNS = (
    *("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"),
)
KALEIDOSCOPE_COLUMNS = (
    *("INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "scientific_name", "common_name"),
    *("confidence", "lat", "lon", "week", "overlap", "sensitivity"),
)

#: Whatever some reader takes for the end of a cell or a line.
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


class Source(NamedTuple):
    """Where detections come from.

    Attributes:
        root: The folder listened to.
        band: Lowest and highest frequency heard, in Hz.
        channel: The one heard, counted from 1; 1 where all are mixed.
    """

    root: Path
    band: tuple[float, float]
    channel: int


#: Writes a format's folder, whole: what stood there before goes.
Writer = Callable[[Path, Iterable[HeardRecording], Labels, Source], None]


def write_raven(
    out: Path, recordings: Iterable[HeardRecording], labels: Labels, source: Source
) -> None:
    """Write a selection table, ``NAME.wav.selections.txt``, for each recording with detections.

    A name too long for that is shortened; the table holds it whole.

    They are read back with ``data=selections data.label_column=Species``.
    """
    low, high = map(decimal, source.band)
    with atomic_directory(out, out.name) as partial:
        for each in recordings:
            name = _line(PurePosixPath(each.path).name)
            rows = [
                (
                    *(str(number), "Spectrogram 1", str(source.channel)),
                    *(decimal(start), decimal(end), low, high),
                    *(name, _line(labels.codes[column]), _line(labels.names[column])),
                    confident(confidence),
                )
                for number, (start, end, column, confidence, _) in enumerate(
                    each.detections, start=1
                )
            ]
            if rows:
                _write_lines(partial, each, ".selections.txt", [RAVEN_COLUMNS, *rows])


def write_audacity(
    out: Path, recordings: Iterable[HeardRecording], labels: Labels, source: Source
) -> None:
    """Write a label track, ``NAME.wav.txt``, for each recording with detections.

    A label is the name and, rounded down to two digits, its confidence.
    """
    with atomic_directory(out, out.name) as partial:
        for each in recordings:
            rows = [
                (
                    *(decimal(start), decimal(end)),
                    f"{_line(labels.names[column])} {confident(confidence)[:4]}",
                )
                for start, end, column, confidence, _ in each.detections
            ]
            if rows:
                _write_lines(partial, each, ".txt", rows)


def write_birdnet(
    out: Path, recordings: Iterable[HeardRecording], labels: Labels, source: Source
) -> None:
    """Write ``birdnet.csv``, the columns of BirdNET's CSV; files are named from the root on."""
    with _alone(out, "birdnet.csv", BIRDNET_COLUMNS) as writer:
        for each in recordings:
            for start, end, column, confidence, _ in each.detections:
                name = (labels.codes[column], labels.names[column])
                told = (*name, confident(confidence), str(source.root / each.path))
                writer.writerow([decimal(start), decimal(end), *told])


def write_kaleidoscope(
    out: Path, recordings: Iterable[HeardRecording], labels: Labels, source: Source
) -> None:
    """Write ``kaleidoscope.csv``, the columns of BirdNET's CSV for Kaleidoscope.

    Nobody knows where and in which week it was: -1, as BirdNET writes it.
    """
    with _alone(out, "kaleidoscope.csv", KALEIDOSCOPE_COLUMNS) as writer:
        for each in recordings:
            folder, _, file = each.path.rpartition("/")
            overlap = decimal(_overlap(each))
            for start, end, column, confidence, _ in each.detections:
                found = (
                    str(source.root.resolve()),
                    folder,
                    file,
                    decimal(start),
                    decimal(end - start),
                )
                name = (labels.codes[column], labels.names[column], confident(confidence))
                writer.writerow([*found, *name, -1, -1, -1, overlap, 1])


#: What detections can be written as.
FORMATS: dict[str, Writer] = {
    "raven": write_raven,
    "audacity": write_audacity,
    "birdnet": write_birdnet,
    "kaleidoscope": write_kaleidoscope,
}


@contextmanager
def _alone(out: Path, name: str, columns: Iterable[str]) -> Iterator[Any]:
    """Yield the writer of a table that is alone in its folder."""
    with atomic_directory(out, out.name) as partial, table(partial / name, columns) as writer:
        yield writer


def _overlap(recording: HeardRecording) -> float:
    """Return how many seconds neighbouring windows share."""
    windows = recording.predictions
    if len(windows.start_seconds) < 2:
        return 0.0
    return max(float(windows.end_seconds[0] - windows.start_seconds[1]), 0.0)


def _write_lines(
    out: Path, recording: HeardRecording, suffix: str, rows: Iterable[Iterable[str]]
) -> None:
    """Write a table of a recording, in the folder and by the name that it has there."""
    place = PurePosixPath(recording.path)
    file = out / place.parent / (shortened(place.name, LONGEST - len(suffix)) + suffix)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ("\t".join(row) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8", newline="\n")


def _line(text: str) -> str:
    """Return a text in one line and one cell; these formats quote nothing."""
    return _BREAKS.sub(" ", utf8(text))

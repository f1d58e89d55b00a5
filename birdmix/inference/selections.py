"""Detections for other programs: Raven, Audacity, and those that read what BirdNET writes.

Labels know codes and names, whatever they are: where a format has a scientific name there stands
the code, and the name where it has a common one.

Sources: Raven's selection tables as birdmix.recordings reads them; columns of BirdNET's CSV as
BirdNET-Analyzer writes them (``birdnet_analyzer/analyze``), those of Kaleidoscope's as its
``cluster.csv`` has them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from birdmix.files import atomic_directory
from birdmix.inference.csv_files import TableWriter, confident, decimal, moment, table
from birdmix.inference.detections import HeardRecording
from birdmix.inference.names import LONGEST, shortened
from birdmix.labels import Labels
from birdmix.text import harmless, harmless_path, one_line

RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Species", "Common Name", "Confidence"),
)
BIRDNET_COLUMNS = (
    *("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"),
)
KALEIDOSCOPE_COLUMNS = (
    *("INDIR", "FOLDER", "IN FILE", "CHANNEL", "OFFSET", "DURATION", "DATE", "TIME", "HOUR"),
    *("TOP1MATCH", "TOP1DIST", "MANUAL ID"),
    *("scientific_name", "common_name", "confidence"),
)


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
            name = one_line(harmless_path(PurePosixPath(each.path).name))
            rows = [
                (
                    *(str(number), "Spectrogram 1", str(source.channel)),
                    *(decimal(start), decimal(end), low, high),
                    *(name, one_line(harmless(labels.codes[column]))),
                    one_line(harmless(labels.names[column])),
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
                    f"{one_line(labels.names[column] or labels.codes[column])} "
                    f"{confident(confidence)[:4]}",
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
    """Write ``kaleidoscope.csv``: detections as Kaleidoscope has them, to view and verify them.

    TOP1MATCH is the name and TOP1DIST the confidence (birdnet-team/BirdNET-Analyzer#855); what the
    user types in Kaleidoscope goes to MANUAL ID. The columns behind it are BirdNET's, which other
    programs read and Kaleidoscope passes over.
    """
    indir = str(source.root.resolve())
    with _alone(out, "kaleidoscope.csv", KALEIDOSCOPE_COLUMNS) as writer:
        for each in recordings:
            folder, _, file = each.path.rpartition("/")
            for start, end, column, confidence, _ in each.detections:
                code, name = labels.codes[column], labels.names[column]
                when = moment(each.began, start)[:19]
                date, _, time = when.partition("T")
                writer.writerow(
                    [
                        *(indir, folder, file, str(source.channel - 1)),
                        *(decimal(start), decimal(end - start), date, time, time[:2]),
                        *(name or code, confident(confidence), ""),
                        *(code, name, confident(confidence)),
                    ]
                )


#: What detections can be written as.
FORMATS: dict[str, Writer] = {
    "raven": write_raven,
    "audacity": write_audacity,
    "birdnet": write_birdnet,
    "kaleidoscope": write_kaleidoscope,
}


@contextmanager
def _alone(out: Path, name: str, columns: Iterable[str]) -> Iterator[TableWriter]:
    """Yield the writer of a table that is alone in its folder."""
    with atomic_directory(out, out.name) as partial, table(partial / name, columns) as writer:
        yield writer


def _write_lines(
    out: Path, recording: HeardRecording, suffix: str, rows: Iterable[Iterable[str]]
) -> None:
    """Write a table of a recording, in the folder and by the name that it has there."""
    place = PurePosixPath(recording.path)
    file = out / place.parent / (shortened(place.name, LONGEST - len(suffix)) + suffix)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ("\t".join(row) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8", newline="\n")

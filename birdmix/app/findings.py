"""What a journal says, read by thresholds, a list of species and a clock; and the tables of it.

Shapes: C classes.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np

from birdmix.app.outputs import Outputs
from birdmix.audio.clock import Clock
from birdmix.inference.activity import write_activity
from birdmix.inference.detections import HeardRecording, detect
from birdmix.inference.ensemble import Ranks
from birdmix.inference.journal import Entry, Heading, Journal
from birdmix.inference.listener import Listener, row_times
from birdmix.inference.overlaps import Repeated, Timed, find_copies, find_overlaps
from birdmix.inference.rows import smoothed
from birdmix.inference.scores import SCORES, write_scores
from birdmix.inference.selections import FORMATS, Source
from birdmix.inference.settings import check_calls
from birdmix.inference.species import columns_of
from birdmix.inference.tables import write_detections, write_recordings
from birdmix.labels import Labels
from birdmix.suggest import check_choice
from birdmix.windows import WindowPredictions


@dataclass(frozen=True)
class Output:
    """What is made of what was heard; to change it costs no listening.

    Attributes:
        threshold: Probability from which any species is called; None is the bundles' own for each.
        smoothing: Share of a row's logits that its neighbours give, in [0, 1).
        species: A file that names the species to keep, a line each; None keeps all.
        scores: parquet or csv, to write every score; None is neither.
        formats: raven, audacity, birdnet, kaleidoscope.
        timezone: What datetimes are written in.
        clock_timezone: Where recorders' clocks ran that do not say so.
    """

    threshold: float | None = None
    smoothing: float = 0.0
    species: Path | None = None
    scores: str | None = None
    formats: tuple[str, ...] = ()
    timezone: str | None = None
    clock_timezone: str | None = None

    def __post_init__(self) -> None:
        for name in self.formats:
            check_choice("--format", name, FORMATS)
        if self.scores is not None:
            check_choice("--scores", self.scores, SCORES)
        check_calls(self.smoothing, self.threshold)


class Findings:
    """How a journal is read, recording by recording, and the tables made of it.

    Args:
        folder: The folder listened to.
        paths: Its recordings; what else the journal holds is left out.
        listener: Who has heard it.
        output: How it is read.

    Attributes:
        labels: The species kept.

    Raises:
        ValueError: If zones, species or thresholds do not fit.
    """

    def __init__(
        self, folder: Path, paths: Sequence[str], listener: Listener, output: Output
    ) -> None:
        self.folder, self.paths = folder, frozenset(paths)
        self.listener, self.output = listener, output
        self.clock = Clock(output.timezone, output.clock_timezone)
        self.columns = columns_of(listener.labels, output.species)
        codes, names = listener.labels.codes, listener.labels.names
        self.labels = Labels(
            tuple(codes[c] for c in self.columns), tuple(names[c] for c in self.columns)
        )
        self.thresholds = listener.called_from(output.threshold)[self.columns]

    def read(
        self, journal: Journal, ranks: Ranks | None = None, repeated: Repeated | None = None
    ) -> Iterator[HeardRecording]:
        """Yield the recordings of a journal with their detections, by their paths.

        Args:
            journal: What was heard.
            ranks: What scores become in its place, if anything.
            repeated: What of it is there twice.
        """
        repeated = repeated or Repeated({}, [])
        for entry in journal.entries(self.paths):
            notes = [each for each in (entry.warning, repeated.note(entry.path)) if each]
            predictions = self._predictions(entry, ranks, "; ".join(notes))
            yield HeardRecording(
                predictions=predictions,
                seconds=entry.seconds,
                deployment=self._deployment(entry.path),
                began=self._began(entry),
                detections=detect(predictions, self.thresholds),
                copy_of=repeated.copies.get(entry.path, ""),
                overlap=repeated.overlap_of.get(entry.path),
            )

    def _deployment(self, path: str) -> str:
        place = PurePosixPath(path).parent.as_posix()
        return place if place != "." else self.folder.resolve().name

    def _began(self, entry: Entry | Heading) -> datetime | None:
        if entry.recorded_at is None:
            return None
        return self.clock.zoned(datetime.fromisoformat(entry.recorded_at))

    def _predictions(self, entry: Entry, ranks: Ranks | None, warning: str) -> WindowPredictions:
        listener = self.listener
        score = entry.score if ranks is None else ranks.mean(entry.score)
        if len(self.columns) < len(listener.labels):
            score = score[:, self.columns]
        score = smoothed(score, self.output.smoothing)
        start, end = row_times(len(score), listener.window, listener.step, entry.seconds)
        return WindowPredictions(entry.path, start, end, score, warning, entry.seconds)

    def _odd(self, journal: Journal) -> Iterator[str]:
        """Say how many recordings are odd."""
        headings = list(journal.headings(self.paths))
        odd = [each for each in headings if each.warning]
        if odd:
            first = f"{odd[0].path}: {odd[0].warning}"
            yield f"{len(odd)} of {len(headings)} recordings are odd, first {first}"

    def _repeated(self, journal: Journal) -> Repeated:
        """Find copies, and recordings that overlap."""
        headings = list(journal.headings(self.paths))
        alike: dict[tuple, list[str]] = defaultdict(list)
        for each in headings:
            alike[each.size, each.recorded_at, each.seconds].append(each.path)
        maybe = {path for paths in alike.values() if len(paths) > 1 for path in paths}
        scored: dict[tuple, list[str]] = defaultdict(list)
        for entry in journal.entries(maybe):
            key = hashlib.blake2b(entry.score.tobytes()).digest()
            scored[entry.size, entry.recorded_at, key].append(entry.path)
        copies = find_copies(self.folder, scored)
        timed = (
            Timed(each.path, self._deployment(each.path), began, each.seconds)
            for each in headings
            if each.path not in copies and (began := self._began(each)) is not None
        )
        return Repeated(copies, find_overlaps(timed))

    def write(
        self, out: Path, journal: Journal, outputs: Outputs
    ) -> tuple[dict[str, int], list[str]]:
        """Write the tables.

        Args:
            out: The folder.
            journal: What was heard.
            outputs: Which of the optional ones to write.

        Returns:
            Numbers of recordings, of detections, of recordings that have no datetime, of copies and
            of recordings that overlap; and lines that warn of recordings.
        """
        rank = self.listener.settings.combine == "rank"
        repeated = self._repeated(journal)
        heard = _Heard(self, journal, self._ranks(journal, out) if rank else None, repeated)
        counts = {"detections": write_detections(out / "detections.csv", heard, self.labels)}
        counts["undated"] = write_activity(out / "activity.csv", heard, self.labels)
        counts["recordings"] = write_recordings(out / "recordings.csv", heard)
        for kind in outputs.scores:
            write_scores(out / f"scores.{kind}", heard, self.labels)
        log_mel = self.listener.engines[0].manifest.log_mel
        band = (log_mel.f_min, log_mel.highest)
        source = Source(self.folder, band, self.listener.settings.channel or 1)
        for name in outputs.formats:
            FORMATS[name](out / name, heard, self.labels, source)
        counts |= {"copies": len(repeated.copies), "overlapping": len(repeated.overlap_of)}
        return counts, [*self._odd(journal), *repeated.lines()]

    def _ranks(self, journal: Journal, folder: Path) -> Ranks:
        num_rows = sum(len(entry.score) for entry in journal.entries(self.paths))
        ranks = Ranks(folder, num_rows, len(self.listener.engines), len(self.listener.labels))
        for entry in journal.entries(self.paths):
            ranks.add(entry.score)
        ranks.sort()
        return ranks

    def told_thresholds(self) -> dict[str, float | None]:
        """Return the probability from which each species was called; None if never."""
        values = [None if np.isnan(value) else round(float(value), 6) for value in self.thresholds]
        return dict(zip(self.labels.codes, values, strict=True))


@dataclass(frozen=True)
class _Heard:
    """A journal as its reader has it; every table goes through it once."""

    findings: Findings
    journal: Journal
    ranks: Ranks | None
    repeated: Repeated

    def __iter__(self) -> Iterator[HeardRecording]:
        return self.findings.read(self.journal, self.ranks, self.repeated)

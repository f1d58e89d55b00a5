"""From the journal to tables: detections, activity, warnings, and the formats of other programs.

Thresholds, species, smoothing and time zones act here: a change of them predicts nothing again.

Shapes: W windows, C classes.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np

from birdmix.audio.start_time import TimeZoneConverter
from birdmix.inference.detections import RecordingResult, SharedMetadata, find_detections
from birdmix.inference.ensemble import Ranks
from birdmix.inference.journal import EntryHeader, EntryWithLogits, Journal
from birdmix.inference.output.formats import PROBABILITIES, PROGRAMS, TABLES
from birdmix.inference.output_folder import PredictionFiles
from birdmix.inference.overlaps import (
    RepeatedAudio,
    TimedRecording,
    find_overlaps,
    map_copies_to_originals,
)
from birdmix.inference.predictor import Predictor, window_times
from birdmix.inference.settings import check_smoothing_and_threshold
from birdmix.inference.species_lookup import read_species_columns
from birdmix.inference.window_logits import smooth
from birdmix.labels import Labels
from birdmix.messages import check_choice
from birdmix.windows import WindowPredictions


@dataclass(frozen=True)
class OutputSettings:
    """How predictions become tables; a change predicts nothing again.

    Attributes:
        threshold: Probability from which a species is detected; None is the bundles' own for each.
        smoothing: Share of a window's logits taken from its two neighbours, in [0, 1).
        species: A file that names the species to keep, one per line; None keeps all.
        probabilities: parquet or csv, to write all probabilities; None writes none.
        formats: raven, audacity, birdnet, kaleidoscope.
        timezone: Time zone of the datetimes written.
        clock_timezone: Time zone of recorders that state none.
    """

    threshold: float | None = None
    smoothing: float = 0.0
    species: Path | None = None
    probabilities: str | None = None
    formats: tuple[str, ...] = ()
    timezone: str | None = None
    clock_timezone: str | None = None

    def __post_init__(self) -> None:
        for name in self.formats:
            check_choice("--format", name, PROGRAMS)
        if self.probabilities is not None:
            check_choice("--probabilities", self.probabilities, PROBABILITIES)
        check_smoothing_and_threshold(self.smoothing, self.threshold)


class TablesFromJournal:
    """Writes the tables from a journal, which is read recording by recording.

    Args:
        folder: The folder predicted.
        paths: Its recordings; others in the journal are left out.
        predictor: The models that the journal was made with.
        output: How predictions become tables.

    Attributes:
        labels: The species kept.
        thresholds: Probability from which each is detected, float64 [C]; NaN is never.

    Raises:
        ValueError: If time zones, species or thresholds do not fit.
    """

    def __init__(
        self, folder: Path, paths: Sequence[str], predictor: Predictor, output: OutputSettings
    ) -> None:
        self.folder, self.paths = folder, frozenset(paths)
        self.predictor, self.output = predictor, output
        self.clock = TimeZoneConverter(output.timezone, output.clock_timezone)
        self.columns = read_species_columns(predictor.labels, output.species)
        codes, names = predictor.labels.codes, predictor.labels.names
        self.labels = Labels(
            tuple(codes[c] for c in self.columns), tuple(names[c] for c in self.columns)
        )
        self.thresholds = predictor.detection_thresholds(output.threshold)[self.columns]

    def write_tables(
        self, out: Path, journal: Journal, files: PredictionFiles
    ) -> tuple[dict[str, int], list[str]]:
        """Write the tables.

        Args:
            out: The folder.
            journal: The predictions.
            files: The optional tables to write.

        Returns:
            Numbers of recordings, of detections, of recordings without a datetime, of copies and of
            recordings that overlap; and warnings about recordings.
        """
        is_ranked = self.predictor.settings.combine == "rank"
        repeated = self._find_repeated(journal)
        ranks = self._ranks(journal, out) if is_ranked else None
        results = _Results(self, journal, ranks, repeated)
        log_mel = self.predictor.engines[0].manifest.log_mel
        band = (log_mel.f_min, log_mel.max_frequency)
        channel = self.predictor.settings.channel or 1
        info = SharedMetadata(self.labels, self.folder, band, channel)
        counts = {table.count: table.write(out / table.name, results, info) for table in TABLES}
        for optional in files.optional_formats:
            optional.write(out / optional.name, results, info)
        counts |= {"copies": len(repeated.copies), "overlapping": len(repeated.overlap_by_path)}
        return counts, [*self._warnings(journal), *repeated.summary_lines()]

    def read_results(
        self, journal: Journal, ranks: Ranks | None = None, repeated: RepeatedAudio | None = None
    ) -> Iterator[RecordingResult]:
        """Yield the recordings of a journal with their detections, by path.

        Args:
            journal: The predictions.
            ranks: Ranks that replace the logits, if any.
            repeated: Copies and overlaps among the recordings.
        """
        repeated = repeated or RepeatedAudio({}, [])
        for entry in journal.entries_with_logits(self.paths):
            notes = [
                note
                for note in (entry.warning, repeated.warning_about_recording(entry.path))
                if note
            ]
            predictions = self._predictions(entry, ranks, "; ".join(notes))
            yield RecordingResult(
                predictions=predictions,
                seconds=entry.seconds,
                deployment=self._deployment(entry.path),
                recorded_at=self._start_time(entry),
                detections=find_detections(predictions, self.thresholds),
                copy_of=repeated.copies.get(entry.path, ""),
                overlap=repeated.overlap_by_path.get(entry.path),
            )

    def thresholds_by_code(self) -> dict[str, float | None]:
        """Return the probability from which each species is detected; None if never."""
        values = [None if np.isnan(value) else round(float(value), 6) for value in self.thresholds]
        return dict(zip(self.labels.codes, values, strict=True))

    def _deployment(self, path: str) -> str:
        place = PurePosixPath(path).parent.as_posix()
        return place if place != "." else self.folder.resolve().name

    def _start_time(self, entry: EntryHeader) -> datetime | None:
        if entry.recorded_at is None:
            return None
        return self.clock.convert(datetime.fromisoformat(entry.recorded_at))

    def _predictions(
        self, entry: EntryWithLogits, ranks: Ranks | None, warning: str
    ) -> WindowPredictions:
        predictor = self.predictor
        logits = entry.logits if ranks is None else ranks.mean_over_models(entry.logits)
        if len(self.columns) < len(predictor.labels):
            logits = logits[:, self.columns]
        logits = smooth(logits, self.output.smoothing)
        start, end = window_times(len(logits), predictor.window, predictor.hop, entry.seconds)
        return WindowPredictions(entry.path, start, end, logits, warning, entry.seconds)

    def _warnings(self, journal: Journal) -> Iterator[str]:
        """Yield the number of recordings with a warning, and the first of them."""
        headers = list(journal.headers(self.paths))
        warned = [header for header in headers if header.warning]
        if warned:
            first = f"{warned[0].path}: {warned[0].warning}"
            yield f"{len(warned)} of {len(headers)} recordings have warnings, first {first}"

    def _find_repeated(self, journal: Journal) -> RepeatedAudio:
        """Find copies of recordings, and recordings that overlap in time."""
        headers = list(journal.headers(self.paths))
        by_header: dict[tuple, list[str]] = defaultdict(list)
        for header in headers:
            by_header[header.size, header.recorded_at, header.seconds].append(header.path)
        candidates = {path for paths in by_header.values() if len(paths) > 1 for path in paths}
        by_logits: dict[tuple, list[str]] = defaultdict(list)
        for entry in journal.entries_with_logits(candidates):
            key = hashlib.blake2b(entry.logits.tobytes()).digest()
            by_logits[entry.size, entry.recorded_at, key].append(entry.path)
        copies = map_copies_to_originals(self.folder, by_logits)
        timed = (
            TimedRecording(header.path, self._deployment(header.path), recorded_at, header.seconds)
            for header in headers
            if header.path not in copies and (recorded_at := self._start_time(header)) is not None
        )
        return RepeatedAudio(copies, find_overlaps(timed))

    def _ranks(self, journal: Journal, folder: Path) -> Ranks:
        num_windows = sum(len(entry.logits) for entry in journal.entries_with_logits(self.paths))
        num_models, num_classes = len(self.predictor.engines), len(self.predictor.labels)
        ranks = Ranks(folder, num_windows, num_models, num_classes)
        for entry in journal.entries_with_logits(self.paths):
            ranks.add(entry.logits)
        ranks.sort()
        return ranks


@dataclass(frozen=True)
class _Results:
    """The recordings of a journal; each table iterates over them once."""

    tables: TablesFromJournal
    journal: Journal
    ranks: Ranks | None
    repeated: RepeatedAudio

    def __iter__(self) -> Iterator[RecordingResult]:
        return self.tables.read_results(self.journal, self.ranks, self.repeated)

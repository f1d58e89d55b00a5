"""From the journal to tables: detections, activity, warnings, and the formats of other programs.

Thresholds, species, smoothing and time zones act here: a change of them predicts nothing again.

Shapes: W windows, C classes.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.audio.start_time import TimeZoneConverter
from birdmix.inference.detections import find_detections
from birdmix.inference.ensemble import Ranks
from birdmix.inference.journal import Journal, JournalEntry
from birdmix.inference.output.formats import (
    PROBABILITIES,
    PROGRAMS,
    OutputFormat,
    write_formats,
)
from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.overlaps import (
    OverlapGroup,
    RepeatedAudio,
    TimedRecording,
    find_overlaps,
    map_copies_to_originals,
)
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import check_smoothing_and_threshold
from birdmix.inference.species_lookup import read_species_columns
from birdmix.inference.window_logits import smooth
from birdmix.inference.written_tables import WrittenTables, digest_inputs
from birdmix.labels import Labels
from birdmix.messages import check_choice


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


class _Recording(NamedTuple):
    """A recording of the journal, and what the tables add to it before its logits are read.

    For the attributes see ``RecordingResult``; ``warning`` has those about copies and overlaps too.
    """

    entry: JournalEntry
    deployment: str
    recorded_at: datetime | None
    warning: str
    copy_of: str = ""
    overlap: OverlapGroup | None = None


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
        self,
        folder: Path,
        paths: Sequence[str],
        predictor: RecordingPredictor,
        output: OutputSettings,
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
        self._real_folder = folder.resolve()

    def write_tables(
        self, journal: Journal, formats: Sequence[OutputFormat], written: WrittenTables
    ) -> tuple[dict[str, int], list[str]]:
        """Write the tables whose inputs have changed since an earlier command wrote them.

        Args:
            journal: The predictions.
            formats: The tables.
            written: The tables of the output folder; receives those of this command.

        Returns:
            Numbers of recordings, of detections, of recordings without a datetime, of copies and of
            recordings that overlap; and warnings about recordings.
        """
        recordings = [self._locate(each) for each in journal.entries() if each.path in self.paths]
        warnings = list(_describe_warnings(recordings))
        repeated = self._find_repeated(recordings)
        recordings = [_mark_repeated(each, repeated) for each in recordings]
        common = digest_inputs(self._inputs(journal, recordings))
        thresholds = self.thresholds.tolist()
        inputs = {
            each.name: digest_inputs([common, thresholds if each.has_detections else None])
            for each in formats
        }
        changed = [each for each in formats if not written.keep(each.name, inputs[each.name])]
        num_detections = written.num_detections
        if changed:
            ranks = self._rank(journal, recordings, written.out)
            results = self._results(journal, recordings, ranks)
            num_detections = write_formats(written.out, changed, results, self._shared_metadata())
        for each in changed:
            written.add(each.name, inputs[each.name])
        counts = {
            "detections": num_detections,
            "undated": sum(each.recorded_at is None for each in recordings),
            "recordings": len(recordings),
            "copies": len(repeated.copies),
            "overlapping": len(repeated.overlap_by_path),
        }
        return counts, [*warnings, *repeated.summary_lines()]

    def thresholds_by_code(self) -> dict[str, float | None]:
        """Return the probability from which each species is detected; None if never."""
        values = [None if np.isnan(value) else round(float(value), 6) for value in self.thresholds]
        return dict(zip(self.labels.codes, values, strict=True))

    def _locate(self, entry: JournalEntry) -> _Recording:
        deployment = entry.path.rpartition("/")[0] or self._real_folder.name
        recorded_at = entry.recorded_at and self.clock.convert(entry.recorded_at)
        return _Recording(entry, deployment, recorded_at, entry.warning)

    def _find_repeated(self, recordings: Sequence[_Recording]) -> RepeatedAudio:
        """Find copies of recordings, and recordings that overlap in time."""
        alike: dict[tuple, list[str]] = defaultdict(list)
        for entry, *_ in recordings:
            # As text, a clock's offset from UTC counts.
            key = (entry.file_state.size, str(entry.recorded_at), entry.seconds)
            alike[*key, entry.logits_checksum].append(entry.path)
        copies = map_copies_to_originals(
            self.folder, {key: paths for key, paths in alike.items() if len(paths) > 1}
        )
        timed = (
            TimedRecording(each.entry.path, each.deployment, each.recorded_at, each.entry.seconds)
            for each in recordings
            if each.recorded_at is not None and each.entry.path not in copies
        )
        return RepeatedAudio(copies, find_overlaps(timed))

    def _inputs(self, journal: Journal, recordings: Sequence[_Recording]) -> Iterator[object]:
        """Yield all that tables depend on, but for the thresholds.

        The fingerprint has birdmix, the bundles, windows, channel and ranks. Overlaps follow from
        the times of the recordings.
        """
        yield journal.fingerprint
        yield self.labels.codes, self.labels.names, self.output.smoothing
        yield self.output.timezone, self.output.clock_timezone
        yield str(self.folder), str(self._real_folder)
        for entry, deployment, recorded_at, warning, copy_of, _ in recordings:
            yield entry.path, entry.seconds, entry.num_windows, entry.logits_checksum
            yield deployment, str(recorded_at), warning, copy_of

    def _rank(
        self, journal: Journal, recordings: Sequence[_Recording], folder: Path
    ) -> Ranks | None:
        """Rank the logits of all recordings, if the models are combined by rank."""
        num_models = journal.layout.num_ranked
        if num_models is None:
            return None
        num_windows = sum(each.entry.num_windows for each in recordings)
        ranks = Ranks(folder, num_windows, num_models, len(journal.layout.labels))
        for each in recordings:
            ranks.add(journal.read(each.entry).logits)
        ranks.sort()
        return ranks

    def _results(
        self, journal: Journal, recordings: Sequence[_Recording], ranks: Ranks | None
    ) -> Iterator[RecordingResult]:
        """Yield the recordings as the tables have them, with their detections."""
        for entry, deployment, recorded_at, warning, copy_of, overlap in recordings:
            predictions = journal.read(entry)
            logits = predictions.logits
            if ranks is not None:
                logits = ranks.mean_over_models(logits)
            if len(self.labels) < len(predictions.labels):
                logits = logits[:, self.columns]
            predictions = replace(
                predictions,
                labels=self.labels,
                logits=smooth(logits, self.output.smoothing),
                warning=warning,
                thresholds=self.thresholds,
            )
            detections = find_detections(
                predictions.start_seconds,
                predictions.end_seconds,
                predictions.logits,
                self.thresholds,
            )
            yield RecordingResult(
                predictions, deployment, recorded_at, detections, copy_of, overlap
            )

    def _shared_metadata(self) -> SharedMetadata:
        log_mel = self.predictor.engines[0].manifest.log_mel
        band = (log_mel.f_min, log_mel.max_frequency)
        return SharedMetadata(self.labels, self.folder, band, self.predictor.settings.channel or 1)


def _mark_repeated(recording: _Recording, repeated: RepeatedAudio) -> _Recording:
    """Add whether a recording is a copy, or overlaps others."""
    path = recording.entry.path
    if path not in repeated.copies and path not in repeated.overlap_by_path:
        return recording
    notes = (recording.warning, repeated.warning_about_recording(path))
    return recording._replace(
        warning="; ".join(filter(None, notes)),
        copy_of=repeated.copies.get(path, ""),
        overlap=repeated.overlap_by_path.get(path),
    )


def _describe_warnings(recordings: Sequence[_Recording]) -> Iterator[str]:
    """Yield the number of recordings with a warning, and the first of them."""
    warned = [each for each in recordings if each.warning]
    if warned:
        first = f"{warned[0].entry.path}: {warned[0].warning}"
        yield f"{len(warned)} of {len(recordings)} recordings have warnings, first {first}"

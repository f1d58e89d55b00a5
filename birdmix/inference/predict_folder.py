"""Prediction of folders: new recordings into the journal, then the journal into the tables."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from birdmix import __version__
from birdmix.audio.find_recordings import unsupported_files_message
from birdmix.engines.registry import open_engine
from birdmix.files import write_text
from birdmix.inference.fingerprint import choose_engines, prediction_fingerprint
from birdmix.inference.input_files import find_input_files
from birdmix.inference.journal import FileState, Journal
from birdmix.inference.journal_file import read_fingerprint
from birdmix.inference.journal_tables import OutputSettings, TablesFromJournal
from birdmix.inference.output.recordings_csv import FAILED, write_failed
from birdmix.inference.output_folder import JOURNAL, PredictionFiles
from birdmix.inference.predict_files import OnProgress, Progress, predict_files
from birdmix.inference.process_share import ProcessShare
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import PredictSettings
from birdmix.inference.written_tables import RUN, WrittenTables, digest_inputs
from birdmix.messages import first_few
from birdmix.partial_files import remove_partials

#: Opens a display of progress for the time in which recordings are predicted.
OpenProgress = Callable[[], AbstractContextManager[OnProgress]]

Log = Callable[[str], None]


@dataclass(frozen=True)
class FolderResult:
    """The result of a prediction of folders.

    Attributes:
        out: Folder of the tables.
        progress: Recordings predicted now; earlier ones are in the journal.
        counts: Numbers of recordings, detections, and so on, as in ``run.json``.
        warnings: Lines about recordings with problems.
        has_predictions: Whether a recording was predicted, or there was none to predict.
    """

    out: Path
    progress: Progress
    counts: dict[str, int]
    warnings: list[str]
    has_predictions: bool


def predict_folder(
    targets: Sequence[Path],
    bundles: Sequence[Path],
    out: Path,
    engine: str,
    settings: PredictSettings,
    output: OutputSettings,
    share: ProcessShare,
    *,
    open_progress: OpenProgress,
    log: Log,
) -> FolderResult:
    """Predict what is new in folders and files, and write the tables of everything predicted.

    Args:
        targets: Folders of recordings, and single files.
        bundles: The models.
        out: Folder of the tables and the journal.
        engine: auto, torch, onnx or openvino.
        settings: How recordings are predicted.
        output: How predictions become tables.
        share: This process's share of the recordings.
        open_progress: Opens a display of progress.
        log: Receives lines about the work.

    Returns:
        The progress of this call, and counts and warnings of all tables.

    Raises:
        ValueError: If an argument is wrong, or ``out`` holds files that would be replaced and that
            birdmix did not write. Everything is checked before the journal is touched.
    """
    out = share.output_folder(out)
    files = PredictionFiles.from_requested_formats(out, output.probabilities, output.formats)
    inputs = find_input_files(targets)
    folder = inputs.folder
    paths = share.select(inputs.recordings)
    unsupported_paths = set(share.select(path for path, _ in inputs.unsupported))
    unsupported = [each for each in inputs.unsupported if each.path in unsupported_paths]
    names = choose_engines(engine, len(bundles), read_fingerprint(out / JOURNAL))
    engines = [open_engine(bundle, name) for bundle, name in zip(bundles, names, strict=True)]
    with RecordingPredictor(engines, settings) as predictor:
        tables = TablesFromJournal(folder, paths, predictor, output)
        _log_models(predictor, bundles, log)
        if share.count > 1:
            part = f"part {share.number} of {share.count}"
            log(f"{part}: {len(paths)} of {len(inputs.recordings)} recordings")
        fingerprint = prediction_fingerprint(bundles, predictor)
        files.register()
        with Journal(out / JOURNAL, fingerprint, predictor.layout) as journal:
            _log_journal(journal, log)
            with open_progress() as on_progress:
                progress = _predict_new(predictor, folder, paths, journal, on_progress, log)
            journal.check_not_replaced()
            remove_partials(out, is_only_writer=True)
            for line in files.describe_edited_outputs():
                log(line)
            written = WrittenTables(out)
            _write_failed(written, sorted([*progress.failed, *unsupported]))
            counts, warnings = tables.write_tables(journal, files.formats, written)
            counts["unsupported"] = len(unsupported)
            _write_run(folder, share, fingerprint, tables, progress, counts, written)
            journal.check_not_replaced()
    warnings = [f"{line}; {out / 'recordings.csv'} has all" for line in warnings]
    if unsupported:
        warnings.append(f"{unsupported_files_message(unsupported)}; {out / FAILED} has all")
    has_predictions = bool(counts["recordings"] or not paths)
    return FolderResult(out, progress, counts, warnings, has_predictions)


def _predict_new(
    predictor: RecordingPredictor,
    folder: Path,
    paths: list[str],
    journal: Journal,
    on_progress: OnProgress,
    log: Log,
) -> Progress:
    """Predict the recordings that are not in the journal, or were changed since."""
    in_journal = journal.file_states()
    states = {path: _file_state(os.path.join(folder, path)) for path in paths}
    new = [path for path in paths if in_journal.get(path) != states[path]]
    if len(new) < len(paths):
        log(f"{len(paths) - len(new)} of {len(paths)} recordings were predicted before")
    gone = sorted(in_journal.keys() - states.keys())
    if gone:
        log(
            f"{len(gone)} recordings predicted before are no longer here, and not in the tables: "
            f"{first_few(gone)}"
        )
    progress = Progress()
    for each in predict_files(predictor, folder, new, on_progress=on_progress, progress=progress):
        journal.add(each, states[each.path])
        del each  # its memory is needed for the next logits
    return progress


def _file_state(path: str) -> FileState:
    try:
        stat = os.stat(path)
    except OSError:  # reported when the file is read
        return FileState(0, 0)
    return FileState(stat.st_size, stat.st_mtime_ns)


def _log_models(predictor: RecordingPredictor, bundles: Sequence[Path], log: Log) -> None:
    """Log windows, bundles and engines, and species that only some of the bundles have."""
    names = sorted({engine.name for engine in predictor.engines})
    windows = f"windows of {predictor.layout.window:g} s every {predictor.layout.hop:g} s"
    bundle = "1 bundle" if len(bundles) == 1 else f"{len(bundles)} bundles"
    log(f"{len(predictor.labels)} species, {windows}, {bundle}, {', '.join(names)}")
    for folder, engine in zip(bundles, predictor.engines, strict=True):
        absent = [c for c in predictor.labels.codes if c not in engine.manifest.labels]
        if absent:
            log(
                f"{folder} has no class for {len(absent)} of them, the other bundles predict "
                f"these: {first_few(absent, 10)}"
            )


def _log_journal(journal: Journal, log: Log) -> None:
    if journal.changed:
        changes = ", ".join(f"{key} (was {value or '-'})" for key, value in journal.changed.items())
        former = f"; the former journal: {journal.backup}" if journal.backup is not None else ""
        log(f"predicting everything again, since predictions depend on {changes}{former}")
    elif journal.backup is not None:
        log(f"{journal.file} was damaged; starting again, the damaged one is {journal.backup}")
    if journal.dropped:
        log(
            f"{journal.file}: {len(journal.dropped)} recordings have damaged entries and are "
            f"predicted again: {first_few(journal.dropped)}"
        )


def _write_failed(written: WrittenTables, failed: list[tuple[str, str]]) -> None:
    inputs = digest_inputs([__version__, *map(tuple, failed)])
    if not written.keep(FAILED, inputs):
        write_failed(written.out / FAILED, failed)
        written.add(FAILED, inputs)


def _write_run(
    folder: Path,
    share: ProcessShare,
    fingerprint: dict[str, str],
    tables: TablesFromJournal,
    progress: Progress,
    counts: dict[str, int],
    written: WrittenTables,
) -> None:
    """Write ``run.json``: models, options, speed, counts and tables."""
    predicted_now = progress.num_done - len(progress.failed)
    content = {
        "folder": str(folder.resolve()),
        "channel": tables.predictor.settings.channel,
        "part": asdict(share),
        "predicted_with": fingerprint,
        "options": asdict(tables.output),
        "thresholds": tables.thresholds_by_code(),
        "counts": counts | {"predicted_now": predicted_now, "failed": len(progress.failed)},
        "hours_predicted_now": round(progress.audio_seconds / 3600, 4),
        "times_real_time": round(progress.times_real_time, 1) if predicted_now else None,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "tables": written.to_json(),
    }
    write_text(written.out / RUN, json.dumps(content, indent=2, default=str) + "\n")

"""Time the writing of all tables from a journal, against the time of its bytes alone.

    OMP_NUM_THREADS=1 python benchmarks/prediction_tables.py [--rounds 3] [--recordings 3000]

A journal of recordings of a minute (12 windows) x 500 classes with random logits; in about 2 % of
the windows one to three species are detected. The tables are those that are always written, and all
optional ones: probabilities as CSV and Parquet, and the formats of other programs. ``tables`` is
``TablesFromJournal`` with an open journal; ``again`` is the same with nothing changed, so that no
table is written. The floor reads all logits once, and writes bytes of the sizes of all tables. All
run once per round. Times are CPU times, so that other work on the machine does not count; they and
the ratios are medians.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from birdmix.bundle.manifest import Manifest
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.journal import FileState, Journal
from birdmix.inference.journal_tables import OutputSettings, TablesFromJournal
from birdmix.inference.output.formats import PROBABILITIES, PROGRAMS, TABLES
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import PredictSettings
from birdmix.inference.written_tables import RUN, WrittenTables
from birdmix.labels import Labels
from birdmix.model.settings import ModelSettings
from birdmix.ownership import OutputFiles

NUM_CLASSES, NUM_WINDOWS, WINDOW_SECONDS = 500, 12, 5.0
FORMATS = (*TABLES, *PROBABILITIES.values(), *PROGRAMS.values())


def make_predictor() -> RecordingPredictor:
    """Return a predictor whose engine has labels and settings, and is never run."""
    codes = tuple(f"species{number:03d}" for number in range(NUM_CLASSES))
    manifest = Manifest(
        labels=Labels(codes),
        log_mel=LogMelSettings(),
        model=ModelSettings(),
        segment_seconds=WINDOW_SECONDS,
    )
    engine: Any = SimpleNamespace(
        name="none", batch_size=1, num_threads=1, input_key="", num_samples=None, manifest=manifest
    )
    return RecordingPredictor([engine], PredictSettings())


def fill_journal(journal: Journal, num_recordings: int) -> None:
    """Add recordings of a minute, one after the other at ten places."""
    rng = np.random.default_rng(0)
    start = datetime(2026, 5, 1)
    for number in range(num_recordings):
        shape = (NUM_WINDOWS, NUM_CLASSES)
        logits = np.minimum(rng.normal(-6, 1.5, shape), -0.1).astype(np.float32)
        for window in np.flatnonzero(rng.random(NUM_WINDOWS) < 0.02):
            species = rng.integers(0, NUM_CLASSES, rng.integers(1, 4))
            logits[window, species] = rng.uniform(0.1, 4, len(species))
        place, minute = number % 10, number // 10
        recorded_at = start + timedelta(minutes=minute)
        path = f"site{place}/{recorded_at:%Y%m%d_%H%M%S}.wav"
        seconds = NUM_WINDOWS * WINDOW_SECONDS
        predictions = journal.layout.build(
            path, logits, seconds=seconds, recorded_at=recorded_at, warning=""
        )
        journal.add(predictions, FileState(number, number))


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of CPU time that a function takes, and its result."""
    started_at = time.process_time()
    result = function()
    return time.process_time() - started_at, result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recordings", type=int, default=3000)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"tables": [], "again": [], "floor": []}
    with (
        tempfile.TemporaryDirectory() as temporary,
        make_predictor() as predictor,
        Journal(Path(temporary) / "journal.sqlite", {}, predictor.layout) as journal,
    ):
        folder, out = Path(temporary) / "recordings", Path(temporary) / "out"
        fill_journal(journal, arguments.recordings)
        paths = [entry.path for entry in journal.entries()]
        output = OutputSettings(threshold=0.5)

        def write(written: WrittenTables) -> dict[str, int]:
            tables = TablesFromJournal(folder, paths, predictor, output)
            return tables.write_tables(journal, FORMATS, written)[0]

        def pay_for_bytes(num_bytes: list[int]) -> None:
            for entry in journal.entries():
                journal.read(entry)
            for number, size in enumerate(num_bytes):
                (out / str(number)).write_bytes(bytes(size))

        for _ in range(arguments.rounds):
            shutil.rmtree(out, ignore_errors=True)
            OutputFiles(out).register()
            written = WrittenTables(out)
            taken, counts = timed(partial(write, written))
            seconds["tables"].append(taken)
            sizes = [file.stat().st_size for file in out.rglob("*") if file.is_file()]
            run = {"tables": written.to_json(), "counts": counts}
            (out / RUN).write_text(json.dumps(run))
            written = WrittenTables(out)
            seconds["again"].append(timed(partial(write, written))[0])
            shutil.rmtree(out)
            out.mkdir()
            seconds["floor"].append(timed(partial(pay_for_bytes, sizes))[0])
    print(f"{counts['recordings']} recordings, {counts['detections']} detections")
    print(f"{len(sizes)} files, {sum(sizes) / 1e6:.0f} MB")
    floor = seconds["floor"]
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, floor, strict=True))
        print(f"{name:8} {statistics.median(values):7.2f} s   {ratio:6.1f} x floor   {values}")


if __name__ == "__main__":
    main()

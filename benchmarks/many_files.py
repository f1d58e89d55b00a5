"""Cost of many small files beyond decoding and network: listing, journal, tables, and a second run.

    OMP_NUM_THREADS=1 python benchmarks/many_files.py --files 100000
    OMP_NUM_THREADS=1 python benchmarks/many_files.py --files 100000 --all-formats

Files of 1 s in one folder, hard links to one WAV, so that they take no space; each has 10 windows x
500 classes of random logits, in about 2 % of which one to three species are detected. The whole of
``predict_folder`` runs in a process of its own, with a predictor that decodes and computes nothing:
it reads headers and start times, and returns logits made in advance. So all of its time is cost
beyond decoding and network. It runs twice, with probabilities as CSV and with ``--all-formats`` all
others; the second run finds nothing new, and must not replace a table.

Times are those of the clock; CPU times show what other work on the machine adds to them. The floor
writes and reads back the same number of bytes as the journal and the tables have.
"""

import argparse
import cProfile
import json
import multiprocessing
import os
import pstats
import resource
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile

from birdmix.audio.start_time import read_start_time
from birdmix.bundle.manifest import Manifest
from birdmix.engines.engine_interface import Engine
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference import predict_folder as predict_folder_module
from birdmix.inference.journal import Journal
from birdmix.inference.journal_tables import OutputSettings, TablesFromJournal
from birdmix.inference.output.formats import PROGRAMS
from birdmix.inference.process_share import ProcessShare
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import PredictSettings
from birdmix.labels import Labels
from birdmix.model.settings import ModelSettings

NUM_CLASSES, NUM_WINDOWS, WINDOW_SECONDS, SAMPLE_RATE = 500, 10, 0.1, 8000

# Goals: ms for each file, GB of memory, seconds of the second run.
MAX_MS, MAX_GB, MAX_AGAIN_SECONDS = 3.0, 1.5, 20.0

# Most links of a file; ext4 allows 65,000.
_MAX_LINKS = 50_000


def make_files(folder: Path, num_files: int) -> None:
    """Make recordings of 1 s, one each minute, named after their time."""
    folder.mkdir()
    start = datetime(2026, 5, 1)
    for number in range(num_files):
        file = folder / f"S_{start + timedelta(minutes=number):%Y%m%d_%H%M%S}.wav"
        if number % _MAX_LINKS == 0:
            first = file
            noise = np.random.default_rng(number).normal(0, 0.1, SAMPLE_RATE)
            soundfile.write(file, noise, SAMPLE_RATE)
        else:
            os.link(first, file)


class HeaderPredictor(RecordingPredictor):
    """Predictor that reads a recording's header only, and returns logits made in advance."""

    def __init__(self, engines: Sequence[Engine], settings: PredictSettings) -> None:
        super().__init__(engines, settings)
        rng = np.random.default_rng(0)
        shape = (4096, NUM_WINDOWS, NUM_CLASSES // 10)
        background = np.minimum(rng.normal(-6, 1.5, shape), -0.1).astype(np.float32)
        self.background = np.tile(background, (1, 1, 10))

    def predict(
        self, folder: Path, path: str, on_decoded: Callable[[float], None] | None = None
    ) -> RecordingPredictions:
        clock = read_start_time(folder / path)
        number = zlib.crc32(path.encode())
        rng = np.random.Generator(np.random.PCG64(number))
        logits = self.background[number % len(self.background)].copy()
        logits[0, 0] = -20 + number / 2**32  # no two recordings are equal
        for window in np.flatnonzero(rng.random(NUM_WINDOWS) < 0.02):
            species = rng.integers(1, NUM_CLASSES, rng.integers(1, 4))
            logits[window, species] = rng.uniform(0.1, 4, len(species))
        predictions = self.layout.build(
            path, logits, seconds=1.0, recorded_at=clock.moment, warning=clock.problem
        )
        return replace(predictions, recorded_at=clock.moment)


def stub_engine(bundle: Path, name: str) -> Any:
    """Return an engine that has labels and settings, and is never run."""
    manifest = Manifest(
        labels=Labels(tuple(f"species{number:03d}" for number in range(NUM_CLASSES))),
        log_mel=LogMelSettings(),
        model=ModelSettings(),
        segment_seconds=1.0,
    )
    return SimpleNamespace(
        name="none", batch_size=1, num_threads=1, input_key="", num_samples=None, manifest=manifest
    )


@contextmanager
def timed_method(seconds: dict[str, float], owner: Any, method: str, name: str) -> Iterator[None]:
    """Add the time of each call of a function to ``seconds[name]``, and the CPU time."""
    function = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started_at, cpu_started_at = time.perf_counter(), time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - started_at
            seconds[f"{name}, CPU time"] += time.process_time() - cpu_started_at

    with patch.object(owner, method, timed):
        yield


def predict(folder: Path, out: Path, all_formats: bool, profile: Path | None) -> dict[str, float]:
    """Predict the folder; return the seconds of each part, and the peak memory in GB."""
    seconds: dict[str, float] = defaultdict(float)
    output = OutputSettings(
        threshold=0.5, probabilities="csv", formats=tuple(PROGRAMS) if all_formats else ()
    )
    module = predict_folder_module
    profiler = cProfile.Profile() if profile else nullcontext()
    started_at, cpu_started_at = time.perf_counter(), time.process_time()
    with (
        patch.object(module, "open_engine", stub_engine),
        patch.object(module, "RecordingPredictor", HeaderPredictor),
        patch.object(module, "prediction_fingerprint", lambda *_: {"birdmix": "benchmark"}),
        timed_method(seconds, module, "find_input_files", "listing"),
        timed_method(seconds, Journal, "__init__", "journal, opening"),
        timed_method(seconds, module, "_predict_new", "headers, threads and adding"),
        timed_method(seconds, Journal, "add", "journal, adding"),
        timed_method(seconds, TablesFromJournal, "write_tables", "tables"),
        profiler,
    ):
        module.predict_folder(
            [folder],
            [Path("bundle")],
            out,
            "onnx",
            PredictSettings(window=WINDOW_SECONDS, hop=WINDOW_SECONDS),
            output,
            ProcessShare(),
            open_progress=lambda: nullcontext(lambda progress: None),
            log=lambda line: None,
        )
    seconds["all"] = time.perf_counter() - started_at
    seconds["all, CPU time"] = time.process_time() - cpu_started_at
    if isinstance(profiler, cProfile.Profile):
        with open(str(profile), "w") as stream:
            pstats.Stats(profiler, stream=stream).sort_stats("cumulative").print_stats(60)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return dict(seconds) | {"peak GB": peak}


def pay_for_bytes(folder: Path, sizes: list[int]) -> float:
    """Write files of the given sizes and read them again; return the seconds."""
    started_at = time.perf_counter()
    block = bytes(1 << 20)
    for number, size in enumerate(sizes):
        file = folder / str(number)
        with file.open("wb") as stream:
            for _ in range(size >> 20):
                stream.write(block)
            stream.write(block[: size % len(block)])
        with file.open("rb") as stream:
            while stream.read(len(block)):
                pass
        file.unlink()
    return time.perf_counter() - started_at


def states(out: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of change of each table."""
    names = (p for p in out.rglob("*") if p.name[0] != "." and p.suffix not in (".sqlite", ".json"))
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in names}


def report(name: str, value: float, goal: float) -> None:
    print(f"{name:34} {value:8.2f}   goal {goal:g}: {'met' if value <= goal else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--all-formats", action="store_true")
    parser.add_argument("--profile", type=Path, help="folder for profiles by function")
    parser.add_argument("--folder", type=Path, help="folder for temporary files, 8 GB")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as temporary,
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
    ):
        folder, out = Path(temporary) / "recordings", Path(temporary) / "out"
        make_files(folder, arguments.files)
        results = []
        before: dict[str, tuple[int, int]] = {}
        for run in ("first", "second"):
            profile = arguments.profile and arguments.profile / f"{run}.txt"
            values = pool.apply(predict, (folder, out, arguments.all_formats, profile))
            print(f"{run} run, {arguments.files} files, ms for each file:", flush=True)
            for name, seconds in values.items():
                if name != "peak GB":
                    print(f"  {name:32} {1000 * seconds / arguments.files:8.3f}   {seconds:8.2f} s")
            results.append(values)
            counts = json.loads((out / "run.json").read_text())["counts"]
            print(f"  {counts}")
            changed = sum(before.get(path) != state for path, state in states(out).items())
            before = states(out)
        sizes = [p.stat().st_size for p in out.rglob("*") if p.is_file()]
        floor = pay_for_bytes(Path(temporary), sizes)
    first, second = results
    print(f"bytes {sum(sizes) / 1e9:.2f} GB in {len(sizes)} files")
    print(
        f"floor: these bytes {floor:.1f} s, {1000 * floor / arguments.files:.3f} ms for each file"
    )
    report("first run, ms for each file", 1000 * first["all"] / arguments.files, MAX_MS)
    report("peak memory, GB", max(first["peak GB"], second["peak GB"]), MAX_GB)
    report("second run, s", second["all"], MAX_AGAIN_SECONDS)
    report("tables replaced by the second run", changed, 0)


if __name__ == "__main__":
    main()

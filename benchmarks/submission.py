"""Estimate the time of `birdmix submit` for the hidden test of 2026, on one, two and four cores.

    python benchmarks/submission.py [--rounds 3] [--files 24]

It uses the demo's soundscapes of one minute, and an untrained efficientnet_b0 with 206 species, as
prediction.py does; five folds are five copies of it, each of which predicts all soundscapes. The
command runs in a process of its own, limited to a number of cores, once with a third of the
soundscapes and once with all: the difference gives the time per soundscape, the rest is the time to
start. The estimate is for 600 soundscapes; medians of the rounds.

The lower bound is the sum of decoding, log-mel (once for all five folds) and the networks alone, as
in prediction.py, divided by the number of cores.

Where the machine has fewer than four cores, their time is extrapolated by Amdahl's law from one and
two cores: the time saved by the second core gives the parallel part. It is not a measurement.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from prediction import (
    B0,
    CODES,
    OGG,
    RATE,
    decode_all,
    infer_all,
    make_bundle,
    make_recordings,
    preprocess_all,
    report_goal,
    thread_seconds,
    wall_seconds,
    windows_of,
)

from birdmix.competitions import BIRDCLEF_2026
from birdmix.engines.onnx_export import export_network
from birdmix.engines.registry import EXPORTED_ENGINES, open_engine
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.threads import num_processors

HIDDEN = BIRDCLEF_2026.hidden_soundscapes
CORES, FOLDS = (1, 2, 4), (1, 5)

#: Minutes for five networks on four cores.
GOAL = 30


def make_competition(folder: Path, recordings: Path, number: int) -> Path:
    """Write a competition's folder with ``number`` of the recordings as soundscapes."""
    soundscapes = folder / BIRDCLEF_2026.test_soundscapes
    soundscapes.mkdir(parents=True)
    for file in sorted(recordings.iterdir())[:number]:
        shutil.copy(file, soundscapes / file.name)
    sample = ",".join(("row_id", *CODES)) + "\n"
    (folder / BIRDCLEF_2026.sample_submission).write_text(sample)
    (folder / BIRDCLEF_2026.taxonomy).touch()
    return folder


def submit_seconds(data: Path, bundle: Path, engine: str, folds: int, cores: set[int]) -> float:
    """Return the wall time of one `birdmix submit`."""
    code = f"import os; os.sched_setaffinity(0, {cores}); from birdmix.cli.main import main; main()"
    bundles = ["--bundle", str(bundle)] * folds
    arguments = ["submit", *bundles, "--engine", engine, "--data", str(data)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "submission.csv"
        command = [sys.executable, "-c", code, *arguments, "--out", str(out)]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started


def estimated_seconds(small: Path, large: Path, sizes: tuple[int, int], *case: object) -> float:
    """Return the estimated seconds of the hidden test, from folders of two sizes.

    Args:
        small: Folder with few soundscapes.
        large: Folder with more soundscapes.
        sizes: Number of soundscapes in each.
        case: Bundle, engine, folds and cores, as for ``submit_seconds``.
    """
    few, many = sizes
    seconds = submit_seconds(small, *case), submit_seconds(large, *case)  # type: ignore[arg-type]
    per_soundscape = (seconds[1] - seconds[0]) / (many - few)
    return seconds[0] + (HIDDEN - few) * per_soundscape


def bound_seconds(bundle: Path, kind: str, recordings: Path, windows: np.ndarray) -> list[float]:
    """Return the lower bound in core-seconds of the hidden test, for each number of folds."""
    engine, log_mel = open_engine(bundle, kind), NumpyLogMel(LogMelSettings())(windows)
    infer_all(engine, log_mel)
    once = thread_seconds(partial(decode_all, recordings)) + thread_seconds(
        partial(preprocess_all, engine, windows)
    )
    per_fold = num_processors() * wall_seconds(partial(infer_all, engine, log_mel))
    minutes = windows.size / RATE / 60
    return [HIDDEN / minutes * (once + folds * per_fold) for folds in FOLDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=24)
    options = parser.parse_args()
    available = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        recordings = make_recordings(root, options.files)[OGG]
        windows, bundle = windows_of(recordings), root / "bundle"
        make_bundle(bundle, B0, windows)
        sizes = options.files // 3, options.files
        small, large = (
            make_competition(root / str(number), recordings, number) for number in sizes
        )
        for kind in EXPORTED_ENGINES:
            export_network(bundle, kind)
            bounds = bound_seconds(bundle, kind, recordings, windows)
            for folds, bound in zip(FOLDS, bounds, strict=True):
                minutes = {}
                for cores in (number for number in CORES if number <= len(available)):
                    case = (bundle, kind, folds, set(available[:cores]))
                    seconds = [
                        estimated_seconds(small, large, sizes, *case) for _ in range(options.rounds)
                    ]
                    minutes[cores] = statistics.median(seconds) / 60
                    report(kind, folds, cores, minutes[cores], bound / 60 / cores, "")
                if 4 not in minutes:
                    # seconds(n) = serial + parallel / n
                    minutes[4] = minutes[2] - (minutes[1] - minutes[2]) / 2
                    report(kind, folds, 4, minutes[4], bound / 60 / 4, " (extrapolated)")
                if folds == max(FOLDS):
                    report_goal(f"{kind}, five-fold, four cores, minutes", minutes[4], GOAL)


def report(kind: str, folds: int, cores: int, minutes: float, bound: float, note: str) -> None:
    print(
        f"{kind:9} {folds} x efficientnet_b0, {cores} cores{note}: {minutes:6.2f} min, "
        f"{minutes / bound:.2f} x the lower bound, {HIDDEN / minutes:.0f} x real time",
        flush=True,
    )


if __name__ == "__main__":
    main()

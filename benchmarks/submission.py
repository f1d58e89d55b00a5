"""Project how long `birdmix submit` takes for the hidden test of 2026, on one, two and four cores.

    python benchmarks/submission.py [--rounds 3] [--files 24]

The demo's soundscapes of a minute, and an untrained efficientnet_b0 of 206 species (that of
listening.py); five-fold is five copies of it, each of which hears everything. The command runs as a
process of its own, start to last byte, held to so many cores, once with a third of the soundscapes
and once with all: the difference is what a soundscape takes, the rest is the start. Projected are
600 soundscapes; medians of the rounds.

The floor is decoding, log-mel (once for all five) and the networks alone, added up, as in
listening.py; its cores are shared out perfectly.

Where the machine has no four cores they are extrapolated by Amdahl's law from one and two: what the
second core saves is what parallel work is, and all else stays. Such a figure is no measurement.
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
from listening import (
    B0,
    CODES,
    OGG,
    RATE,
    decode_all,
    hear_all,
    judge_all,
    make_bundle,
    make_recordings,
    tell,
    thread_seconds,
    wall_seconds,
    windows_of,
)

from birdmix.competitions import BIRDCLEF_2026
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.engine import EXPORTED, open_engine, processors
from birdmix.inference.export import export

HIDDEN = BIRDCLEF_2026.hidden_soundscapes
CORES, FOLDS = (1, 2, 4), (1, 5)

#: Minutes for five networks on four cores.
GOAL = 30


def make_competition(folder: Path, recordings: Path, number: int) -> Path:
    """Write a folder to submit for, with so many of some recordings."""
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
    code = f"import os; os.sched_setaffinity(0, {cores}); from birdmix.app.cli import main; main()"
    bundles = ["--bundle", str(bundle)] * folds
    given = ["submit", *bundles, "--engine", engine, "--data", str(data)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "submission.csv"
        command = [sys.executable, "-c", code, *given, "--out", str(out)]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began


def projected(small: Path, large: Path, sizes: tuple[int, int], *given: object) -> float:
    """Return the seconds that the hidden test would take."""
    few, many = sizes
    seconds = submit_seconds(small, *given), submit_seconds(large, *given)  # type: ignore[arg-type]
    each = (seconds[1] - seconds[0]) / (many - few)
    return seconds[0] + (HIDDEN - few) * each


def floor_seconds(bundle: Path, kind: str, recordings: Path, windows: np.ndarray) -> list[float]:
    """Return the core-seconds of the hidden test, for each number of folds."""
    engine, pictures = open_engine(bundle, kind), NumpyLogMel(LogMelSettings())(windows)
    judge_all(engine, pictures)
    once = thread_seconds(partial(decode_all, recordings)) + thread_seconds(
        partial(hear_all, engine, windows)
    )
    judge = processors() * wall_seconds(partial(judge_all, engine, pictures))
    minutes = windows.size / RATE / 60
    return [HIDDEN / minutes * (once + folds * judge) for folds in FOLDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=24)
    options = parser.parse_args()
    here = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        recordings = make_recordings(root, options.files)[OGG]
        windows, bundle = windows_of(recordings), root / "bundle"
        make_bundle(bundle, B0, windows)
        sizes = options.files // 3, options.files
        small, large = (
            make_competition(root / str(number), recordings, number) for number in sizes
        )
        for kind in EXPORTED:
            export(bundle, kind)
            floors = floor_seconds(bundle, kind, recordings, windows)
            for folds, floor in zip(FOLDS, floors, strict=True):
                minutes = {}
                for cores in (number for number in CORES if number <= len(here)):
                    given = (bundle, kind, folds, set(here[:cores]))
                    every = [projected(small, large, sizes, *given) for _ in range(options.rounds)]
                    minutes[cores] = statistics.median(every) / 60
                    report(kind, folds, cores, minutes[cores], floor / 60 / cores, "")
                if 4 not in minutes:
                    # seconds(n) = alone + together / n
                    minutes[4] = minutes[2] - (minutes[1] - minutes[2]) / 2
                    report(kind, folds, 4, minutes[4], floor / 60 / 4, " (extrapolated)")
                if folds == max(FOLDS):
                    tell(f"{kind}, five-fold, four cores, minutes", minutes[4], GOAL)


def report(kind: str, folds: int, cores: int, minutes: float, floor: float, how: str) -> None:
    print(
        f"{kind:9} {folds} x efficientnet_b0, {cores} cores{how}: {minutes:6.2f} min, "
        f"{minutes / floor:.2f} x the floor, {HIDDEN / minutes:.0f} x real time",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Time how samples get from a disk into a batch, each way against its floor.

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--rounds 200] [--only formats resampling]

``formats`` reads random five seconds of a minute at its own rate: ``birdmix.audio.decode.read``
and ``librosa.load`` against the floor, which opens the file with soundfile, seeks and reads the
same span. ``resampling`` reads at another rate than the file's, against the floor and
``soxr.resample`` of what it gives. What ``read`` returns is first compared with the cut of the
whole recording. All cases run once per round at one position, so that whatever the machine does
meets all of them; medians. The files are chirps in noise, written to a temporary folder.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import soundfile
import soxr

from birdmix.audio.decode import decode, read

SAMPLE_RATE = 32_000
SECONDS = 60
SEGMENT_SECONDS = 5

#: Container and codec by suffix.
FORMATS = {
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
}

#: The ratio to the floor that is asked of ``read``.
READ_GOAL = 1.15

#: How many times as long ``librosa.load`` should take, by suffix.
LIBROSA_GOALS = {"ogg": 8.0}

#: Reads the segment of a file that starts at so many seconds.
Case = Callable[[Path, float], object]


def chirps(sample_rate: int) -> np.ndarray:
    """Return a minute of rising chirps in noise, float32 [T]."""
    seconds = np.arange(SECONDS * sample_rate) / sample_rate
    since = seconds % 0.7  # a chirp begins every so often
    sweep = np.sin(2 * np.pi * (1000 + 4000 * since) * since) * np.exp(-5 * since)
    noise = np.random.default_rng(0).normal(0, 0.02, len(seconds))
    return (0.4 * sweep + noise).astype(np.float32)


def write(folder: Path, suffix: str, sample_rate: int) -> Path:
    """Write the minute in one of the formats, and return the file."""
    container, codec = FORMATS[suffix]
    path = folder / f"{sample_rate}.{suffix}"
    with soundfile.SoundFile(
        path, "w", samplerate=sample_rate, channels=1, format=container, subtype=codec
    ) as file:
        for block in np.array_split(chirps(sample_rate), SECONDS):  # Vorbis wants small ones
            file.write(block)
    return path


def bare(path: Path, start_seconds: float) -> tuple[np.ndarray, int]:
    """Return a segment at the file's own rate, by soundfile alone, and that rate."""
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        file.seek(int(start_seconds * rate))
        return file.read(SEGMENT_SECONDS * rate, dtype="float32"), rate


def bare_resampled(path: Path, start_seconds: float) -> np.ndarray:
    return soxr.resample(*bare(path, start_seconds), SAMPLE_RATE)


def by_librosa(path: Path, start_seconds: float) -> object:
    return librosa.load(path, sr=None, offset=start_seconds, duration=SEGMENT_SECONDS)


def ours(path: Path, start_seconds: float) -> np.ndarray:
    start = int(start_seconds * SAMPLE_RATE)
    return read(path, start, SEGMENT_SECONDS * SAMPLE_RATE, SAMPLE_RATE)


def check(path: Path, num_positions: int = 50) -> None:
    """Compare segments with the cut of the whole recording."""
    whole = decode(path, SAMPLE_RATE)
    rng = np.random.default_rng(1)
    for start_seconds in rng.uniform(0, SECONDS, num_positions):  # some reach past the end
        start = int(start_seconds * SAMPLE_RATE)
        expected = whole[start : start + SEGMENT_SECONDS * SAMPLE_RATE]
        np.testing.assert_allclose(ours(path, start_seconds), expected, atol=1e-5)


def medians(cases: dict[str, Case], path: Path, rounds: int) -> dict[str, float]:
    """Return the median seconds of each case over interleaved rounds, at random positions."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    rng = np.random.default_rng(0)
    for number in range(rounds + 3):
        start_seconds = float(rng.uniform(0, SECONDS - SEGMENT_SECONDS))
        for name in rng.permutation(list(cases)):  # the first may warm caches for the next
            began = time.perf_counter()
            cases[name](path, start_seconds)
            if number >= 3:  # the first rounds warm up
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in taken.items()}


def report_formats(folder: Path, rounds: int) -> None:
    print(f"{'at its own rate':20}{'floor, ms':>10}{'read':>7}{'librosa':>9}{'librosa / read':>16}")
    for suffix in FORMATS:
        path = write(folder, suffix, SAMPLE_RATE)
        check(path)
        took = medians({"floor": bare, "read": ours, "librosa": by_librosa}, path, rounds)
        ratio, rival = took["read"] / took["floor"], took["librosa"] / took["floor"]
        missed = [] if ratio <= READ_GOAL else ["read"]
        missed += [] if rival / ratio >= LIBROSA_GOALS.get(suffix, 0) else ["librosa / read"]
        print(
            f"{suffix:20}{took['floor'] * 1e3:10.2f}{ratio:7.3f}{rival:9.3f}{rival / ratio:16.3f}"
            f"{'  missed: ' + ', '.join(missed) if missed else ''}"
        )
    asked = ", ".join(f"{goal:g} x read on {suffix}" for suffix, goal in LIBROSA_GOALS.items())
    print(f"goals: read at most {READ_GOAL} x the floor; librosa at least {asked}")


def report_resampling(folder: Path, rounds: int) -> None:
    print(f"{f'at {SAMPLE_RATE} Hz':20}{'floor, ms':>10}{'read':>7}")
    for suffix in ("ogg", "wav"):
        for sample_rate in (44_100, 48_000):
            path = write(folder, suffix, sample_rate)
            check(path)
            took = medians({"floor": bare_resampled, "read": ours}, path, rounds)
            ratio = took["read"] / took["floor"]
            print(
                f"{f'{suffix}, {sample_rate} Hz':20}{took['floor'] * 1e3:10.2f}{ratio:7.3f}"
                f"{'' if ratio <= READ_GOAL else '  missed'}"
            )
    print(f"goal: read at most {READ_GOAL} x the floor, which resamples what soundfile reads")


#: What is measured, by the name that ``--only`` takes: called with a folder and the rounds.
SECTIONS: dict[str, Callable[[Path, int], None]] = {
    "formats": report_formats,
    "resampling": report_resampling,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", choices=list(SECTIONS), nargs="+", default=list(SECTIONS))
    options = parser.parse_args()
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            SECTIONS[name](Path(folder), options.rounds)
        print()


if __name__ == "__main__":
    main()

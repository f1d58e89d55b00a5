"""Time how samples get from a disk into a batch, each way against its floor.

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--rounds 200] [--only formats resampling]

``formats`` reads random five seconds of a minute at its own rate: ``birdmix.audio.segment.read``
and ``librosa.load`` against the floor, which opens the file with soundfile, seeks and reads the
same span. ``resampling`` reads at another rate than the file's, against the floor and
``soxr.resample`` of what it gives. ``loader`` compares the segments a second of the loader with
the floor's times its workers, ``cache`` the stores with reading OGG, and ``table`` reads, folds and
indexes a million rows in a process of its own. What ``read`` returns is first compared with the
cut of the whole recording. All cases run once per round at one position, so that whatever the
machine does meets all of them; medians. The files are chirps in noise, written to a temporary
folder.
"""

import argparse
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import soundfile
import soxr
import torch

from birdmix.audio.decode import decode
from birdmix.audio.segment import read
from birdmix.batch import Batch
from birdmix.labels import Labels
from birdmix.loading.batches import Segments
from birdmix.loading.loader import end_workers, loader
from birdmix.loading.sampler import EpochBatches, appearances
from birdmix.loading.store import Store, open_store
from birdmix.recordings.folds import split
from birdmix.recordings.readers import read_source
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import Recordings
from birdmix.training.processes import keep_freed_memory

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

#: The share of the floor's rate times the workers that is asked of the loader.
LOADER_GOAL = 0.9

#: How many times the OGG rate is asked of ``data.cache=pcm``.
CACHE_GOAL = 10

BATCH = 32

#: Rows of the large table.
ROWS = 1_000_000

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


def minutes(folder: Path, number: int) -> list[str]:
    """Write some minutes of OGG, and return their names."""
    first = write(folder, "ogg", SAMPLE_RATE)
    names = [first.name, *(f"{at}.ogg" for at in range(1, number))]
    for name in names[1:]:
        shutil.copy(first, folder / name)
    return names


def recordings_of(folder: Path, paths: list[str]) -> Recordings:
    return Recordings.build(folder, Labels(("a",)), path=paths, codes=[("a",)] * len(paths))


def segments_of(recordings: Recordings, cache: str) -> Segments:
    settings = DataSettings(cache=cache, cache_dir=str(recordings.root / "cache"))
    store, _ = open_store(recordings.root, recordings.paths, settings, SAMPLE_RATE)
    return Segments(recordings, store, SEGMENT_SECONDS * SAMPLE_RATE, SAMPLE_RATE, 0, settings)


def alternately(data: Segments, bare_path: Path, num_workers: int, rounds: int) -> np.ndarray:
    """Return segments a second of bare reading and of a loader, in turns, [rounds, 2]."""
    batches_of = loader(
        data, EpochBatches(np.ones(len(data.files)), BATCH, seed=0, num_epochs=10**6), num_workers
    )
    given = iter(batches_of)
    rates = []
    for _ in range(rounds):
        one = medians({"floor": bare}, bare_path, 30)["floor"]
        for _ in range(2 * num_workers + 1):  # those that were made while the floor was measured
            next(given)
        began = time.perf_counter()
        for _ in range(6 * num_workers):
            next(given)
        rates.append((1 / one, 6 * num_workers * BATCH / (time.perf_counter() - began)))
    end_workers(batches_of)
    return np.array(rates)


def report_loader(folder: Path, rounds: int) -> None:
    keep_freed_memory()  # as training does
    recordings = recordings_of(folder, minutes(folder, BATCH))
    data = segments_of(recordings, "none")
    print(f"{'segments a second':20}{'bare x workers':>16}{'loader':>9}{'ratio':>7}")
    for num_workers in (1, 2):
        rates = alternately(data, folder / recordings.paths[0], num_workers, max(rounds // 12, 3))
        rates[:, 0] *= num_workers
        floor, rate = np.median(rates, axis=0)
        ratio = float(np.median(rates[:, 1] / rates[:, 0]))
        print(
            f"{f'{num_workers} workers':20}{floor:16.0f}{rate:9.0f}{ratio:7.3f}"
            f"{'' if ratio >= LOADER_GOAL else '  missed'}"
        )
    print(f"goal: {LOADER_GOAL} of the bare rate times the workers (this machine: 2 cores)")


def report_cache(folder: Path, rounds: int) -> None:
    recordings = recordings_of(folder, minutes(folder, 12))
    ways = {cache: segments_of(recordings, cache) for cache in ("none", "pcm", "memory")}

    def reading(store: Store) -> Case:
        return lambda path, start: store.read(
            3, int(start * SAMPLE_RATE), SEGMENT_SECONDS * SAMPLE_RATE
        )

    cases = {name: reading(data.store) for name, data in ways.items()}
    took = medians(cases, folder / recordings.paths[3], rounds)
    print(f"{'a segment from':20}{'ms':>10}{'x the OGG rate':>16}")
    for name, seconds in took.items():
        print(f"{name:20}{seconds * 1e3:10.3f}{took['none'] / seconds:16.1f}")
    met = took["none"] / took["pcm"] >= CACHE_GOAL
    print(f"goal: {CACHE_GOAL} x for pcm{'' if met else ': missed'}")


def report_table(folder: Path, rounds: int) -> None:
    """Read, fold and index a table of a million recordings in a process of its own."""
    write_table(folder, ROWS)
    context = multiprocessing.get_context("spawn")
    for group in ("recordings", "20,000 recordists"):
        table = folder / ("alone.csv" if group == "recordings" else "grouped.csv")
        with ProcessPoolExecutor(1, mp_context=context) as alone:
            took, peak, labels = alone.submit(indexed, table).result()
        total = sum(took.values())
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in took.items())
        missed = total > 60 or peak > 2**31
        print(
            f"{ROWS:,} rows, groups are {group}: {total:.1f} s ({parts}), peak {peak / 2**30:.2f} "
            f"GiB, {labels} labels{'  missed' if missed else ''}"
        )
    with ProcessPoolExecutor(1, mp_context=context) as alone:
        private = alone.submit(private_of_workers, folder / "grouped.csv").result()
    print(f"private memory of a worker after 10,000 segments: {private / 2**20:.0f} MiB")
    print("goals: under 60 s and 2 GiB, and no copies in workers")


def write_table(folder: Path, num_rows: int) -> None:
    """Write two tables of empty files: one without groups, one with."""
    rng = np.random.default_rng(0)
    species = np.minimum(rng.geometric(0.02, num_rows) - 1, 499)
    people = rng.integers(0, 20_000, num_rows)
    with (folder / "alone.csv").open("w") as alone, (folder / "grouped.csv").open("w") as grouped:
        alone.write("path,labels\n")
        grouped.write("path,labels,group\n")
        for at, (label, person) in enumerate(zip(species.tolist(), people.tolist(), strict=True)):
            path = f"{at // 1000}/recording_{at}.ogg"
            if at % 1000 == 0:
                (folder / str(at // 1000)).mkdir()
            (folder / path).touch()
            alone.write(f"{path},species{label}\n")
            grouped.write(f"{path},species{label},recordist {person}\n")


def indexed(table: Path) -> tuple[dict[str, float], int, int]:
    """Return the seconds of each part of the work, the peak memory in bytes, and the labels."""
    took, began = {}, time.perf_counter()

    def note(name: str) -> None:
        nonlocal began
        took[name], began = time.perf_counter() - began, time.perf_counter()

    settings = DataSettings(source="csv", table=str(table), sampler="sqrt", num_folds=5)
    recordings = read_source(settings).recordings
    note("read")
    train, _ = split(recordings, 5, 0)
    note("folds")
    silent_segments(train, settings)
    EpochBatches(appearances(train, settings), BATCH, seed=0, num_epochs=1).rows(0)
    note("index")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return took, peak, len(recordings.labels)


class Silence(Store):
    """A store that answers without any files."""

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        return np.zeros(num_samples, np.float32)


def silent_segments(recordings: Recordings, settings: DataSettings) -> Segments:
    store = Silence(recordings.paths, [SAMPLE_RATE] * len(recordings))
    return Segments(recordings, store, 100, SAMPLE_RATE, 0, settings)


class PrivateMemory(Segments):
    """Segments that tell in ``weight`` how much memory their process has of its own, in bytes."""

    def __getitems__(self, keys: list) -> Batch:
        batch = super().__getitems__(keys)
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
        return batch._replace(weight=torch.tensor([float(kilobytes * 1024)]))


def private_of_workers(table: Path) -> float:
    """Return by how many bytes a worker's own memory grows over 10,000 segments."""
    settings = DataSettings(source="csv", table=str(table))
    recordings = read_source(settings).recordings
    data = silent_segments(recordings, settings)
    data.__class__ = PrivateMemory
    batches = EpochBatches(np.ones(len(recordings)), 100, seed=0, num_epochs=1)
    batches_of = loader(data, batches, num_workers=1)
    given = iter(batches_of)
    amounts = [float(next(given).weight[0]) for _ in range(100)]
    end_workers(batches_of)
    return amounts[-1] - amounts[0]


#: What is measured, by the name that ``--only`` takes: called with a folder and the rounds.
SECTIONS: dict[str, Callable[[Path, int], None]] = {
    "formats": report_formats,
    "resampling": report_resampling,
    "loader": report_loader,
    "cache": report_cache,
    "table": report_table,
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

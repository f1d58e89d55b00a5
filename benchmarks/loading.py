"""Benchmark of loading: reading segments, the loader, caches and large tables, with baselines.

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--rounds 200] [--only formats resampling]

``formats`` reads random segments of five seconds from a minute at the file's sample rate, with
``read_segment`` (column ``read``) and ``librosa.load``. Both are compared with the baseline, which
opens the file with soundfile, seeks and reads the same span. ``resampling`` reads at another sample
rate, compared with the baseline followed by ``soxr.resample``. ``loader`` compares the segments per
second of the loader with those of the baseline times the number of workers, ``cache`` compares the
stores with reading OGG, and ``table`` reads, splits and indexes a million rows in a separate
process. The results of ``read_segment`` are first compared with slices of the decoded recording.
All cases run once per round at the same position, so that other load on the machine affects all of
them; times are medians. The files are chirps in noise, written to a temporary folder.
"""

import argparse
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import soundfile
import soxr
import torch

from birdmix.audio.decode import decode_recording
from birdmix.audio.segment_reader import read_segment
from birdmix.labels import Labels
from birdmix.loading.audio_store import AudioStore, open_store
from birdmix.loading.batch import Batch
from birdmix.loading.loader import end_workers, make_loader
from birdmix.loading.row_weights import compute_draws_per_epoch
from birdmix.loading.sampler import SegmentBatchSampler
from birdmix.loading.segment_dataset import SegmentDataset
from birdmix.recordings.folds import split_by_fold
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_source
from birdmix.training.distributed_processes import keep_freed_host_memory

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

#: Goal for ``read_segment``: maximum ratio of its time to the baseline's.
READ_GOAL = 1.15

#: Goal: smallest ratio of the time of ``librosa.load`` to that of ``read_segment``, by suffix.
LIBROSA_GOALS = {"ogg": 8.0}

#: Goal for the loader: minimum ratio of its rate to the baseline's times the workers.
LOADER_GOAL = 0.9

#: Goal for ``data.cache=pcm``: how many times as fast as reading OGG.
CACHE_GOAL = 10

BATCH = 32

#: Rows of the large table.
ROWS = 1_000_000

#: Function that reads the segment of a file that starts at a time in seconds.
Case = Callable[[Path, float], object]


def chirps(sample_rate: int) -> np.ndarray:
    """Return a minute of rising chirps in noise, float32 [T]."""
    seconds = np.arange(SECONDS * sample_rate) / sample_rate
    chirp_time = seconds % 0.7  # a chirp begins every 0.7 s
    sweep = np.sin(2 * np.pi * (1000 + 4000 * chirp_time) * chirp_time) * np.exp(-5 * chirp_time)
    noise = np.random.default_rng(0).normal(0, 0.02, len(seconds))
    return (0.4 * sweep + noise).astype(np.float32)


def write(folder: Path, suffix: str, sample_rate: int) -> Path:
    """Write the minute of chirps in one of the formats, and return the file."""
    container, codec = FORMATS[suffix]
    path = folder / f"{sample_rate}.{suffix}"
    with soundfile.SoundFile(
        path, "w", samplerate=sample_rate, channels=1, format=container, subtype=codec
    ) as file:
        for block in np.array_split(chirps(sample_rate), SECONDS):  # Vorbis needs small blocks
            file.write(block)
    return path


def read_baseline(path: Path, start_seconds: float) -> tuple[np.ndarray, int]:
    """Return a segment at the file's sample rate, read with soundfile, and that rate in Hz."""
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        file.seek(int(start_seconds * rate))
        return file.read(SEGMENT_SECONDS * rate, dtype="float32"), rate


def read_baseline_resampled(path: Path, start_seconds: float) -> np.ndarray:
    return soxr.resample(*read_baseline(path, start_seconds), SAMPLE_RATE)


def read_librosa(path: Path, start_seconds: float) -> object:
    return librosa.load(path, sr=None, offset=start_seconds, duration=SEGMENT_SECONDS)


def read_birdmix(path: Path, start_seconds: float) -> np.ndarray:
    start = int(start_seconds * SAMPLE_RATE)
    return read_segment(path, start, SEGMENT_SECONDS * SAMPLE_RATE, SAMPLE_RATE)


def check(path: Path, num_positions: int = 50) -> None:
    """Compare segments with slices of the decoded recording."""
    waveform = decode_recording(path, SAMPLE_RATE)
    rng = np.random.default_rng(1)
    for start_seconds in rng.uniform(0, SECONDS, num_positions):  # some exceed the end
        start = int(start_seconds * SAMPLE_RATE)
        expected = waveform[start : start + SEGMENT_SECONDS * SAMPLE_RATE]
        np.testing.assert_allclose(read_birdmix(path, start_seconds), expected, atol=1e-5)


def measure_medians(cases: Mapping[str, Case], path: Path, rounds: int) -> dict[str, float]:
    """Return the median seconds of each case over interleaved rounds, at random positions."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    rng = np.random.default_rng(0)
    for number in range(rounds + 3):
        start_seconds = float(rng.uniform(0, SECONDS - SEGMENT_SECONDS))
        for name in rng.permutation(list(cases)):  # the first one warms caches for the next
            began = time.perf_counter()
            cases[name](path, start_seconds)
            if number >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def report_formats(folder: Path, rounds: int) -> None:
    header = f"{'original rate':20}{'baseline, ms':>13}{'read':>7}{'librosa':>9}"
    print(f"{header}{'librosa / read':>16}")
    for suffix in FORMATS:
        path = write(folder, suffix, SAMPLE_RATE)
        check(path)
        cases = {"baseline": read_baseline, "read": read_birdmix, "librosa": read_librosa}
        seconds = measure_medians(cases, path, rounds)
        ratio = seconds["read"] / seconds["baseline"]
        librosa_ratio = seconds["librosa"] / seconds["baseline"]
        gain = librosa_ratio / ratio
        missed = [] if ratio <= READ_GOAL else ["read"]
        missed += [] if gain >= LIBROSA_GOALS.get(suffix, 0) else ["librosa / read"]
        print(
            f"{suffix:20}{seconds['baseline'] * 1e3:13.2f}{ratio:7.3f}{librosa_ratio:9.3f}"
            f"{gain:16.3f}{'  missed: ' + ', '.join(missed) if missed else ''}"
        )
    goals = ", ".join(f"{goal:g} x read on {suffix}" for suffix, goal in LIBROSA_GOALS.items())
    print(f"goals: read at most {READ_GOAL} x the baseline; librosa at least {goals}")


def report_resampling(folder: Path, rounds: int) -> None:
    print(f"{f'at {SAMPLE_RATE} Hz':20}{'baseline, ms':>13}{'read':>7}")
    for suffix in ("ogg", "wav"):
        for sample_rate in (44_100, 48_000):
            path = write(folder, suffix, sample_rate)
            check(path)
            cases = {"baseline": read_baseline_resampled, "read": read_birdmix}
            seconds = measure_medians(cases, path, rounds)
            ratio = seconds["read"] / seconds["baseline"]
            print(
                f"{f'{suffix}, {sample_rate} Hz':20}{seconds['baseline'] * 1e3:13.2f}{ratio:7.3f}"
                f"{'' if ratio <= READ_GOAL else '  missed'}"
            )
    print(f"goal: read at most {READ_GOAL} x the baseline (soundfile, then soxr)")


def write_minutes(folder: Path, number: int) -> list[str]:
    """Write a number of equal OGG files of a minute, and return their names."""
    first = write(folder, "ogg", SAMPLE_RATE)
    names = [first.name, *(f"{at}.ogg" for at in range(1, number))]
    for name in names[1:]:
        shutil.copy(first, folder / name)
    return names


def build_recordings(folder: Path, paths: list[str]) -> Recordings:
    return Recordings.build(folder, Labels(("a",)), path=paths, codes=[("a",)] * len(paths))


def open_segments(recordings: Recordings, cache: str) -> SegmentDataset:
    settings = DataSettings(cache=cache, cache_dir=str(recordings.root / "cache"))
    store, _ = open_store(recordings.root, recordings.paths, settings, SAMPLE_RATE)
    return SegmentDataset(
        recordings, store, SEGMENT_SECONDS * SAMPLE_RATE, SAMPLE_RATE, 0, settings
    )


def measure_rates(data: SegmentDataset, path: Path, num_workers: int, rounds: int) -> np.ndarray:
    """Return segments per second of the baseline and of a loader, alternating, [rounds, 2]."""
    batches = SegmentBatchSampler(np.ones(len(data.files)), BATCH, seed=0, num_epochs=10**6)
    batch_loader = make_loader(data, batches, num_workers)
    loaded = iter(batch_loader)
    rates = []
    for _ in range(rounds):
        seconds = measure_medians({"baseline": read_baseline}, path, 30)["baseline"]
        for _ in range(2 * num_workers + 1):  # prefetched while the baseline was measured
            next(loaded)
        began = time.perf_counter()
        for _ in range(6 * num_workers):
            next(loaded)
        rates.append((1 / seconds, 6 * num_workers * BATCH / (time.perf_counter() - began)))
    end_workers(batch_loader)
    return np.array(rates)


def report_loader(folder: Path, rounds: int) -> None:
    keep_freed_host_memory()  # as training does
    recordings = build_recordings(folder, write_minutes(folder, BATCH))
    data = open_segments(recordings, "none")
    print(f"{'segments per second':20}{'baseline x workers':>20}{'loader':>9}{'ratio':>7}")
    for num_workers in (1, 2):
        path = folder / recordings.paths[0]
        rates = measure_rates(data, path, num_workers, max(rounds // 12, 3))
        rates[:, 0] *= num_workers
        baseline, rate = np.median(rates, axis=0)
        ratio = float(np.median(rates[:, 1] / rates[:, 0]))
        print(
            f"{f'{num_workers} workers':20}{baseline:20.0f}{rate:9.0f}{ratio:7.3f}"
            f"{'' if ratio >= LOADER_GOAL else '  missed'}"
        )
    print(f"goal: {LOADER_GOAL} of the baseline's rate times the workers (this machine: 2 cores)")


def report_cache(folder: Path, rounds: int) -> None:
    recordings = build_recordings(folder, write_minutes(folder, 12))
    stores = {cache: open_segments(recordings, cache).store for cache in ("none", "pcm", "memory")}

    def build_case(store: AudioStore) -> Case:
        return lambda path, start: store.read(
            3, int(start * SAMPLE_RATE), SEGMENT_SECONDS * SAMPLE_RATE
        )

    cases = {cache: build_case(store) for cache, store in stores.items()}
    medians = measure_medians(cases, folder / recordings.paths[3], rounds)
    print(f"{'data.cache':20}{'ms/segment':>10}{'x OGG rate':>16}")
    for cache, seconds in medians.items():
        print(f"{cache:20}{seconds * 1e3:10.3f}{medians['none'] / seconds:16.1f}")
    is_met = medians["none"] / medians["pcm"] >= CACHE_GOAL
    print(f"goal: {CACHE_GOAL} x for pcm{'' if is_met else ': missed'}")


def report_table(folder: Path, rounds: int) -> None:
    """Read, split and index a table of a million recordings in a separate process."""
    write_table(folder, ROWS)
    context = multiprocessing.get_context("spawn")
    for group in ("recordings", "20,000 recordists"):
        table = folder / ("ungrouped.csv" if group == "recordings" else "grouped.csv")
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            durations, peak, num_labels = executor.submit(index_table, table).result()
        total = sum(durations.values())
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in durations.items())
        missed = total > 60 or peak > 2**31
        print(
            f"{ROWS:,} rows, groups are {group}: {total:.1f} s ({parts}), peak {peak / 2**30:.2f} "
            f"GiB, {num_labels} labels{'  missed' if missed else ''}"
        )
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        growth = executor.submit(measure_worker_memory, folder / "grouped.csv").result()
    print(f"private memory of a worker after 10,000 segments: {growth / 2**20:.0f} MiB")
    print("goals: under 60 s and 2 GiB, and no copies of the table in workers")


def write_table(folder: Path, num_rows: int) -> None:
    """Write two tables of empty files: one without groups, one with groups."""
    rng = np.random.default_rng(0)
    species = np.minimum(rng.geometric(0.02, num_rows) - 1, 499)
    recordists = rng.integers(0, 20_000, num_rows)
    with (
        (folder / "ungrouped.csv").open("w") as ungrouped,
        (folder / "grouped.csv").open("w") as grouped,
    ):
        ungrouped.write("path,labels\n")
        grouped.write("path,labels,group\n")
        rows = zip(species.tolist(), recordists.tolist(), strict=True)
        for at, (label, recordist) in enumerate(rows):
            path = f"{at // 1000}/recording_{at}.ogg"
            if at % 1000 == 0:
                (folder / str(at // 1000)).mkdir()
            (folder / path).touch()
            ungrouped.write(f"{path},species{label}\n")
            grouped.write(f"{path},species{label},recordist {recordist}\n")


def index_table(table: Path) -> tuple[dict[str, float], int, int]:
    """Return the seconds of each part of the work, peak memory in bytes, and number of labels."""
    durations, began = {}, time.perf_counter()

    def record_duration(name: str) -> None:
        nonlocal began
        durations[name], began = time.perf_counter() - began, time.perf_counter()

    settings = DataSettings(source="csv", table=str(table), sampler="sqrt", num_folds=5)
    recordings = read_source(settings).recordings
    record_duration("read")
    train, _ = split_by_fold(recordings, 5, 0)
    record_duration("folds")
    open_silent_segments(train, settings)
    SegmentBatchSampler(
        compute_draws_per_epoch(train, settings), BATCH, seed=0, num_epochs=1
    ).rows_of_epoch(0)
    record_duration("index")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return durations, peak, len(recordings.labels)


class SilentStore(AudioStore):
    """A store that returns silence, without any files."""

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        return np.zeros(num_samples, np.float32)


def open_silent_segments(recordings: Recordings, settings: DataSettings) -> SegmentDataset:
    store = SilentStore(recordings.paths, [SAMPLE_RATE] * len(recordings))
    return SegmentDataset(recordings, store, 100, SAMPLE_RATE, 0, settings)


class MemoryProbe(SegmentDataset):
    """Segments whose ``weight`` is the private memory of the loading process in bytes."""

    def __getitems__(self, keys: list) -> Batch:
        batch = super().__getitems__(keys)
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
        weight = torch.tensor([float(kilobytes * 1024)])
        return batch._replace(examples=batch.examples._replace(weight=weight))


def measure_worker_memory(table: Path) -> float:
    """Return the growth of a worker's private memory over 10,000 segments, in bytes."""
    settings = DataSettings(source="csv", table=str(table))
    recordings = read_source(settings).recordings
    data = open_silent_segments(recordings, settings)
    data.__class__ = MemoryProbe
    batches = SegmentBatchSampler(np.ones(len(recordings)), 100, seed=0, num_epochs=1)
    batch_loader = make_loader(data, batches, num_workers=1)
    loaded = iter(batch_loader)
    amounts = [float(next(loaded).weight[0]) for _ in range(100)]
    end_workers(batch_loader)
    return amounts[-1] - amounts[0]


#: Sections of the benchmark by their name for ``--only``; called with a folder and the rounds.
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

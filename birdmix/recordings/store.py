"""Where samples come from once a run has begun: memory if they fit, the files otherwise.

Both stores answer for a recording's path. Recordings that yield no samples are found before
training starts and leave the table whole.

Shapes: T samples.
"""

import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from birdmix.audio.decode import AudioError, AudioInfo, Blocks, probe, read
from birdmix.recordings.table import Recordings

_FULL_SCALE_16_BIT = 32767.0

Result = TypeVar("Result")

#: Called with (files done, files in all).
Progress = Callable[[int, int], None]


class Store(Protocol):
    """Samples of recordings at one sample rate."""

    def num_samples(self, path: str) -> int:
        """Return a recording's length in samples, at least 1."""

    def read(self, path: str, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]; shorter than asked where the recording ends."""


@dataclass(frozen=True)
class MemoryStore:
    """Decoded recordings as 16-bit integers; forked worker processes share the pages."""

    waveforms: dict[str, np.ndarray]

    def num_samples(self, path: str) -> int:
        """Return a recording's length in samples."""
        return len(self.waveforms[path])

    def read(self, path: str, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]."""
        piece = self.waveforms[path][start : start + num_samples]
        return np.multiply(piece, np.float32(1 / _FULL_SCALE_16_BIT), dtype=np.float32)


@dataclass(frozen=True)
class FileStore:
    """Recordings read from disk, segment by segment."""

    root: Path
    sample_rate: int
    lengths: dict[str, int]

    def num_samples(self, path: str) -> int:
        """Return a recording's length in samples, as its header tells it."""
        return self.lengths[path]

    def read(self, path: str, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]; from the start where the header promised too much."""
        piece = read(self.root / path, start, num_samples, self.sample_rate)
        return piece if len(piece) else read(self.root / path, 0, num_samples, self.sample_rate)


def open_store(
    recordings: Recordings,
    sample_rate: int,
    memory_gib: float,
    max_bad_fraction: float,
    on_progress: Progress | None = None,
) -> tuple[Recordings, Store]:
    """Open the recordings of a table, and drop those that yield no samples.

    Args:
        recordings: Table.
        sample_rate: Hz of everything the store gives.
        memory_gib: Decode everything into memory if it fits into this many GiB.
        max_bad_fraction: Share of the recordings that may be bad.
        on_progress: Called as files are done.

    Returns:
        The table without bad recordings, and the store.

    Raises:
        ValueError: If more are bad than ``max_bad_fraction``; it lists them.
    """
    paths = list(dict.fromkeys(recordings.table["path"]))
    lengths, bad = _each(
        lambda path: _length(recordings.root / path, sample_rate), paths, on_progress
    )
    store: Store = FileStore(recordings.root, sample_rate, lengths)
    if sum(lengths.values()) * 2 <= memory_gib * 2**30:
        waveforms, worse = _each(
            lambda path: _decode_16_bit(recordings.root / path, sample_rate), lengths, on_progress
        )
        bad |= worse
        store = MemoryStore(waveforms)
    _report(bad, len(paths), max_bad_fraction)
    return recordings.take(~recordings.table["path"].isin(list(bad)).to_numpy()), store


def _length(path: Path, sample_rate: int) -> int:
    """Return a recording's length: by its header if the last sample decodes, else by decoding."""
    info = probe(path)
    if info.num_frames is None or not _decodes_at_its_end(path, info):
        return sum(map(len, Blocks(path, sample_rate)))
    return max(info.num_frames * sample_rate // info.sample_rate, 1)


def _decodes_at_its_end(path: Path, info: AudioInfo) -> bool:
    assert info.num_frames is not None
    try:
        return len(read(path, max(info.num_frames - 1, 0), 1, info.sample_rate)) == 1
    except AudioError:
        return False


def _decode_16_bit(path: Path, sample_rate: int) -> np.ndarray:
    blocks = Blocks(path, sample_rate)
    return np.concatenate(
        [np.rint(block.clip(-1, 1) * _FULL_SCALE_16_BIT).astype(np.int16) for block in blocks]
    )


def _each(
    work: Callable[[str], Result], paths: Iterable[str], on_progress: Progress | None
) -> tuple[dict[str, Result], dict[str, str]]:
    """Do some work for each path in threads: decoding leaves the interpreter free."""
    paths = list(paths)
    results: dict[str, Result] = {}
    bad: dict[str, str] = {}

    def attempt(path: str) -> Result | AudioError:
        try:
            return work(path)
        except AudioError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (path, result) in enumerate(zip(paths, pool.map(attempt, paths), strict=True), 1):
            if isinstance(result, AudioError):
                bad[path] = str(result)
            else:
                results[path] = result
            if on_progress:
                on_progress(done, len(paths))
    return results, bad


def _report(bad: dict[str, str], total: int, max_bad_fraction: float) -> None:
    if not bad:
        return
    listed = "".join(f"\n  {reason}" for reason in bad.values())
    if len(bad) > max_bad_fraction * total:
        raise ValueError(
            f"{len(bad)} of {total} recordings yield no samples, more than "
            f"data.max_bad_fraction={max_bad_fraction} allows; mend or remove them:{listed}"
        )
    message = f"{len(bad)} of {total} recordings yield no samples and are skipped:{listed}"
    warnings.warn(message, stacklevel=2)

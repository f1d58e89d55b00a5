"""Where samples come from once a run has begun: memory, files of 16-bit samples, the recordings.

All stores answer for the number of a file among those they were opened for. Recordings that yield
no samples are found before training starts and leave the tables whole.

Shapes: T samples, F files, N rows.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from birdmix.audio.decode import Blocks
from birdmix.audio.segment import read
from birdmix.audio.sound_file import AudioError, AudioInfo, probe
from birdmix.loading.pcm import Pcm, PcmFile, cached, decode_pcm, read_pcm
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import Recordings
from birdmix.threads import Progress, each

Result = TypeVar("Result")


class Store(ABC):
    """Samples of recordings at one sample rate.

    Args:
        paths: Of the files, relative to one root.
        lengths: Their lengths in samples, at least 1 each, int64 [F].
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]) -> None:
        # Arrow and numpy, not objects: worker processes share them untouched.
        self.paths = pa.array(paths, pa.string())
        self.lengths = np.array(lengths, np.int64)

    def files_of(self, recordings: Recordings) -> np.ndarray:
        """Return the file of each row, int64 [N]."""
        files = pd.Index(self.paths.to_pylist()).get_indexer(recordings.paths)
        assert (files >= 0).all(), "the store was not opened for these recordings"
        return files

    @abstractmethod
    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]; shorter than asked where the recording ends."""


class MemoryStore(Store):
    """Decoded recordings as 16-bit integers; forked worker processes share the pages."""

    def __init__(self, waveforms: dict[str, Pcm]) -> None:
        super().__init__(list(waveforms), [len(each.samples) for each in waveforms.values()])
        self.waveforms = list(waveforms.values())

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]."""
        return self.waveforms[file].read(start, num_samples)


class PcmStore(Store):
    """Files of 16-bit samples; all processes share what the system keeps of them in memory."""

    def __init__(self, files: dict[str, PcmFile]) -> None:
        super().__init__(list(files), [each.num_samples for each in files.values()])
        self.files = pa.array([str(each.file) for each in files.values()], pa.string())
        self.exponents = np.array([each.exponent for each in files.values()], np.int64)

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]."""
        place = self.files[file].as_py()
        return read_pcm(place, int(self.exponents[file]), start, num_samples)


class FileStore(Store):
    """Recordings read from disk, segment by segment."""

    def __init__(self, root: Path, sample_rate: int, lengths: dict[str, int]) -> None:
        super().__init__(list(lengths), list(lengths.values()))
        self.root = root
        self.sample_rate = sample_rate

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T].

        Raises:
            AudioError: If nothing can be decoded there, though something could when it was opened.
        """
        path = self.root / self.paths[file].as_py()
        piece = read(path, start, num_samples, self.sample_rate)
        if not len(piece):
            raise AudioError(path, f"nothing is to be heard after {start / self.sample_rate:g} s")
        return piece


def open_store(
    root: Path,
    paths: Iterable[str],
    settings: DataSettings,
    sample_rate: int,
    on_progress: Progress | None = None,
) -> tuple[Store, set[str]]:
    """Open recordings, and find those that yield no samples.

    Args:
        root: Folder that paths are relative to.
        paths: Recordings; each is opened once, however often it stands here.
        settings: What is kept where, and how many may be bad.
        sample_rate: Hz of everything the store gives.
        on_progress: Called as files are done.

    Returns:
        The store, and the paths of bad recordings.

    Raises:
        ValueError: If more are bad than ``max_bad_fraction``; it lists them.
    """
    paths = list(dict.fromkeys(paths))
    if settings.cache == "pcm":
        folder = Path(settings.cache_dir)
        pcm, bad = _sorted_out(
            lambda path: cached(folder, root / path, sample_rate), paths, on_progress
        )
        _report(bad, len(paths), settings.max_bad_fraction)
        return PcmStore(pcm), set(bad)
    lengths, bad = _sorted_out(lambda path: _length(root / path, sample_rate), paths, on_progress)
    store: Store = FileStore(root, sample_rate, lengths)
    if settings.cache == "memory" and sum(lengths.values()) * 2 <= settings.memory_gib * 2**30:
        waveforms, worse = _sorted_out(
            lambda path: decode_pcm(root / path, sample_rate), lengths, on_progress
        )
        bad |= worse
        store = MemoryStore(waveforms)
    _report(bad, len(paths), settings.max_bad_fraction)
    return store, set(bad)


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


def _sorted_out(
    work: Callable[[str], Result], paths: Iterable[str], on_progress: Progress | None
) -> tuple[dict[str, Result], dict[str, str]]:
    """Return what comes of each path, and the reasons of those that yield no samples."""
    results: dict[str, Result] = {}
    bad: dict[str, str] = {}

    def attempt(path: str) -> Result | AudioError:
        try:
            return work(path)
        except AudioError as error:
            return error

    for path, result in each(attempt, list(paths), on_progress):
        if isinstance(result, AudioError):
            bad[path] = str(result)
        else:
            results[path] = result
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

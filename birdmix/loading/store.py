"""Where samples come from once a run has begun: memory, files of 16-bit samples, the recordings.

All stores answer for the number of a file among those they were opened for. Recordings that yield
no samples are found before training starts and leave the tables whole.

Shapes: T samples, F files, N rows.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from birdmix.audio.containers.layout import Layout
from birdmix.audio.decode import Blocks
from birdmix.audio.reader import Reader
from birdmix.audio.segment import read
from birdmix.audio.sound_file import AudioError
from birdmix.audio.structure import PLAIN
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


class Length(NamedTuple):
    """The length of a recording, in samples, and its structure."""

    num_samples: int
    layout: Layout


class FileStore(Store):
    """Recordings read from disk, segment by segment.

    Args:
        root: Folder that paths are relative to.
        sample_rate: Hz of the segments.
        lengths: Length in samples and structure of each recording, by path.
    """

    def __init__(self, root: Path, sample_rate: int, lengths: dict[str, "Length"]) -> None:
        super().__init__(list(lengths), [each.num_samples for each in lengths.values()])
        self.root = root
        self.sample_rate = sample_rate
        # Of most files nothing is kept: decoders take them as they are.
        self.layouts = {
            file: each.layout for file, each in enumerate(lengths.values()) if not each.layout.plain
        }

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T].

        Raises:
            AudioError: If nothing can be decoded there, though something could when it was opened.
        """
        path = self.root / self.paths[file].as_py()
        layout = self.layouts.get(file, PLAIN)
        piece = read(path, start, num_samples, self.sample_rate, layout=layout)
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
    num_samples = sum(each.num_samples for each in lengths.values())
    if settings.cache == "memory" and num_samples * 2 <= settings.memory_gib * 2**30:
        waveforms, worse = _sorted_out(
            lambda path: decode_pcm(root / path, sample_rate), lengths, on_progress
        )
        bad |= worse
        store = MemoryStore(waveforms)
    _report(bad, len(paths), settings.max_bad_fraction)
    return store, set(bad)


def _length(path: Path, sample_rate: int) -> Length:
    """Return a recording's length: by its header if the last sample decodes, else by decoding."""
    with Reader(path) as reader:
        layout, native, num_frames = reader.layout, reader.first.samplerate, reader.num_frames
    if num_frames is not None and _decodes_at(path, num_frames - 1, native, layout):
        return Length(max(num_frames * sample_rate // native, 1), layout)
    return Length(sum(map(len, Blocks(path, sample_rate, layout=layout))), layout)


def _decodes_at(path: Path, frame: int, sample_rate: int, layout: Layout) -> bool:
    try:
        return len(read(path, max(frame, 0), 1, sample_rate, layout=layout)) == 1
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

"""Audio stores: segments read from memory, from files of 16-bit samples, or from the recordings.

A store addresses a recording by its number among the recordings that it was opened for. Unreadable
recordings are found before training starts, and are then removed from the tables with all their
rows.

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

from birdmix.audio.audio_file import AudioError
from birdmix.audio.containers.file_layout import FileLayout
from birdmix.audio.decode import DecodedBlocks
from birdmix.audio.segment_reader import read_segment
from birdmix.audio.stream_positions import PLAIN_LAYOUT
from birdmix.audio.stream_reader import StreamReader
from birdmix.loading.pcm_cache import (
    InMemoryPcm,
    PcmFile,
    decode_to_pcm,
    find_or_decode_pcm_file,
    read_pcm_file_segment,
)
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DataSettings
from birdmix.threads import OnItemDone, map_in_threads

Result = TypeVar("Result")


class AudioStore(ABC):
    """Audio samples of recordings at one sample rate.

    Args:
        paths: Paths of the F recordings, relative to one root.
        lengths: Their lengths in samples, at least 1 each, [F].
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]) -> None:
        # Arrow and numpy instead of Python objects: worker processes share them without copies.
        self.paths = pa.array(paths, pa.string())
        self.lengths = np.array(lengths, np.int64)

    def file_numbers_of_rows(self, recordings: Recordings) -> np.ndarray:
        """Return the file number of each row of a table, int64 [N]."""
        files = pd.Index(self.paths.to_pylist()).get_indexer(recordings.paths)
        assert (files >= 0).all(), "the store was not opened for these recordings"
        return files

    @abstractmethod
    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment; shorter than requested at the end of the recording.

        Args:
            file: Number of the recording, see ``file_numbers_of_rows``.
            start: First sample.
            num_samples: Length T.

        Returns:
            float32 [T].
        """


class MemoryStore(AudioStore):
    """Store of decoded recordings in memory, 16 bit; forked worker processes share the memory.

    Args:
        waveforms: Decoded recordings by path.
    """

    def __init__(self, waveforms: dict[str, InMemoryPcm]) -> None:
        super().__init__(list(waveforms), [len(pcm.samples) for pcm in waveforms.values()])
        self.waveforms = list(waveforms.values())

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]."""
        return self.waveforms[file].read(start, num_samples)


class PcmStore(AudioStore):
    """Store of files of 16-bit samples; all processes share the system's file cache.

    Args:
        files: Files of samples by path of the recording.
    """

    def __init__(self, files: dict[str, PcmFile]) -> None:
        super().__init__(list(files), [pcm.num_samples for pcm in files.values()])
        self.files = pa.array([str(pcm.file) for pcm in files.values()], pa.string())
        self.exponents = np.array([pcm.exponent for pcm in files.values()], np.int64)

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]."""
        pcm_file = self.files[file].as_py()
        return read_pcm_file_segment(pcm_file, int(self.exponents[file]), start, num_samples)


class MeasuredRecording(NamedTuple):
    """Length of a recording, and the layout of its file.

    Attributes:
        num_samples: Length in samples, at the sample rate of the store.
        layout: Layout of the file, for decoding.
    """

    num_samples: int
    layout: FileLayout


class FileStore(AudioStore):
    """Store that decodes each segment from its recording.

    Args:
        root: Folder that paths are relative to.
        sample_rate: Sample rate of the segments in Hz.
        recordings: Length and layout of each recording, by path.
    """

    def __init__(
        self, root: Path, sample_rate: int, recordings: dict[str, MeasuredRecording]
    ) -> None:
        super().__init__(list(recordings), [r.num_samples for r in recordings.values()])
        self.root = root
        self.sample_rate = sample_rate
        # Only layouts that the decoder needs are kept, which are few.
        layouts = enumerate(recording.layout for recording in recordings.values())
        self.layouts = {file: layout for file, layout in layouts if not layout.is_plain}

    def read(self, file: int, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T].

        Raises:
            AudioError: If nothing can be decoded there, although it could when the store was
                opened.
        """
        path = self.root / self.paths[file].as_py()
        layout = self.layouts.get(file, PLAIN_LAYOUT)
        piece = read_segment(path, start, num_samples, self.sample_rate, layout=layout)
        if not len(piece):
            raise AudioError(path, f"no samples decode after {start / self.sample_rate:g} s")
        return piece


def open_store(
    root: Path,
    paths: Iterable[str],
    settings: DataSettings,
    sample_rate: int,
    on_progress: OnItemDone | None = None,
) -> tuple[AudioStore, set[str]]:
    """Open recordings in the store of the settings, and find unreadable ones.

    Args:
        root: Folder that paths are relative to.
        paths: Recordings; repeated paths are opened once.
        settings: The settings cache, cache_dir, memory_gib and max_bad_fraction.
        sample_rate: Sample rate of the store in Hz.
        on_progress: Called as recordings are opened.

    Returns:
        The store, and the paths of unreadable recordings.

    Raises:
        ValueError: If more recordings than ``max_bad_fraction`` are unreadable; it lists them.
    """
    paths = list(dict.fromkeys(paths))
    if settings.cache == "pcm":
        folder = Path(settings.cache_dir)
        pcm, unreadable = _process_all(
            lambda path: find_or_decode_pcm_file(folder, root / path, sample_rate),
            paths,
            on_progress,
        )
        _report_unreadable(unreadable, len(paths), settings.max_bad_fraction)
        return PcmStore(pcm), set(unreadable)
    recordings, unreadable = _process_all(
        lambda path: _measure_recording(root / path, sample_rate), paths, on_progress
    )
    store: AudioStore = FileStore(root, sample_rate, recordings)
    num_samples = sum(recording.num_samples for recording in recordings.values())
    if settings.cache == "memory" and num_samples * 2 <= settings.memory_gib * 2**30:
        waveforms, undecodable = _process_all(
            lambda path: decode_to_pcm(root / path, sample_rate), recordings, on_progress
        )
        unreadable |= undecodable
        store = MemoryStore(waveforms)
    _report_unreadable(unreadable, len(paths), settings.max_bad_fraction)
    return store, set(unreadable)


def _measure_recording(path: Path, sample_rate: int) -> MeasuredRecording:
    """Return a recording's length: from its header if the last sample decodes, else by decoding."""
    with StreamReader(path) as reader:
        layout, native, num_frames = (
            reader.layout,
            reader.first_stream.samplerate,
            reader.num_frames,
        )
    if num_frames is not None and _decodes_at(path, num_frames - 1, native, layout):
        return MeasuredRecording(max(num_frames * sample_rate // native, 1), layout)
    num_samples = sum(map(len, DecodedBlocks(path, sample_rate, layout=layout)))
    return MeasuredRecording(num_samples, layout)


def _decodes_at(path: Path, frame: int, sample_rate: int, layout: FileLayout) -> bool:
    try:
        return len(read_segment(path, max(frame, 0), 1, sample_rate, layout=layout)) == 1
    except AudioError:
        return False


def _process_all(
    function: Callable[[str], Result], paths: Iterable[str], on_progress: OnItemDone | None
) -> tuple[dict[str, Result], dict[str, str]]:
    """Return the function's results by path, and error messages of unreadable recordings."""
    results: dict[str, Result] = {}
    unreadable: dict[str, str] = {}

    def process(path: str) -> Result | AudioError:
        try:
            return function(path)
        except AudioError as error:
            return error

    for path, result in map_in_threads(process, list(paths), on_progress):
        if isinstance(result, AudioError):
            unreadable[path] = str(result)
        else:
            results[path] = result
    return results, unreadable


def _report_unreadable(unreadable: dict[str, str], total: int, max_bad_fraction: float) -> None:
    """Warn of unreadable recordings, or raise an error if they are too many."""
    if not unreadable:
        return
    listed = "".join(f"\n  {message}" for message in unreadable.values())
    if len(unreadable) > max_bad_fraction * total:
        raise ValueError(
            f"data.max_bad_fraction={max_bad_fraction}: {len(unreadable)} of {total} recordings "
            f"are unreadable, which is more; fix or remove them, or raise the limit:{listed}"
        )
    message = f"{len(unreadable)} of {total} recordings are unreadable and left out:{listed}"
    warnings.warn(message, stacklevel=2)

"""Decode a whole recording to mono float32 at one sample rate, in blocks or as one array.

Shapes: T samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr

from birdmix.audio.audio_file import AudioError, channel_slice
from birdmix.audio.containers.file_layout import FileLayout
from birdmix.audio.signal_problems import AudioProblem, SignalStats
from birdmix.audio.stream_reader import StreamReader

# Largest number of values in a block: above 30 s of two channels at 384 kHz.
_MAX_VALUES = 1 << 25

#: Shortest recording in seconds: one sample at the lowest rate of models and of `birdmix doctor`.
MIN_SECONDS = 1 / 16_000


class DecodedBlocks:
    """Iterator over a recording of any length as mono float32 blocks, in bounded memory.

    Iterate once. After the iteration ``problems`` lists the problems of the recording, of the kinds
    that ``AudioProblem`` lists.

    Args:
        path: Recording.
        sample_rate: Hz of the blocks.
        block_seconds: Length of a block, in seconds.
        channel: Number of the channel, from 1; None for the mean of all.
        layout: Streams of the recording, if known.

    Attributes:
        problems: Problems found so far.

    Raises:
        AudioError: On iteration, if the recording has no samples, mostly invalid samples, or no
            such channel.
    """

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        block_seconds: float = 30.0,
        channel: int | None = None,
        layout: FileLayout | None = None,
    ) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self.block_seconds = block_seconds
        self.channel = channel
        self.layout = layout
        self.problems: list[AudioProblem] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        with StreamReader(self.path, self.layout) as reader:
            rate, num_samples = reader.first_stream.samplerate, 0
            for block in _resample(self._decode_native_blocks(reader), rate, self.sample_rate):
                num_samples += len(block)
                yield block
            if not num_samples:
                raise AudioError(self.path, f"shorter than a sample at {self.sample_rate} Hz")

    def _decode_native_blocks(self, reader: StreamReader) -> Iterator[np.ndarray]:
        """Yield mono blocks at the native rate, then add the problems to ``problems``."""
        stats, file = SignalStats(), reader.first_stream
        selected = channel_slice(self.path, file.channels, self.channel)
        for frames in self._group_reads(reader):
            yield stats.add_and_mix_to_mono(np.ascontiguousarray(frames[:, selected]))

        stop_reason, decoded = reader.stop_reason, stats.decoded
        if decoded < MIN_SECONDS * file.samplerate:
            number = f"only {decoded} samples at {file.samplerate} Hz" if decoded else "no samples"
            raise AudioError(
                self.path, f"holds {number}{f': {stop_reason}' if stop_reason else ''}"
            )
        if reason := stats.describe_if_mostly_invalid():
            raise AudioError(self.path, reason)
        if stop_reason:
            self.problems.append(AudioProblem("truncated", stop_reason))
        elif reader.num_frames is not None and reader.num_frames != decoded:
            detail = f"header states {reader.num_frames} samples, {decoded} decoded"
            self.problems.append(AudioProblem("header", detail))
        self.problems += [
            AudioProblem(*problem) for problem in (*reader.layout.problems, *reader.problems)
        ]
        self.problems += stats.find_problems(file)

    def _group_reads(self, reader: StreamReader) -> Iterator[np.ndarray]:
        """Join the short reads of a reader to blocks."""
        length = round(self.block_seconds * reader.first_stream.samplerate)
        length = min(length, _MAX_VALUES // reader.first_stream.channels)
        reads: list[np.ndarray] = []
        num_frames = 0
        for frames in reader.blocks():
            reads.append(frames)
            num_frames += len(frames)
            if num_frames + reader.frames_per_read > length:
                yield np.concatenate(reads)
                reads, num_frames = [], 0
        if reads:
            yield np.concatenate(reads)


class WaveformBlocks:
    """Iterator over a waveform in memory as float32 blocks at another sample rate.

    Args:
        waveform: Mono, float32 [T].
        rate: Its sample rate in Hz.
        sample_rate: Hz of the blocks.
        block_seconds: Length of a block, in seconds.
    """

    #: A waveform in memory has none of the problems of files.
    problems: Sequence[AudioProblem] = ()

    def __init__(
        self, waveform: np.ndarray, rate: int, sample_rate: int, block_seconds: float = 30.0
    ) -> None:
        self.waveform, self.rate, self.sample_rate = waveform, rate, sample_rate
        self.length = max(round(block_seconds * rate), 1)

    def __iter__(self) -> Iterator[np.ndarray]:
        starts = range(0, len(self.waveform), self.length)
        blocks = (self.waveform[at : at + self.length] for at in starts)
        return _resample(blocks, self.rate, self.sample_rate)


def _resample(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield blocks of one waveform at another sample rate."""
    if rate == sample_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def decode_recording(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a whole recording.

    Args:
        path: Recording.
        sample_rate: Hz of the result.

    Returns:
        Mono waveform, float32 [T].

    Raises:
        AudioError: If it has no samples.
    """
    return np.concatenate(list(DecodedBlocks(path, sample_rate)))

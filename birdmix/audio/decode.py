"""Decode a recording from end to end to mono float32 at one sample rate.

Shapes: T samples.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from birdmix.audio.containers.layout import Layout
from birdmix.audio.problems import Books, Problem
from birdmix.audio.reader import Reader
from birdmix.audio.sound_file import AudioError, channels_heard

# Values of a block at most: 30 s of two channels at 384 kHz are fewer.
_MOST_VALUES = 1 << 25

# Fewer seconds are no sound: a sample at the lowest rate that models work at, and doctor.
_LEAST_SECONDS = 1 / 16_000


class Blocks:
    """A recording of any length as mono float32 blocks at one sample rate, in bounded memory.

    Iterate once. After the iteration ``problems`` lists what was odd: silent, clipped, truncated,
    not finite, a header that differs from what is there, streams that follow each other, gaps,
    bytes that are not read, a mean far from zero, channels that cancel.

    Args:
        path: Recording.
        sample_rate: Hz of the blocks.
        block_seconds: How much is decoded at a time.
        channel: The one to hear, counted from 1; None is the mean of all.
        layout: The recording's structure, where that is known.

    Raises:
        AudioError: On iteration, if the recording yields no samples at all, or hardly any that are
            sound, or lacks the channel.
    """

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        block_seconds: float = 30.0,
        channel: int | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self.block_seconds = block_seconds
        self.channel = channel
        self.layout = layout
        self.problems: list[Problem] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        with Reader(self.path, self.layout) as reader:
            stream, rate = None, reader.first.samplerate
            if rate != self.sample_rate:
                stream = soxr.ResampleStream(rate, self.sample_rate, 1, dtype="float32")
            num_samples = 0
            for waveform in self._native(reader):
                block = stream.resample_chunk(waveform) if stream else waveform
                num_samples += len(block)
                yield block
            if stream:
                block = stream.resample_chunk(np.zeros(0, np.float32), last=True)
                num_samples += len(block)
                yield block
            if not num_samples:
                raise AudioError(self.path, f"holds less than a sample at {self.sample_rate} Hz")

    def _native(self, reader: Reader) -> Iterator[np.ndarray]:
        """Yield mono blocks at the file's own rate, and count what is odd about them."""
        books, file = Books(), reader.first
        heard = channels_heard(self.path, file.channels, self.channel)
        for frames in self._gathered(reader):
            yield books.enter(np.ascontiguousarray(frames[:, heard]))

        stopped, decoded = reader.stopped, books.decoded
        if decoded < _LEAST_SECONDS * file.samplerate:
            number = f"only {decoded} samples at {file.samplerate} Hz" if decoded else "no samples"
            raise AudioError(self.path, f"holds {number}{f': {stopped}' if stopped else ''}")
        if reason := books.no_sound():
            raise AudioError(self.path, reason)
        if stopped:
            self.problems.append(Problem("truncated", stopped))
        elif reader.num_frames is not None and reader.num_frames != decoded:
            says = f"header says {reader.num_frames} samples, {decoded} decoded"
            self.problems.append(Problem("header", says))
        self.problems += [
            Problem(*oddity) for oddity in (*reader.layout.oddities, *reader.oddities)
        ]
        self.problems += books.problems(file)

    def _gathered(self, reader: Reader) -> Iterator[np.ndarray]:
        """Gather the steps of a reader to blocks."""
        length = round(self.block_seconds * reader.first.samplerate)
        length = min(length, _MOST_VALUES // reader.first.channels)
        steps: list[np.ndarray] = []
        gathered = 0
        for frames in reader.steps():
            steps.append(frames)
            gathered += len(frames)
            if gathered + reader.step > length:
                yield np.concatenate(steps)
                steps, gathered = [], 0
        if steps:
            yield np.concatenate(steps)


def decode(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a whole recording to mono float32 [T].

    Raises:
        AudioError: If it yields no samples.
    """
    return np.concatenate(list(Blocks(path, sample_rate)))

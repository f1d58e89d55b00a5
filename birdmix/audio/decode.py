"""Decode a recording from end to end to mono float32 at one sample rate.

Shapes: T samples.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.problems import Books, Problem
from birdmix.audio.sound_file import (
    AudioError,
    Stream,
    channels_heard,
    num_frames_of,
    open_sound,
    reason_of,
)

# A decoder's error costs at most what one such read would have given.
_STEP_SECONDS = 0.5


class Blocks:
    """A recording of any length as mono float32 blocks at one sample rate, in bounded memory.

    Iterate once. After the iteration ``problems`` lists what was odd: silent, clipped, truncated,
    not finite, a header whose count differs from what was decoded, a mean far from zero, channels
    that cancel.

    Args:
        path: Recording.
        sample_rate: Hz of the blocks.
        block_seconds: How much is decoded at a time.
        channel: The one to hear, counted from 1; None is the mean of all.

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
    ) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self.block_seconds = block_seconds
        self.channel = channel
        self.problems: list[Problem] = []
        self._stopped = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        with open_sound(self.path, Stream) as file:
            stream = None
            if file.samplerate != self.sample_rate:
                stream = soxr.ResampleStream(file.samplerate, self.sample_rate, 1, dtype="float32")
            for waveform in self._native(file):
                yield stream.resample_chunk(waveform) if stream else waveform
            if stream:
                yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

    def _frames(self, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        """Yield blocks of frames, up to a decoder's error, which is kept in ``_stopped``.

        A read that fails gives nothing of what it has decoded, so each is a short one.
        """
        step = max(int(_STEP_SECONDS * file.samplerate), 1)
        steps_per_block = max(round(self.block_seconds / _STEP_SECONDS), 1)
        ended = False
        while not ended:
            steps: list[np.ndarray] = []
            try:
                while len(steps) < steps_per_block and not ended:
                    steps.append(file.read(step, dtype="float32", always_2d=True))
                    ended = len(steps[-1]) == 0
            except Exception as error:
                self._stopped, ended = reason_of(error), True
            if steps:
                yield np.concatenate(steps)

    def _native(self, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        """Yield mono blocks at the file's own rate, and keep the books."""
        books = Books()
        heard = channels_heard(self.path, file.channels, self.channel)
        for frames in self._frames(file):
            if len(frames):
                yield books.enter(np.ascontiguousarray(frames[:, heard]))

        stopped, decoded = self._stopped, books.decoded
        if not decoded:
            raise AudioError(self.path, f"holds no samples{f': {stopped}' if stopped else ''}")
        if reason := books.no_sound():
            raise AudioError(self.path, reason)
        if stopped:
            when = f"decoding stopped after {decoded / file.samplerate:.2f} s: {stopped}"
            self.problems.append(Problem("truncated", when))
        elif (promised := num_frames_of(file)) is not None and promised != decoded:
            says = f"header says {promised} samples, {decoded} decoded"
            self.problems.append(Problem("header", says))
        self.problems += books.problems(file)


def decode(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a whole recording to mono float32 [T].

    Raises:
        AudioError: If it yields no samples.
    """
    return np.concatenate(list(Blocks(path, sample_rate)))

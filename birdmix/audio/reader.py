"""Read a recording from end to end: all its streams, and all that decodes of a damaged one.

Shapes: T frames.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.containers.layout import Layout, Part
from birdmix.audio.sound_file import AudioInfo, open_sound, reason_of
from birdmix.audio.structure import frames_of, structure_of

# Seconds of a read. One that fails gives nothing of what it has decoded ...
_STEP_SECONDS = 0.5

# ... which is read again, so many frames at a time.
_SMALL_STEP = 64


class Reader:
    """A recording, opened. Its streams come one after the other, with silence in gaps.

    Args:
        path: Recording.
        layout: Its structure, where that is known.

    Attributes:
        path: The recording.
        layout: Its structure.
        first: The first stream: rate, channels and codec are those of the recording.
        num_frames: What its headers promise, None where they do not know.
        step: Frames of a read.
        stopped: Why decoding ended before the end, and where; empty if it did not.

    Raises:
        AudioError: If it cannot be opened.
    """

    def __init__(self, path: Path, layout: Layout | None = None) -> None:
        self.path = path
        self.layout = structure_of(path) if layout is None else layout
        self.first = open_sound(path, self.layout.parts[0])
        self.step = max(int(_STEP_SECONDS * self.first.samplerate), 1)
        self.num_frames = self.layout.num_frames
        if self.layout.plain and self.num_frames is None:
            self.num_frames = frames_of(path, self.layout.parts[0], self.first)
        self.stopped = ""

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.first.close()

    def steps(self) -> Iterator[np.ndarray]:
        """Yield short blocks of frames, float32 [T, channels], T > 0. Iterate once.

        A part that ends too early is followed by silence if another part comes.
        """
        place = 0
        for number, part in enumerate(self.layout.parts):
            if part.first_frame > place:
                yield from self._silence(part.first_frame - place)
                place = part.first_frame
            for frames in self._alike(part) if number else self._decoded(part, self.first):
                place += len(frames)
                yield frames

    def _silence(self, num_frames: int) -> Iterator[np.ndarray]:
        for start in range(0, num_frames, self.step):
            size = min(self.step, num_frames - start)
            yield np.zeros((size, self.first.channels), np.float32)

    def _alike(self, part: Part) -> Iterator[np.ndarray]:
        """Decode a further part, at the rate and with as many channels as the first one."""
        rate, channels = self.first.samplerate, self.first.channels
        with open_sound(self.path, part) as stream:
            resample = None
            if stream.samplerate != rate:
                resample = soxr.ResampleStream(stream.samplerate, rate, channels, dtype="float32")
            for frames in self._decoded(part, stream):
                frames = with_channels(frames, channels)
                frames = resample.resample_chunk(frames) if resample else frames
                if len(frames):
                    yield frames
            if resample:
                nothing = np.zeros((0, channels), np.float32)
                if len(frames := resample.resample_chunk(nothing, last=True)):
                    yield frames

    def _decoded(self, part: Part, stream: soundfile.SoundFile) -> Iterator[np.ndarray]:
        """Decode a part up to its end, or up to the decoder's error."""
        num_steps = 0
        while True:
            try:
                frames = stream.read(self.step, dtype="float32", always_2d=True)
            except Exception as error:
                rest = list(self._reread(part, num_steps))
                yield from rest
                seconds = num_steps * self.step + sum(map(len, rest))
                self._stop(part, stream, seconds, reason_of(error))
                return
            if not len(frames):
                return
            num_steps += 1
            yield frames

    def _reread(self, part: Part, num_steps: int) -> Iterator[np.ndarray]:
        """Decode a part again, and yield what follows so many steps, in small ones."""
        try:
            with open_sound(self.path, part) as stream:
                for _ in range(num_steps):
                    stream.read(self.step, dtype="float32", always_2d=True)
                while len(frames := stream.read(_SMALL_STEP, dtype="float32", always_2d=True)):
                    yield frames
        except Exception:  # the error of before
            return

    def _stop(self, part: Part, stream: soundfile.SoundFile, num_frames: int, reason: str) -> None:
        at = part.first_frame / self.first.samplerate + num_frames / stream.samplerate
        self.stopped = self.stopped or f"decoding stopped after {at:.2f} s: {reason}"


def with_channels(frames: np.ndarray, channels: int) -> np.ndarray:
    """Return frames [T, any] with another number of channels: each is the mean of those."""
    if frames.shape[1] == channels:
        return frames
    return np.repeat(frames.mean(axis=1, keepdims=True, dtype=np.float32), channels, axis=1)


def probe(path: Path) -> AudioInfo:
    """Read what a recording is from its headers and structure.

    Raises:
        AudioError: If it cannot be opened.
    """
    with Reader(path) as reader:
        first = reader.first
        return AudioInfo(
            sample_rate=first.samplerate,
            channels=first.channels,
            num_frames=reader.num_frames,
            encoding=f"{first.format}/{first.subtype}",
        )

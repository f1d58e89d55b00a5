"""Read a recording from end to end: all its streams, and all that decodes of a damaged one.

Shapes: T frames.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.containers.flac import resumed
from birdmix.audio.containers.layout import Layout, Oddity, Part, Source, in_seconds
from birdmix.audio.sound_file import AudioError, AudioInfo, open_sound, reason_of
from birdmix.audio.structure import frames_of, structure_of

# Seconds of a read. One that fails gives nothing of what it has decoded, which is read again frame
# by frame.
_STEP_SECONDS = 0.5

# Damaged places of a recording behind which decoding goes on.
_MOST_GAPS = 100

# Frames behind a damaged one that may be damaged too.
_TRIES = 5


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
        oddities: What was found while decoding.

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
        self.oddities: list[Oddity] = []

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

    def _decoded(
        self, part: Part, stream: soundfile.SoundFile, offset: int = 0
    ) -> Iterator[np.ndarray]:
        """Decode a part up to its end, or up to the decoder's error and what is behind that.

        Args:
            part: The part.
            stream: The part, opened.
            offset: Frames of the same stream before the part.
        """
        num_steps = 0
        while True:
            try:
                frames = stream.read(self.step, dtype="float32", always_2d=True)
            except Exception as error:
                done = offset + num_steps * self.step
                rest = list(self._reread(part, num_steps))
                if rest:
                    yield np.concatenate(rest)
                    done += len(rest)
                yield from self._behind_damage(part, stream, done, reason_of(error))
                return
            if not len(frames):
                return
            num_steps += 1
            yield frames

    def _behind_damage(
        self, part: Part, stream: soundfile.SoundFile, done: int, reason: str
    ) -> Iterator[np.ndarray]:
        """Go on behind what cannot be decoded, with silence in its place, or say that it ends."""
        seconds = part.first_frame / self.first.samplerate + done / stream.samplerate
        try:
            behind, begin = self._part_behind(part, stream, done)
            rest = open_sound(self.path, behind)
        except (AudioError, OSError, LookupError):
            self.stopped = self.stopped or f"decoding stopped after {seconds:.2f} s: {reason}"
            return
        lost = in_seconds(begin - done, stream.samplerate)
        said = f"{lost} at {seconds:.2f} s cannot be decoded, silence stands there: {reason}"
        self.oddities.append(("gap", said))
        with rest:
            for start in range(done, begin, self.step):
                size = min(self.step, begin - start)
                yield np.zeros((size, stream.channels), np.float32)
            yield from self._decoded(replace(behind, first_frame=part.first_frame), rest, begin)

    def _part_behind(self, part: Part, stream: soundfile.SoundFile, done: int) -> tuple[Part, int]:
        """Return what follows damage, and its first frame.

        Raises:
            LookupError: If nothing that decodes is found.
            AudioError, OSError: If the recording is gone.
        """
        if stream.format != "FLAC" or len(self.oddities) >= _MOST_GAPS:
            raise LookupError
        with Source(self.path) as source:
            for _ in range(_TRIES):
                found = resumed(source, part, done)
                if found is None:
                    break
                with open_sound(self.path, found[0]) as behind, suppress(Exception):
                    if len(behind.read(1)):
                        return found
                done = found[1]
        raise LookupError

    def _reread(self, part: Part, num_steps: int) -> Iterator[np.ndarray]:
        """Decode a part again, and yield the frames that follow so many steps."""
        try:
            with open_sound(self.path, part) as stream:
                for _ in range(num_steps):
                    stream.read(self.step, dtype="float32", always_2d=True)
                while len(frame := stream.read(1, dtype="float32", always_2d=True)):
                    yield frame
        except Exception:  # the error of before
            return


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

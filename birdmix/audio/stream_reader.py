"""Read all streams of a recording at the native rate, skipping damaged places.

Shapes: T frames.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.audio_file import AudioError, AudioInfo, decoder_error_text, open_audio
from birdmix.audio.containers.file_layout import (
    ByteReader,
    FileLayout,
    ProblemTuple,
    StreamPart,
    format_frames_as_seconds,
)
from birdmix.audio.containers.flac import find_part_after_damage
from birdmix.audio.stream_positions import find_layout_with_positions, stated_num_frames_of_part

# Length of a read in seconds. A read that fails returns nothing, so its frames are read again one
# by one.
_READ_SECONDS = 0.5

# Number of damaged places of a recording after which decoding is resumed.
_MAX_GAPS = 100

# Number of codec frames after a damaged place at which decoding is tried.
_MAX_ATTEMPTS = 5


class StreamReader:
    """An opened recording, whose streams are read one after the other, with silence in gaps.

    Args:
        path: Recording.
        layout: Streams of the recording, if known.

    Attributes:
        path: The recording.
        layout: Its streams.
        first_stream: First stream, opened; its rate, channels and codec are those of the recording.
        num_frames: Number of frames that the headers state, None if unknown.
        frames_per_read: Number of frames per read.
        stop_reason: Why and where decoding stopped before the end; empty if it did not.
        problems: Problems found while decoding.

    Raises:
        AudioError: If it cannot be opened.
    """

    def __init__(self, path: Path, layout: FileLayout | None = None) -> None:
        self.path = path
        self.layout = find_layout_with_positions(path) if layout is None else layout
        self.first_stream = open_audio(path, self.layout.parts[0])
        self.frames_per_read = max(int(_READ_SECONDS * self.first_stream.samplerate), 1)
        self.num_frames = self.layout.num_frames
        if self.layout.is_plain and self.num_frames is None:
            self.num_frames = stated_num_frames_of_part(
                path, self.layout.parts[0], self.first_stream
            )
        self.stop_reason = ""
        self.problems: list[ProblemTuple] = []

    def __enter__(self) -> "StreamReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.first_stream.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield short blocks of frames, float32 [T, channels], T > 0. Iterate once.

        A part that ends too early is padded with silence if another part follows.
        """
        position = 0
        for number, part in enumerate(self.layout.parts):
            if part.first_frame > position:
                yield from self._yield_silence(part.first_frame - position)
                position = part.first_frame
            for frames in (
                self._decode_converted(part)
                if number
                else self._decode_part(part, self.first_stream)
            ):
                position += len(frames)
                yield frames

    def _yield_silence(self, num_frames: int) -> Iterator[np.ndarray]:
        for start in range(0, num_frames, self.frames_per_read):
            size = min(self.frames_per_read, num_frames - start)
            yield np.zeros((size, self.first_stream.channels), np.float32)

    def _decode_converted(self, part: StreamPart) -> Iterator[np.ndarray]:
        """Decode a part and convert it to the rate and number of channels of the first one."""
        rate, channels = self.first_stream.samplerate, self.first_stream.channels
        with open_audio(self.path, part) as stream:
            resample = None
            if stream.samplerate != rate:
                resample = soxr.ResampleStream(stream.samplerate, rate, channels, dtype="float32")
            for frames in self._decode_part(part, stream):
                frames = convert_channels(frames, channels)
                frames = resample.resample_chunk(frames) if resample else frames
                if len(frames):
                    yield frames
            if resample:
                no_frames = np.zeros((0, channels), np.float32)
                if len(frames := resample.resample_chunk(no_frames, last=True)):
                    yield frames

    def _decode_part(
        self, part: StreamPart, stream: soundfile.SoundFile, offset: int = 0
    ) -> Iterator[np.ndarray]:
        """Decode a part; after a decoder's error, resume after the damaged place if possible.

        Args:
            part: The part.
            stream: The opened part.
            offset: Number of frames of the same stream before the part.
        """
        num_reads = 0
        while True:
            try:
                frames = stream.read(self.frames_per_read, dtype="float32", always_2d=True)
            except Exception as error:
                num_decoded = offset + num_reads * self.frames_per_read
                rest = list(self._decode_again(part, num_reads))
                if rest:
                    yield np.concatenate(rest)
                    num_decoded += len(rest)
                yield from self._resume_after_damage(
                    part, stream, num_decoded, decoder_error_text(error)
                )
                return
            if not len(frames):
                return
            num_reads += 1
            yield frames

    def _resume_after_damage(
        self, part: StreamPart, stream: soundfile.SoundFile, num_decoded: int, reason: str
    ) -> Iterator[np.ndarray]:
        """Replace a damaged place by silence and resume after it, or set ``stop_reason``."""
        seconds = part.first_frame / self.first_stream.samplerate + num_decoded / stream.samplerate
        try:
            rest_part, begin = self._find_decodable_part(part, stream, num_decoded)
            rest = open_audio(self.path, rest_part)
        except (AudioError, OSError, LookupError):
            self.stop_reason = (
                self.stop_reason or f"decoding stopped after {seconds:.2f} s: {reason}"
            )
            return
        lost = format_frames_as_seconds(begin - num_decoded, stream.samplerate)
        detail = f"{lost} at {seconds:.2f} s cannot be decoded, replaced by silence: {reason}"
        self.problems.append(("gap", detail))
        with rest:
            for start in range(num_decoded, begin, self.frames_per_read):
                size = min(self.frames_per_read, begin - start)
                yield np.zeros((size, stream.channels), np.float32)
            yield from self._decode_part(
                replace(rest_part, first_frame=part.first_frame), rest, begin
            )

    def _find_decodable_part(
        self, part: StreamPart, stream: soundfile.SoundFile, num_decoded: int
    ) -> tuple[StreamPart, int]:
        """Find the decodable rest of a part after a damaged place, and its first frame.

        Raises:
            LookupError: If there is none.
            AudioError, OSError: If the recording was removed.
        """
        if stream.format != "FLAC" or len(self.problems) >= _MAX_GAPS:
            raise LookupError
        with ByteReader(self.path) as source:
            for _ in range(_MAX_ATTEMPTS):
                found = find_part_after_damage(source, part, num_decoded)
                if found is None:
                    break
                with open_audio(self.path, found[0]) as stream_rest, suppress(Exception):
                    if len(stream_rest.read(1)):
                        return found
                num_decoded = found[1]
        raise LookupError

    def _decode_again(self, part: StreamPart, num_reads: int) -> Iterator[np.ndarray]:
        """Decode a part again, and yield the single frames that follow ``num_reads`` reads."""
        try:
            with open_audio(self.path, part) as stream:
                for _ in range(num_reads):
                    stream.read(self.frames_per_read, dtype="float32", always_2d=True)
                while len(frame := stream.read(1, dtype="float32", always_2d=True)):
                    yield frame
        except Exception:  # the same error again
            return


def convert_channels(frames: np.ndarray, channels: int) -> np.ndarray:
    """Change the number of channels: each new channel is the mean of all.

    Args:
        frames: float32 [T, any number of channels].
        channels: New number of channels.

    Returns:
        float32 [T, channels]; the same array if the number is equal.
    """
    if frames.shape[1] == channels:
        return frames
    return np.repeat(frames.mean(axis=1, keepdims=True, dtype=np.float32), channels, axis=1)


def read_audio_info(path: Path) -> AudioInfo:
    """Read sample rate, channels, length and encoding from the headers of a recording.

    Args:
        path: Recording.

    Raises:
        AudioError: If it cannot be opened.
    """
    with StreamReader(path) as reader:
        stream = reader.first_stream
        return AudioInfo(
            sample_rate=stream.samplerate,
            channels=stream.channels,
            num_frames=reader.num_frames,
            encoding=f"{stream.format}/{stream.subtype}",
        )

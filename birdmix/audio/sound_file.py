"""Sound files: opening them, what their headers say.

Headers are not trusted, and no type of exception is assumed: decoders raise what they like.

Shapes: T frames.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.listing import not_decoded

#: What decodes and resamples: another version may give other samples.
DECODER = f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"


class AudioError(ValueError):
    """A recording yields no samples.

    Attributes:
        reason: Why; the message has the path in front of it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """What a header says. Headers lie: only decoding tells.

    Attributes:
        sample_rate: Hz.
        channels: Number of channels.
        num_frames: Samples per channel, or None where the header does not know.
        encoding: Container and codec, ``OGG/VORBIS`` say.
    """

    sample_rate: int
    channels: int
    num_frames: int | None
    encoding: str

    @property
    def is_lossy(self) -> bool:
        """Whether the codec leaves out what it takes for inaudible."""
        return any(codec in self.encoding for codec in ("MPEG", "VORBIS", "OPUS"))


class Stream(soundfile.SoundFile):
    """A file in which nothing seeks but who is asked to.

    soundfile seeks after each read of a seekable file: that costs time, and fails in a FLAC of
    unknown length.
    """

    def seekable(self) -> bool:
        """Say no, so that soundfile does not."""
        return False


def open_sound(
    path: Path, kind: type[soundfile.SoundFile] = soundfile.SoundFile
) -> soundfile.SoundFile:
    """Open a sound file.

    Raises:
        AudioError: If it cannot be opened as one.
    """
    try:
        # Of names that are no UTF-8 soundfile takes the bytes alone.
        return kind(os.fsencode(path) if os.name == "posix" else path)
    except Exception as error:
        if not Path(path).is_file():
            raise AudioError(path, "no such file") from None
        if Path(path).stat().st_size == 0:
            raise AudioError(path, "the file is empty (0 bytes)") from None
        reason = not_decoded(path) or f"cannot be opened as sound: {reason_of(error)}"
        raise AudioError(path, reason) from error


def reason_of(error: Exception) -> str:
    """Return what a decoder says about its failure."""
    return str(getattr(error, "error_string", error)).strip(" .") or type(error).__name__


def num_frames_of(file: soundfile.SoundFile) -> int | None:
    """Return the frames that a header promises, None where it does not know."""
    return file.frames if 0 <= file.frames < 2**48 else None


def channels_heard(path: Path, channels: int, channel: int | None) -> slice:
    """Return which of a recording's channels to hear: one, counted from 1, or all for None.

    Raises:
        AudioError: If the recording lacks that one.
    """
    if channel is None:
        return slice(None)
    if not 1 <= channel <= channels:
        raise AudioError(path, f"has no channel {channel}, only {channels}")
    return slice(channel - 1, channel)


def mono(frames: np.ndarray) -> np.ndarray:
    """Return the mean of all channels, float32 [T], of frames [T, channels]."""
    channels = frames.shape[1]
    if channels == 1:
        return frames[:, 0]
    # Column by column: a mean over so short an axis takes forty times as long.
    waveform = frames[:, 0] + frames[:, 1]
    for channel in range(2, channels):
        waveform += frames[:, channel]
    waveform /= np.float32(channels)
    return waveform


def probe(path: Path) -> AudioInfo:
    """Read a recording's header.

    Raises:
        AudioError: If it cannot be opened.
    """
    with open_sound(path) as file:
        return AudioInfo(
            sample_rate=file.samplerate,
            channels=file.channels,
            num_frames=num_frames_of(file),
            encoding=f"{file.format}/{file.subtype}",
        )

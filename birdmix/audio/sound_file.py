"""Sound files: opening them or parts of them, what their headers say.

Headers are not trusted, and no type of exception is assumed: decoders raise what they like.

Shapes: T frames.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.containers.layout import Part, Region
from birdmix.audio.listing import not_decoded

#: What decodes and resamples: another version may give other samples. The last number is that of
#: the reading of containers: it rises where other bytes of a file are read.
DECODER = f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}, containers 1"

#: Hz. No microphone has less or more, and to resample from there may take all memory or for ever.
LEAST_RATE, MOST_RATE = 1000, 1_000_000

#: Larger arrays of microphones are not known; what is read of a file at a time grows with them.
MOST_CHANNELS = 64

# A file as it is.
WHOLE = Part()

# FLAC holds 65,535 equal samples in some 14 bytes; no other codec holds more.
_MOST_FRAMES_PER_BYTE = 1 << 13


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
    """A stream of samples, in which nothing seeks but who is asked to.

    soundfile seeks after each read of a seekable file: that costs time, and fails in a FLAC of
    unknown length.

    Args:
        file: Path, or file object, which is closed with the stream.
    """

    def __init__(self, file: str | bytes | Path | Region) -> None:
        self._region = file if isinstance(file, Region) else None
        super().__init__(file)

    def seekable(self) -> bool:
        """Say no, so that soundfile does not."""
        return False

    def close(self) -> None:
        """Close the stream and its file."""
        super().close()
        if self._region is not None:
            self._region.close()


def open_sound(path: Path, part: Part = WHOLE) -> Stream:
    """Open a sound file, or a part of it.

    Raises:
        AudioError: If it cannot be opened as one, or its header says what no recording is.
    """
    try:
        if part.pieces:
            stream = Stream(Region(path, part.pieces))
        else:
            # Of names that are no UTF-8 soundfile takes the bytes alone.
            stream = Stream(os.fsencode(path) if os.name == "posix" else path)
    except Exception as error:
        if not Path(path).is_file():
            raise AudioError(path, "no such file") from None
        if Path(path).stat().st_size == 0:
            raise AudioError(path, "the file is empty (0 bytes)") from None
        reason = not_decoded(path) or f"cannot be opened as sound: {reason_of(error)}"
        raise AudioError(path, reason) from error
    said = _impossible(stream)
    if said:
        stream.close()
        raise AudioError(path, said)
    return stream


def _impossible(file: soundfile.SoundFile) -> str:
    """Say what in a header cannot be; nothing is allocated before this is known."""
    if not LEAST_RATE <= file.samplerate <= MOST_RATE:
        return (
            f"the header says {file.samplerate} Hz, recordings have {LEAST_RATE} to {MOST_RATE} Hz"
        )
    if file.channels > MOST_CHANNELS:
        return f"the header says {file.channels} channels, at most {MOST_CHANNELS} are read"
    return ""


def reason_of(error: Exception) -> str:
    """Return what a decoder says about its failure."""
    return str(getattr(error, "error_string", error)).strip(" .") or type(error).__name__


def num_frames_of(file: soundfile.SoundFile, num_bytes: int) -> int | None:
    """Return the frames that a header promises, None where it does not know.

    Args:
        file: An opened file.
        num_bytes: Its size. A header that promises more than any codec holds in as many bytes does
            not know.
    """
    return file.frames if 0 <= file.frames <= num_bytes * _MOST_FRAMES_PER_BYTE else None


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

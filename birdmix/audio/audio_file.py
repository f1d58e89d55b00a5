"""Open audio files with libsndfile, check their headers, and mix channels to mono.

Headers are not trusted, and decoders may raise any type of exception.

Shapes: T frames.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.containers.file_layout import SplicedFile, StreamPart
from birdmix.audio.find_recordings import unsupported_format_reason

#: Versions of decoder and resampler: another version may give other samples. The last number is
#: that of ``birdmix.audio.containers``: it rises when other bytes of a file are read.
DECODER_VERSION = (
    f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}, containers 1"
)

#: Lowest and highest sample rate in Hz. Others are corrupt, and resampling them could take all
#: memory or never end.
MIN_RATE, MAX_RATE = 1000, 1_000_000

#: Highest number of channels. More are corrupt; the memory per read grows with the number.
MAX_CHANNELS = 64

# The whole file, unchanged.
WHOLE_FILE = StreamPart()

# FLAC stores 65,535 equal samples in some 14 bytes; no other codec stores more per byte.
_MAX_FRAMES_PER_BYTE = 1 << 13


class AudioError(ValueError):
    """A recording that cannot be decoded, or has no samples.

    Attributes:
        reason: Why; the message has the path in front of it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """Contents of a header. A header may be wrong: only decoding is certain.

    Attributes:
        sample_rate: Hz.
        channels: Number of channels.
        num_frames: Samples per channel, or None if the header does not state it.
        encoding: Container and codec, for example ``OGG/VORBIS``.
    """

    sample_rate: int
    channels: int
    num_frames: int | None
    encoding: str

    @property
    def is_lossy(self) -> bool:
        """Whether the codec is lossy."""
        return any(codec in self.encoding for codec in ("MPEG", "VORBIS", "OPUS"))


class StreamingSoundFile(soundfile.SoundFile):
    """A ``soundfile.SoundFile`` that seeks on request only.

    soundfile seeks after each read of a seekable file, which costs time and fails in a FLAC file
    of unknown length.

    Args:
        file: Path, or file object, which is closed with the stream.
    """

    def __init__(self, file: str | bytes | Path | SplicedFile) -> None:
        self._spliced_file = file if isinstance(file, SplicedFile) else None
        super().__init__(file)

    def seekable(self) -> bool:
        """Return False, so that soundfile does not seek after reads."""
        return False

    def close(self) -> None:
        """Close the stream and its file."""
        super().close()
        if self._spliced_file is not None:
            self._spliced_file.close()


def open_audio(path: Path, part: StreamPart = WHOLE_FILE) -> StreamingSoundFile:
    """Open an audio file, or a part of it.

    Args:
        path: Recording.
        part: One stream of it, or all of it.

    Raises:
        AudioError: If it cannot be opened as audio, or its header is invalid.
    """
    try:
        if part.pieces:
            stream = StreamingSoundFile(SplicedFile(path, part.pieces))
        else:
            # soundfile accepts names that are not UTF-8 as bytes only.
            stream = StreamingSoundFile(os.fsencode(path) if os.name == "posix" else path)
    except Exception as error:
        if not Path(path).is_file():
            raise AudioError(path, "no such file") from None
        if Path(path).stat().st_size == 0:
            raise AudioError(path, "the file is empty (0 bytes)") from None
        reason = (
            unsupported_format_reason(path)
            or f"cannot be opened as audio: {decoder_error_text(error)}"
        )
        raise AudioError(path, reason) from error
    problem = _invalid_header(stream)
    if problem:
        stream.close()
        raise AudioError(path, problem)
    return stream


def _invalid_header(file: soundfile.SoundFile) -> str:
    """Return what is invalid in a header, else an empty text; call it before allocating memory."""
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        return f"the header states {file.samplerate} Hz, not within {MIN_RATE} to {MAX_RATE} Hz"
    if file.channels > MAX_CHANNELS:
        return f"the header states {file.channels} channels, at most {MAX_CHANNELS} are supported"
    return ""


def decoder_error_text(error: Exception) -> str:
    """Return the text of a decoder's error."""
    return str(getattr(error, "error_string", error)).strip(" .") or type(error).__name__


def stated_num_frames(file: soundfile.SoundFile, num_bytes: int) -> int | None:
    """Return the number of frames that a header states, None if it is unknown or impossible.

    Args:
        file: An opened file.
        num_bytes: Its size. More frames than any codec stores in as many bytes are impossible.
    """
    return file.frames if 0 <= file.frames <= num_bytes * _MAX_FRAMES_PER_BYTE else None


def channel_slice(path: Path, channels: int, channel: int | None) -> slice:
    """Return the slice of the selected channels.

    Args:
        path: Recording, for the error.
        channels: Number of its channels.
        channel: Number of the channel, from 1; None for all.

    Raises:
        AudioError: If the recording has no such channel.
    """
    if channel is None:
        return slice(None)
    if not 1 <= channel <= channels:
        raise AudioError(path, f"has no channel {channel}, only {channels}")
    return slice(channel - 1, channel)


def mix_to_mono(frames: np.ndarray) -> np.ndarray:
    """Return the mean of all channels.

    Args:
        frames: float32 [T, channels].

    Returns:
        float32 [T].
    """
    channels = frames.shape[1]
    if channels == 1:
        return frames[:, 0]
    # Column by column: numpy's mean over such a short axis takes forty times as long.
    waveform = frames[:, 0] + frames[:, 1]
    for channel in range(2, channels):
        waveform += frames[:, channel]
    waveform /= np.float32(channels)
    return waveform

"""Examine an audio file: decode it once, and list its problems.

A file without samples has one problem, ``unreadable`` or ``empty``, since its header cannot be
trusted. Other files have the problems of ``birdmix.audio.decode.DecodedBlocks``, which predictions
report too, and those found here: ``extension``, ``rate``, ``channels``, ``clock``.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.audio.audio_file import AudioError, AudioInfo
from birdmix.audio.decode import DecodedBlocks
from birdmix.audio.duplicates import FINGERPRINT_RATE, AudioSignature, SignatureBuilder
from birdmix.audio.signal_problems import AudioProblem
from birdmix.audio.start_time import read_start_time
from birdmix.audio.stream_reader import read_audio_info

#: Lowest sample rate in Hz: a lower one cannot represent 8 kHz, and with it the highest songs
#: (goldcrest, waxwing).
MIN_RATE = 16_000

#: Highest sample rate in Hz: above, at least half of the spectrum is ultrasound (a bat recorder or
#: a corrupt header). Bird sounds are below 20 kHz.
MAX_RATE = 96_000

#: Highest number of channels: more are a microphone array, or several sites in one file.
MAX_CHANNELS = 2

_WAV, _AIFF = ("WAV/", "WAVEX/", "RF64/"), ("AIFF/",)

#: Encodings of each file suffix, as prefixes of ``AudioInfo.encoding``. WAV and OGG hold any codec.
ENCODINGS = {
    **dict.fromkeys((".wav", ".wave", ".bwf", ".rf64"), _WAV),
    ".flac": ("FLAC/",),
    ".mp3": ("MP3/",),
    ".mp2": ("MP3/",),
    ".ogg": ("OGG/",),
    ".oga": ("OGG/",),
    ".opus": ("OGG/OPUS",),
    ".aiff": _AIFF,
    ".aif": _AIFF,
    ".aifc": _AIFF,
    ".w64": ("W64/",),
    ".caf": ("CAF/",),
    ".au": ("AU/",),
    ".snd": ("AU/",),
    ".voc": ("VOC/",),
    ".sph": ("NIST/",),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Examination(AudioSignature):
    """Result of the examination of one audio file.

    Attributes:
        info: Contents of the header; None if it cannot be read.
        problems: Problems found; empty if there are none.
    """

    info: AudioInfo | None
    problems: tuple[AudioProblem, ...]


def examine_audio_file(path: Path) -> Examination:
    """Decode a whole file in bounded memory, and list its problems.

    Args:
        path: File; its errors are returned as problems, not raised.
    """
    path = Path(path)
    info, builder = None, SignatureBuilder()
    try:
        info = read_audio_info(path)
        blocks = DecodedBlocks(path, FINGERPRINT_RATE)
        with np.errstate(over="ignore", invalid="ignore"):  # reported as a problem
            for waveform in blocks:
                builder.add(waveform)
        problems = (*blocks.problems, *_header_problems(path, info))
        if clock_problem := read_start_time(path).problem:
            problems += (AudioProblem("clock", clock_problem),)
    except (AudioError, OSError) as error:
        problems = (_unreadable_problem(path, info, error),)
    return Examination(**vars(builder.signature()), info=info, problems=problems)


def _unreadable_problem(
    path: Path, info: AudioInfo | None, error: AudioError | OSError
) -> AudioProblem:
    """Return the problem of a file without samples."""
    if info is not None and info.num_frames == 0:
        return AudioProblem("empty", "the header states 0 samples")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return AudioProblem("empty", "0 bytes")
    return AudioProblem("unreadable", error.reason if isinstance(error, AudioError) else str(error))


def _header_problems(path: Path, info: AudioInfo) -> Iterator[AudioProblem]:
    """Yield what is unusual in a valid header."""
    if not info.encoding.startswith(ENCODINGS.get(path.suffix.lower(), ())):
        suffix = path.suffix or path.name
        yield AudioProblem("extension", f"{info.encoding} in a file named {suffix}; rename it")
    if info.sample_rate < MIN_RATE:
        nyquist = f"{info.sample_rate / 2000:g} kHz"
        yield AudioProblem("rate", f"{info.sample_rate} Hz: no frequencies above {nyquist}")
    if info.sample_rate > MAX_RATE:
        yield AudioProblem("rate", f"{info.sample_rate} Hz: most of the spectrum is ultrasound")
    if info.channels > MAX_CHANNELS:
        yield AudioProblem("channels", f"{info.channels} channels; their mean is used")

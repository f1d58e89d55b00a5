"""Examine a sound file: decode it once, and tell all that is odd about it.

A recording that yields no samples has one problem, ``unreadable`` or ``empty``: what its header
says about rate and channels has nothing to stand on. The others have those of
``birdmix.audio.decode.Blocks``, which predictions have too, and what is found here: ``extension``,
``rate``, ``channels``, ``clock``.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.audio.clock import read_clock
from birdmix.audio.decode import Blocks
from birdmix.audio.duplicates import RATE, Prints, Sound
from birdmix.audio.problems import Problem
from birdmix.audio.reader import probe
from birdmix.audio.sound_file import AudioError, AudioInfo

#: Hz. Below it less than 8 kHz is there, and the highest songs (goldcrest, waxwing) are cut off.
LOWEST_RATE = 16_000

#: Hz. Above it at least half of the spectrum is ultrasound: a bat recorder's file, or a header gone
#: wrong; birds are heard below 20 kHz.
HIGHEST_RATE = 96_000

#: More channels than this are no stereo: an array of microphones, or several sites in one file.
MOST_CHANNELS = 2

_WAV, _AIFF = ("WAV/", "WAVEX/", "RF64/"), ("AIFF/",)

#: What may stand behind each suffix: how the encoding begins. WAV and OGG carry any codec.
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
class Examination(Sound):
    """What was found out about one sound file.

    Attributes:
        info: What the header says; None where it cannot be read.
        problems: What is odd, each with its name; empty where nothing is.
    """

    info: AudioInfo | None
    problems: tuple[Problem, ...]


def examine(path: Path) -> Examination:
    """Decode a file from end to end, in bounded memory, and say what it is.

    Args:
        path: File; whatever is wrong with it is told, not raised.
    """
    path = Path(path)
    info, prints = None, Prints()
    try:
        info = probe(path)
        blocks = Blocks(path, RATE)
        with np.errstate(over="ignore", invalid="ignore"):  # a mix of what is infinite is told
            for waveform in blocks:
                prints.add(waveform)
        problems = (*blocks.problems, *_unusual(path, info))
        if clock_problem := read_clock(path).problem:
            problems += (Problem("clock", clock_problem),)
    except (AudioError, OSError) as error:
        problems = (_nothing(path, info, error),)
    return Examination(**vars(prints.sound()), info=info, problems=problems)


def _nothing(path: Path, info: AudioInfo | None, error: AudioError | OSError) -> Problem:
    """Say why a file yields no samples."""
    if info is not None and info.num_frames == 0:
        return Problem("empty", "the header says 0 samples")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return Problem("empty", "0 bytes")
    return Problem("unreadable", error.reason if isinstance(error, AudioError) else str(error))


def _unusual(path: Path, info: AudioInfo) -> Iterator[Problem]:
    """Say what about a sound header is not as one expects it."""
    if not info.encoding.startswith(ENCODINGS.get(path.suffix.lower(), ())):
        named = path.suffix or path.name
        yield Problem("extension", f"{info.encoding} in a file named {named}; rename it")
    if info.sample_rate < LOWEST_RATE:
        heard = f"{info.sample_rate / 2000:g} kHz"
        yield Problem("rate", f"{info.sample_rate} Hz: nothing above {heard} is there")
    if info.sample_rate > HIGHEST_RATE:
        yield Problem("rate", f"{info.sample_rate} Hz: most of it is ultrasound")
    if info.channels > MOST_CHANNELS:
        yield Problem("channels", f"{info.channels} channels, of which the mean is heard")

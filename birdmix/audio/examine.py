"""Examine a sound file: decode it once, and tell all that is odd about it.

A recording that yields no samples has one problem, ``unreadable`` or ``empty``: what its header
says about rate and channels has nothing to stand on. The others have those of
``birdmix.audio.decode.Blocks``, and what is found here: ``extension``, ``rate``, ``channels``,
``clock``, and more of ``truncated`` and ``header``, since libsndfile takes the end of a file for
its end.
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from birdmix.audio.clock import read_clock
from birdmix.audio.decode import Blocks
from birdmix.audio.duplicates import RATE, Prints, Sound
from birdmix.audio.problems import Problem
from birdmix.audio.sound_file import AudioError, AudioInfo, probe

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

# Hz. No microphone has less or more, and to resample a long file from there may take for ever.
_LEAST_RATE, _MOST_RATE = 1000, 1_000_000

# How much of a file's end is searched for its last page or frames: two of the largest OGG pages.
_TAIL = 1 << 17

# The chunk of samples by what a file begins with: byte order of the sizes, name of the chunk.
_CHUNKS = {b"RIFF": ("<", b"data"), b"RIFX": (">", b"data"), b"FORM": (">", b"SSND")}

# Chunks before that of the samples: real files have a few.
_MOST_CHUNKS = 64


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
        if not _LEAST_RATE <= info.sample_rate <= _MOST_RATE:
            raise AudioError(path, f"the header says {info.sample_rate} Hz")
        blocks = Blocks(path, RATE)
        with np.errstate(over="ignore", invalid="ignore"):  # a mix of what is infinite is told
            for waveform in blocks:
                prints.add(waveform)
        problems = (*blocks.problems, *_broken_promises(path, info), *_unusual(path, info))
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


def _broken_promises(path: Path, info: AudioInfo) -> Iterator[Problem]:
    """Say what a container promises, or holds, beyond the samples that libsndfile finds in it."""
    with open(path, "rb") as file:
        kind = file.read(4)
        if kind in _CHUNKS and (missing := _missing_bytes(file, *_CHUNKS[kind])):
            yield Problem("truncated", f"{missing} bytes of samples are missing at the end")
        if kind == b"OggS" and not _has_last_page(_tail(file)):
            yield Problem("truncated", "the last OGG page is missing")
        if kind == b"fLaC" and info.num_frames is not None:
            begin = _begin_of_last_frame(file)
            if begin >= info.num_frames:
                says = f"header says {info.num_frames} samples, the last frame begins at {begin}"
                yield Problem("header", says)


def _tail(file: BinaryIO) -> bytes:
    file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
    return file.read()


def _missing_bytes(file: BinaryIO, order: str, samples: bytes) -> int:
    """Say how far the chunk of samples of a WAV or AIFF file reaches beyond the file's end."""
    end, place = file.seek(0, os.SEEK_END), 12
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break
        name, size = struct.unpack(f"{order}4sI", head)
        if name == samples:
            # Who writes to a pipe puts the largest size there is, as it does not know: no promise.
            return 0 if size >> 12 in (0x7FFFF, 0xFFFFF) else max(place + 8 + size - end, 0)
        place += 8 + size + size % 2
    return 0


def _has_last_page(tail: bytes) -> bool:
    """Tell whether an OGG file ends with a whole page that is marked as the last one."""
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4:
        return False
    lengths = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(lengths)


def _begin_of_last_frame(file: BinaryIO) -> int:
    """Find the sample at which a FLAC file's last frame begins; 0 if its end does not tell."""
    file.seek(8)
    block_size = int.from_bytes(file.read(2), "big")
    tail = _tail(file)
    starts = [match.start() for match in re.finditer(rb"\xff\xf8[\x10-\xff]", tail)]
    found = {_frame_number(tail[start : start + 16].ljust(16, b"\0")) for start in starts}
    numbers = {number for number in found if number is not None}
    # Chance makes a header now and then, but not two that follow each other.
    return block_size * max((n for n in numbers if n - 1 in numbers), default=0)


def _frame_number(header: bytes) -> int | None:
    """Read the number of a FLAC frame of fixed size (RFC 9639, 9.1), None where it is no frame."""
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    if ones in (1, 7, 8):
        return None
    end = 4 + max(ones, 1)
    number = header[4] & (0x7F >> ones)
    for byte in header[5:end]:
        number = number << 6 | byte & 0x3F
    end += {6: 1, 7: 2}.get(header[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    checksum = 0
    for byte in header[: end + 1]:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum << 1 ^ (0x107 if checksum & 0x80 else 0)
    return None if checksum else number

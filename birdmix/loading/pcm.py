"""Decoded recordings in 16 bit, in memory or in files that later runs read again.

Samples are whole multiples of a power of two that fits the recording's peak: what was recorded in
16 bit stays what it is, what is quiet keeps its bits, and what exceeds full scale is not clipped.

Shapes: T samples.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.audio.decode import Blocks
from birdmix.audio.sound_file import DECODER
from birdmix.files import atomic_path
from birdmix.partials import remove_partials

_MAGIC = b"birdmix pcm 1\n"
_HEADER = 64  # bytes: magic, fingerprint of the source, exponent, number of samples
_NUMBERS = struct.Struct("<hq")
_FULL_SCALE = 15  # bits


@dataclass(frozen=True)
class Pcm:
    """A decoded recording.

    Attributes:
        samples: int16 [T].
        exponent: One step is two to the power of this.
    """

    samples: np.ndarray
    exponent: int

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]; shorter than asked where the recording ends."""
        piece = self.samples[start : start + num_samples]
        return np.multiply(piece, np.float32(2.0**self.exponent), dtype=np.float32)


def decode_pcm(path: Path, sample_rate: int) -> Pcm:
    """Decode a recording.

    Raises:
        AudioError: If it yields no samples.
    """
    blocks = list(Blocks(path, sample_rate))
    peak = max(float(np.abs(block).max(initial=0)) for block in blocks)
    exponent = int(np.ceil(np.log2(max(peak, 2.0**-60)))) - _FULL_SCALE
    scale = np.float32(2.0**-exponent)
    limits = np.iinfo(np.int16)
    return Pcm(
        np.concatenate(
            [np.rint(b * scale).clip(limits.min, limits.max).astype(np.int16) for b in blocks]
        ),
        exponent,
    )


@dataclass(frozen=True)
class PcmFile:
    """A decoded recording on disk.

    Attributes:
        file: Where it lies.
        num_samples: Its length T.
        exponent: One step is two to the power of this.
    """

    file: Path
    num_samples: int
    exponent: int


def read_pcm(file: str, exponent: int, start: int, num_samples: int) -> np.ndarray:
    """Return a segment of a file of samples, float32 [T]; shorter where the recording ends."""
    samples = np.fromfile(file, "<i2", num_samples, offset=_HEADER + 2 * start)
    return Pcm(samples, exponent).read(0, num_samples)


def cached(folder: Path, path: Path, sample_rate: int) -> PcmFile:
    """Find a recording's file of samples; it is made first if it is not there, or of another state.

    A file is known by the place of its recording, and holds a fingerprint of size, time of change,
    rate and decoder: whatever of these changes, it is made anew.

    Raises:
        AudioError: If the recording yields no samples.
        OSError: If the folder cannot be written to.
    """
    place = os.path.realpath(path)
    name = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    file = folder / str(sample_rate) / name[:2] / f"{name[2:34]}.pcm"
    header = _header(path, sample_rate)
    found = _found(file, header)
    if found is not None:
        return found
    made = decode_pcm(path, sample_rate)
    remove_partials(file.parent)
    # By its name it can be nothing else: what stands there is old, or was torn by a full disk.
    with atomic_path(file, is_ours=True) as partial, partial.open("wb") as stream:
        stream.write(header + _NUMBERS.pack(made.exponent, len(made.samples)))
        stream.write(made.samples.astype("<i2").tobytes())
    return PcmFile(file, len(made.samples), made.exponent)


def _header(path: Path, sample_rate: int) -> bytes:
    """Return what a file of this source begins with; a source that is not there has none."""
    try:
        state = os.stat(path)
        known = [state.st_size, state.st_mtime_ns, sample_rate, DECODER]
    except OSError:
        known = []
    digest = hashlib.sha256(json.dumps(known).encode()).digest()
    return (_MAGIC + digest).ljust(_HEADER - _NUMBERS.size, b"\0")


def _found(file: Path, header: bytes) -> PcmFile | None:
    """Look at a file, None if it is not there, or of something else, or not whole."""
    try:
        with file.open("rb") as stream:
            if stream.read(len(header)) != header:
                return None
            exponent, num_samples = _NUMBERS.unpack(stream.read(_NUMBERS.size))
            size = os.fstat(stream.fileno()).st_size
    except (FileNotFoundError, struct.error):
        return None
    return PcmFile(file, num_samples, exponent) if size == _HEADER + 2 * num_samples else None

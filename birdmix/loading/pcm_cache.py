"""Cache of decoded recordings as 16-bit samples, in memory or in files that later runs reuse.

Samples are 16-bit integers times a power of two that is chosen by the recording's peak: 16-bit
recordings are kept exactly, quiet ones keep their resolution, and samples above full scale are not
clipped.

Shapes: T samples.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.audio.audio_file import DECODER_VERSION
from birdmix.audio.decode import DecodedBlocks
from birdmix.files import atomic_path
from birdmix.partial_files import remove_partials

_MAGIC = b"birdmix pcm 1\n"
_HEADER = 64  # bytes: magic, fingerprint of the recording, exponent, number of samples
_NUMBERS = struct.Struct("<hq")
_FULL_SCALE = 15  # bits


@dataclass(frozen=True)
class InMemoryPcm:
    """A decoded recording in memory; its values are ``samples * 2**exponent``.

    Attributes:
        samples: int16 [T].
        exponent: Exponent of the scale.
    """

    samples: np.ndarray
    exponent: int

    def read(self, start: int, num_samples: int) -> np.ndarray:
        """Return a segment, float32 [T]; shorter than requested at the end of the recording.

        Args:
            start: First sample.
            num_samples: Length T.
        """
        piece = self.samples[start : start + num_samples]
        return np.multiply(piece, np.float32(2.0**self.exponent), dtype=np.float32)


def decode_to_pcm(path: Path, sample_rate: int) -> InMemoryPcm:
    """Decode a recording to 16-bit samples.

    Args:
        path: The recording.
        sample_rate: Sample rate of the result in Hz.

    Raises:
        AudioError: If it yields no samples.
    """
    blocks = list(DecodedBlocks(path, sample_rate))
    peak = max(float(np.abs(block).max(initial=0)) for block in blocks)
    exponent = int(np.ceil(np.log2(max(peak, 2.0**-60)))) - _FULL_SCALE
    scale = np.float32(2.0**-exponent)
    limits = np.iinfo(np.int16)
    return InMemoryPcm(
        np.concatenate(
            [np.rint(b * scale).clip(limits.min, limits.max).astype(np.int16) for b in blocks]
        ),
        exponent,
    )


@dataclass(frozen=True)
class PcmFile:
    """A decoded recording in a file of samples.

    Attributes:
        file: The file.
        num_samples: Length of the recording T.
        exponent: Exponent of the scale, see ``InMemoryPcm``.
    """

    file: Path
    num_samples: int
    exponent: int


def read_pcm_file_segment(file: str, exponent: int, start: int, num_samples: int) -> np.ndarray:
    """Return a segment of a file of samples, float32 [T]; shorter at the end of the recording.

    Args:
        file: The file of samples.
        exponent: Exponent of its scale.
        start: First sample.
        num_samples: Length T.
    """
    samples = np.fromfile(file, "<i2", num_samples, offset=_HEADER + 2 * start)
    return InMemoryPcm(samples, exponent).read(0, num_samples)


def find_or_decode_pcm_file(folder: Path, path: Path, sample_rate: int) -> PcmFile:
    """Return a recording's file of samples; decode it first if the file is missing or outdated.

    The file's name is a hash of the recording's real path. Its header holds a fingerprint of the
    recording's size and modification time, of the sample rate and the decoder; if one of these
    changes, the file is replaced.

    Args:
        folder: Folder of the cache, ``data.cache_dir``.
        path: The recording.
        sample_rate: Sample rate of the samples in Hz.

    Raises:
        AudioError: If the recording yields no samples.
        OSError: If the folder cannot be written to.
    """
    real_path = os.path.realpath(path)
    name = hashlib.sha256(real_path.encode(errors="surrogateescape")).hexdigest()
    file = folder / str(sample_rate) / name[:2] / f"{name[2:34]}.pcm"
    header = _build_header(path, sample_rate)
    existing = _open_existing(file, header)
    if existing is not None:
        return existing
    pcm = decode_to_pcm(path, sample_rate)
    remove_partials(file.parent)
    # A file of this name is always a cache file: an outdated one, or one cut off by a full disk.
    with atomic_path(file, is_ours=True) as partial, partial.open("wb") as stream:
        stream.write(header + _NUMBERS.pack(pcm.exponent, len(pcm.samples)))
        stream.write(pcm.samples.astype("<i2").tobytes())
    return PcmFile(file, len(pcm.samples), pcm.exponent)


def _build_header(path: Path, sample_rate: int) -> bytes:
    """Return the first bytes of a recording's file of samples: magic and fingerprint."""
    try:
        state = os.stat(path)
        identity = [state.st_size, state.st_mtime_ns, sample_rate, DECODER_VERSION]
    except OSError:
        identity = []
    digest = hashlib.sha256(json.dumps(identity).encode()).digest()
    return (_MAGIC + digest).ljust(_HEADER - _NUMBERS.size, b"\0")


def _open_existing(file: Path, header: bytes) -> PcmFile | None:
    """Return an existing file of samples; None if it is missing, outdated or incomplete."""
    try:
        with file.open("rb") as stream:
            if stream.read(len(header)) != header:
                return None
            exponent, num_samples = _NUMBERS.unpack(stream.read(_NUMBERS.size))
            size = os.fstat(stream.fileno()).st_size
    except (FileNotFoundError, struct.error):
        return None
    return PcmFile(file, num_samples, exponent) if size == _HEADER + 2 * num_samples else None

"""Write OGG Vorbis and FLAC files.

Shapes: T samples.
"""

import io
from pathlib import Path

import numpy as np
import soundfile

from birdmix.files import atomic_path

_BLOCK = 1 << 14  # libsndfile's Vorbis writer has crashed on large single writes


def write_ogg(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a mono waveform as OGG Vorbis, atomically.

    Args:
        path: Target file.
        waveform: float32 [T] within [-1, 1].
        sample_rate: Hz.
    """
    with atomic_path(path) as partial:
        _write_vorbis(partial, waveform, sample_rate)


def encode_ogg(waveform: np.ndarray, sample_rate: int) -> bytes:
    """Return a mono waveform as the content of an OGG Vorbis file.

    Args:
        waveform: float32 [T] within [-1, 1].
        sample_rate: Hz.
    """
    encoded = io.BytesIO()
    _write_vorbis(encoded, waveform, sample_rate)
    return encoded.getvalue()


def _write_vorbis(target: Path | io.BytesIO, waveform: np.ndarray, sample_rate: int) -> None:
    with soundfile.SoundFile(
        target, "w", samplerate=sample_rate, channels=1, format="OGG", subtype="VORBIS"
    ) as file:
        for start in range(0, len(waveform), _BLOCK):
            file.write(waveform[start : start + _BLOCK])


def write_flac(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a mono waveform as 16-bit FLAC, atomically.

    Args:
        path: Target file.
        waveform: float32 [T] within [-1, 1]; larger magnitudes are clipped.
        sample_rate: Hz.
    """
    encoded = io.BytesIO()  # libsndfile does not report a full disk
    soundfile.write(encoded, waveform, sample_rate, format="FLAC", subtype="PCM_16")
    with atomic_path(path) as partial:
        partial.write_bytes(encoded.getbuffer())

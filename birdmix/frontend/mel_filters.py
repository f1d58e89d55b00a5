"""Triangular mel filters, computed without torch.

Shapes: M mel bins, N frequencies (n_fft / 2 + 1).
"""

import math

import numpy as np

from birdmix.frontend.settings import LogMelSettings

# The Slaney scale is linear up to 1 kHz (66.7 Hz per mel) and logarithmic above (27 mels per factor
# of 6.4).
_HERTZ_PER_MEL = 200 / 3
_KNEE_HERTZ = 1000.0
_KNEE_MEL = _KNEE_HERTZ / _HERTZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27


def mel_filters(settings: LogMelSettings) -> np.ndarray:
    """Return triangular filters whose corners are equally spaced in mel.

    They are those of ``torchaudio.functional.melscale_fbanks``, and are rounded to float32 at the
    same places: in a filter as narrow as two frequencies, the last bit of a corner changes the
    result by .02 dB. ``librosa.filters.mel`` rounds at other places, and takes a second to import.

    Args:
        settings: Frequencies, transform length, number of filters, scale and norm.

    Returns:
        Filters, float32 [N, M].
    """
    first = _hertz_to_mel(settings.f_min, settings.mel_scale)
    last = _hertz_to_mel(settings.max_frequency, settings.mel_scale)
    corners = _mel_to_hertz(_linspace(first, last, settings.n_mels + 2), settings.mel_scale)
    frequencies = _linspace(0, settings.sample_rate // 2, settings.n_fft // 2 + 1)
    distances = corners - frequencies[:, None]
    widths = np.diff(corners)
    rising, falling = -distances[:, :-2] / widths[:-1], distances[:, 2:] / widths[1:]
    filters = np.minimum(rising, falling).clip(min=0)
    if settings.mel_norm == "slaney":
        filters *= 2 / (corners[2:] - corners[:-2])
    return filters


def _hertz_to_mel(hertz: float, mel_scale: str) -> float:
    if mel_scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    if hertz < _KNEE_HERTZ:
        return hertz / _HERTZ_PER_MEL
    return _KNEE_MEL + math.log(hertz / _KNEE_HERTZ) / _LOG_STEP


def _mel_to_hertz(mel: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        factors = np.float32(10) ** (mel / np.float32(2595))
        return np.float32(700) * (factors - np.float32(1))
    above = np.float32(_LOG_STEP) * (mel - np.float32(_KNEE_MEL))
    curved = np.float32(_KNEE_HERTZ) * np.exp(above, dtype=np.float64).astype(np.float32)
    return np.where(above >= 0, curved, np.float32(_HERTZ_PER_MEL) * mel)


def _linspace(first: float, last: float, count: int) -> np.ndarray:
    """Return equally spaced float32 as ``torch.linspace``: from both ends, each rounded once."""
    start, end = np.float32(first), np.float32(last)
    step = np.float64((end - start) / np.float32(count - 1))
    index = np.arange(count)
    upper = end - step * index[::-1]
    return np.where(index < count // 2, start + step * index, upper).astype(np.float32)

"""Mel filters without torch.

Shapes: M mel bins, N frequencies (n_fft / 2 + 1).
"""

import math

import numpy as np

from birdmix.frontend.settings import LogMelSettings

# The Slaney scale is linear up to 1 kHz (66.7 Hz a mel) and logarithmic above (27 a factor 6.4).
_HERTZ_PER_MEL = 200 / 3
_KNEE_HERTZ = 1000.0
_KNEE_MEL = _KNEE_HERTZ / _HERTZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27


def mel_filters(settings: LogMelSettings) -> np.ndarray:
    """Return triangular filters whose corners are equally spaced in mel, float32 [N, M].

    Those of ``torchaudio.functional.melscale_fbanks``, which training uses, and rounded to float32
    where it rounds: a filter as narrow as two frequencies turns a corner's last bit into .02 dB.
    """
    first, last = (_to_mel(each, settings.mel_scale) for each in (settings.f_min, settings.highest))
    corners = _to_hertz(_spaced(first, last, settings.n_mels + 2), settings.mel_scale)
    frequencies = _spaced(0, settings.sample_rate // 2, settings.n_fft // 2 + 1)
    away = corners - frequencies[:, None]
    widths = np.diff(corners)
    filters = np.minimum(-away[:, :-2] / widths[:-1], away[:, 2:] / widths[1:]).clip(min=0)
    if settings.mel_norm == "slaney":
        filters *= 2 / (corners[2:] - corners[:-2])
    return filters


def _to_mel(hertz: float, mel_scale: str) -> float:
    if mel_scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    if hertz < _KNEE_HERTZ:
        return hertz / _HERTZ_PER_MEL
    return _KNEE_MEL + math.log(hertz / _KNEE_HERTZ) / _LOG_STEP


def _to_hertz(mel: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        factors = np.float32(10) ** (mel / np.float32(2595))
        return np.float32(700) * (factors - np.float32(1))
    above = np.float32(_LOG_STEP) * (mel - np.float32(_KNEE_MEL))
    curved = np.float32(_KNEE_HERTZ) * np.exp(above, dtype=np.float64).astype(np.float32)
    return np.where(above >= 0, curved, np.float32(_HERTZ_PER_MEL) * mel)


def _spaced(first: float, last: float, count: int) -> np.ndarray:
    """Space numbers equally as ``torch.linspace`` does: from both ends, each rounded once."""
    start, end = np.float32(first), np.float32(last)
    step = np.float64((end - start) / np.float32(count - 1))
    at = np.arange(count)
    return np.where(at < count // 2, start + step * at, end - step * at[::-1]).astype(np.float32)

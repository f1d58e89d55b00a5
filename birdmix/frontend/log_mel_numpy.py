"""Log-mel spectrograms without torch, for listening.

Shapes: W windows, T samples, M mel bins, F frames, N frequencies (n_fft / 2 + 1).
"""

import numpy as np
from scipy.fft import rfft
from scipy.sparse import csr_array

from birdmix.frontend.filters import mel_filters
from birdmix.frontend.settings import EPS, MIN_POWER, LogMelSettings

# Frames that are transformed at a time: what is between stays in the processor's cache.
_AT_A_TIME = 64


class NumpyLogMel:
    """What ``birdmix.frontend.log_mel.LogMel`` computes, to within 1e-3 dB.

    (A filter narrower than two frequencies, of which no good comes, may be some 1e-3 dB off.)
    A call takes one thread, and any number of threads may call. The product with the filters is a
    sparse one: BLAS would start threads of its own, which wait for each other.

    Args:
        settings: What to compute.
    """

    def __init__(self, settings: LogMelSettings) -> None:
        self.settings = settings
        angle = 2 * np.pi * np.arange(settings.n_fft) / settings.n_fft
        self.window = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)  # Hann's, periodic
        self.filters = csr_array(mel_filters(settings).T)

    def __call__(self, waveforms: np.ndarray) -> np.ndarray:
        """Turn waveforms, float32 [W, T], into normalised log-mels, float32 [W, 1, M, F]."""
        num_frames = self.settings.num_frames(waveforms.shape[1])
        mels = np.empty((len(waveforms), 1, self.settings.n_mels, num_frames), np.float32)
        for mel, waveform in zip(mels[:, 0], waveforms, strict=True):
            mel[:] = self._normalised(self._compressed(self._mel(waveform)))
        return mels

    def _mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return the power or the magnitude in each mel bin of a waveform [T], as [M, F]."""
        its = self.settings
        padded = np.pad(waveform, its.n_fft // 2, mode=its.pad_mode)  # type: ignore[call-overload]
        frames = np.lib.stride_tricks.sliding_window_view(padded, its.n_fft)[:: its.hop_length]
        mel = np.empty((its.n_mels, len(frames)), np.float32)
        for at in range(0, len(frames), _AT_A_TIME):
            some = slice(at, at + _AT_A_TIME)
            cells = np.abs(rfft(frames[some] * self.window))  # [F, N]
            if its.power == 2:
                cells *= cells
            mel[:, some] = self.filters @ np.ascontiguousarray(cells.T)
        return mel

    def _compressed(self, mel: np.ndarray) -> np.ndarray:
        """Turn a mel [M, F] into decibels, or into PCEN."""
        its = self.settings
        if its.compression == "pcen":
            return self._pcen(mel)
        smallest = MIN_POWER ** (its.power / 2)
        decibel = np.log(np.maximum(mel, smallest)) * np.float32(20 / its.power / np.log(10))
        return np.maximum(decibel, decibel.max() - its.top_db)

    def _pcen(self, mel: np.ndarray) -> np.ndarray:
        """Normalise each mel bin by its own past: see ``birdmix.frontend.pcen``."""
        from scipy.signal import lfilter  # takes longer to import than all the rest

        its = self.settings.pcen
        mel = mel * np.float32(its.scale)
        newest = its.newest(self.settings.sample_rate / self.settings.hop_length)
        first = mel[:, :1] if its.start == "first" else np.ones_like(mel[:, :1])
        ahead, back = np.array([newest], np.float32), np.array([1, newest - 1], np.float32)
        past, _ = lfilter(ahead, back, mel, zi=(1 - np.float32(newest)) * first)
        level = np.exp(-its.gain * np.log(past + np.float32(its.eps)))
        root = np.expm1(its.power * np.log1p(mel * level / its.bias))
        return root * np.float32(its.bias**its.power)

    def _normalised(self, mel: np.ndarray) -> np.ndarray:
        """Bring a mel [M, F] to the range that the network is used to."""
        its = self.settings
        if its.normalise == "fixed":
            return (mel + its.offset) / its.scale
        if its.normalise == "minmax":
            low, high = mel.min(), mel.max()
            return (mel - low) / (high - low + EPS)
        return (mel - mel.mean()) / (mel.std(ddof=1) + EPS)

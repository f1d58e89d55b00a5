"""Log-mel spectrograms in numpy: on CPUs, and for prediction without torch.

Shapes: W windows, T samples, M mel bins, F frames, N frequencies (n_fft / 2 + 1).
"""

import numpy as np
from scipy.fft import rfft
from scipy.sparse import csr_array

from birdmix.frontend.mel_filters import mel_filters
from birdmix.frontend.settings import EPS, MIN_POWER, LogMelSettings
from birdmix.threads import map_in_threads

# Samples of the frames that are transformed at a time, 1 MB: fewer stay in the cache, but cost
# more calls, for each of which threads wait for the interpreter.
_SAMPLES_PER_CHUNK = 2**18


class NumpyLogMel:
    """The log-mel of ``birdmix.frontend.log_mel.LogMel``, equal to within 1e-3 dB.

    A filter narrower than two frequencies, which is useless anyway, may differ by several 1e-3 dB.
    A window is computed by one thread, and any number of threads may call at a time. The product
    with the filters is a sparse one: BLAS would start threads of its own, which wait for each
    other.

    Args:
        settings: Parameters of the spectrogram.
        filters: Mel filters, float32 [N, M]; None computes them.
    """

    def __init__(self, settings: LogMelSettings, filters: np.ndarray | None = None) -> None:
        self.settings = settings
        angle = 2 * np.pi * np.arange(settings.n_fft) / settings.n_fft
        self.window = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)  # periodic Hann window
        self.filters = csr_array((mel_filters(settings) if filters is None else filters).T)

    def __call__(self, waveforms: np.ndarray, *, num_threads: int = 1) -> np.ndarray:
        """Compute normalised log-mel spectrograms.

        Args:
            waveforms: Waveforms in [-1, 1], float32 [W, T].
            num_threads: Windows that are computed at a time; without effect on the result.

        Returns:
            Spectrograms, float32 [W, 1, M, F].
        """
        num_frames = self.settings.samples_to_num_frames(waveforms.shape[1])
        mels = np.empty((len(waveforms), 1, self.settings.n_mels, num_frames), np.float32)

        def write(number: int) -> None:
            mels[number, 0] = self._normalise(self._compress(self._mel(waveforms[number])))

        numbers = range(len(waveforms))
        if num_threads == 1 or len(numbers) == 1:
            for number in numbers:
                write(number)
        else:
            for _ in map_in_threads(write, numbers, num_threads=num_threads):
                pass
        return mels

    def _mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return the power or the magnitude in each mel bin of a waveform [T], as [M, F]."""
        settings, n_fft = self.settings, self.settings.n_fft
        padded = np.pad(waveform, n_fft // 2, mode=settings.pad_mode)  # type: ignore[call-overload]
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: settings.hop_length]
        mel = np.empty((settings.n_mels, len(frames)), np.float32)
        chunk_size = max(_SAMPLES_PER_CHUNK // n_fft, 1)
        for start in range(0, len(frames), chunk_size):
            chunk = slice(start, start + chunk_size)
            cells = np.abs(rfft(frames[chunk] * self.window))  # [F, N]
            if settings.power == 2:
                cells *= cells
            mel[:, chunk] = self.filters @ np.ascontiguousarray(cells.T)
        return mel

    def _compress(self, mel: np.ndarray) -> np.ndarray:
        """Convert a mel [M, F] to decibels, or to PCEN."""
        settings = self.settings
        if settings.compression == "pcen":
            return self._pcen(mel)
        min_value = MIN_POWER ** (settings.power / 2)
        decibel = np.log(np.maximum(mel, min_value))
        decibel = decibel * np.float32(20 / settings.power / np.log(10))
        return np.maximum(decibel, decibel.max() - settings.top_db)

    def _pcen(self, mel: np.ndarray) -> np.ndarray:
        """Normalise each mel bin [M, F] by its own smoothed past: ``birdmix.frontend.pcen``."""
        from scipy.signal import lfilter  # takes longer to import than everything else here

        settings = self.settings.pcen
        mel = mel * np.float32(settings.scale)
        b = settings.smoothing_coefficient(self.settings.sample_rate / self.settings.hop_length)
        first = mel[:, :1] if settings.start == "first" else np.ones_like(mel[:, :1])
        numerator, denominator = np.array([b], np.float32), np.array([1, b - 1], np.float32)
        past, _ = lfilter(numerator, denominator, mel, zi=(1 - np.float32(b)) * first)
        level = np.exp(-settings.gain * np.log(past + np.float32(settings.eps)))
        root = np.expm1(settings.power * np.log1p(mel * level / settings.bias))
        return root * np.float32(settings.bias**settings.power)

    def _normalise(self, mel: np.ndarray) -> np.ndarray:
        """Scale a mel [M, F] to the range of model inputs."""
        settings = self.settings
        if settings.normalise == "fixed":
            return (mel + settings.offset) / settings.scale
        if settings.normalise == "minmax":
            low, high = mel.min(), mel.max()
            return (mel - low) / (high - low + EPS)
        return (mel - mel.mean()) / (mel.std(ddof=1) + EPS)

"""Speed, circular shift, random filter, coloured noise and gain of waveforms.

Shapes: B batch, K examples that are changed, T samples, N frequencies of a whole waveform,
C classes, F' label frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from birdmix.augment.base_augmentation import (
    Augmentation,
    Draw,
    column,
    draw_uniform,
    take_excerpts,
)
from birdmix.augment.fourier import irfft, rfft
from birdmix.augment.resampling import STEPS_PER_SAMPLE, factors_to_steps, resample
from birdmix.augment.settings import (
    CircularShiftSettings,
    ColouredNoiseSettings,
    GainSettings,
    RandomFilterSettings,
    SpeedSettings,
)
from birdmix.mix.tensor_access import array_to_device

# Samples after which a random filter's response has decayed.
_FILTER_LENGTH = 1024


@dataclass
class Speed(Augmentation, SpeedSettings):
    """Play waveforms faster or slower, which changes pitch and duration.

    The length stays: a slower waveform is cut at its end, a faster one begins again, as the loader
    repeats short recordings (``data.short=loop``).
    """

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return {"step": factors_to_steps(draw_uniform(self.factor, shape[0], rng))}

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        return resample(selected, parameters["step"], selected.shape[1], loop=True)

    def move_frames(self, values: Tensor, draw: Draw) -> Tensor:
        """Move values per label frame [B, C, F'] with the sound.

        A frame takes all those that it overlaps: their largest target, and it is known if all of
        them are.
        """
        num_frames = values.shape[2]
        factor = draw.parameters["step"][:, None] / STEPS_PER_SAMPLE
        begin = np.arange(num_frames) * factor
        first, last = np.floor(begin), np.ceil(begin + factor) - 1  # [K, F']
        moved = None
        for offset in range(int((last - first).max(initial=0)) + 1):
            source = np.minimum(first + offset, last).astype(np.int64) % num_frames
            taken = _take_frames(values, draw.rows, source)
            if moved is None:
                moved = taken
            elif values.dtype == torch.bool:
                moved = moved & taken
            else:
                moved = moved.maximum(taken)
        assert moved is not None
        return moved


@dataclass
class CircularShift(Augmentation, CircularShiftSettings):
    """Shift waveforms in time; what leaves the end comes in at the beginning."""

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return {"fraction": draw_uniform(self.fraction, shape[0], rng)}

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        length = selected.shape[1]
        start = -np.rint(parameters["fraction"] * length).astype(np.int64) % length
        return take_excerpts(torch.cat([selected, selected], dim=1), start, length)

    def move_frames(self, values: Tensor, draw: Draw) -> Tensor:
        """Move values per label frame [B, C, F'] with the sound, by whole frames."""
        num_frames = values.shape[2]
        offset = np.rint(draw.parameters["fraction"] * num_frames).astype(np.int64)
        return _take_frames(
            values, draw.rows, (np.arange(num_frames) - offset[:, None]) % num_frames
        )


@dataclass
class RandomFilter(Augmentation, RandomFilterSettings):
    """Filter waveforms by random smooth gains over frequency, and restore their RMS.

    Source: RandomFiltering of the 2nd place of BirdCLEF 2025. Departures: one transform of the
    whole waveform instead of short frames, which is the same filter; its RMS is restored.
    """

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return {"gain_db": rng.uniform(self.min_db, 0, (shape[0], self.num_gains))}

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        length = selected.shape[1]
        # With silence behind the end: the filter is short, so nothing wraps around.
        size = next_fast_len(length + _FILTER_LENGTH, real=True)
        spectrum = rfft(selected, size)
        gain_db = array_to_device(parameters["gain_db"].astype(np.float32), selected.device)
        gain_db = torch.nn.functional.interpolate(
            gain_db[:, None], spectrum.shape[1], mode="linear", align_corners=True
        )[:, 0]
        filtered = irfft(spectrum * _db_to_factor(gain_db), size)[:, :length]
        return filtered * _safe_ratio(_rms(selected), _rms(filtered))


@dataclass
class ColouredNoise(Augmentation, ColouredNoiseSettings):
    """Add Gaussian noise with the power spectrum 1 / f ** k at a random signal-to-noise ratio.

    The level of an example is its RMS over its whole length; silence stays silence. The samples of
    the noise are drawn on the device, from a seed for each example that is drawn on the host: other
    kinds of devices draw other noise.
    """

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return {
            "snr_db": draw_uniform(self.snr_db, shape[0], rng),
            "exponent": draw_uniform(self.exponent, shape[0], rng),
            "seed": rng.integers(2**63, size=shape[0]),
        }

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        length = selected.shape[1]
        size = next_fast_len(length, real=True)
        spectrum = torch.stack(
            [_draw_normal(size // 2 + 1, seed, selected.device) for seed in parameters["seed"]]
        )
        bins = torch.arange(size // 2 + 1, dtype=torch.float32, device=selected.device)
        bins[0] = torch.inf  # no constant offset, whatever the exponent
        amplitude = bins.log_().mul(column(-parameters["exponent"] / 2, selected)).exp_()
        amplitude[:, 0] = 0
        noise = irfft(torch.view_as_complex(spectrum.mul_(amplitude[..., None])), size)[:, :length]
        level = _db_to_factor(column(-parameters["snr_db"], selected)) * _rms(selected)
        return selected + noise * _safe_ratio(level, _rms(noise))


@dataclass
class Gain(Augmentation, GainSettings):
    """Multiply waveforms by a gain. Per-example normalisation of log-mels undoes it."""

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return {"gain_db": draw_uniform(self.gain_db, shape[0], rng)}

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        return selected * _db_to_factor(column(parameters["gain_db"], selected))


def _draw_normal(num_bins: int, seed: int, device: torch.device) -> Tensor:
    """Draw real and imaginary parts of standard normal noise on a device, [N, 2]."""
    generator = torch.Generator(device).manual_seed(int(seed))
    return torch.randn(num_bins, 2, generator=generator, device=device)


def _take_frames(values: Tensor, rows: np.ndarray, source: np.ndarray) -> Tensor:
    """Return values [B, C, F'] whose rows [K] have the frames ``source`` [K, F'] of themselves."""
    if not len(rows):
        return values
    row = array_to_device(rows, values.device)
    index = array_to_device(source, values.device)[:, None].expand(-1, values.shape[1], -1)
    return values.index_copy(0, row, values[row].gather(2, index))


def _rms(x: Tensor) -> Tensor:
    """Return the root mean square of waveforms [K, T], [K, 1]."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True) / x.shape[1] ** 0.5


def _safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return a ratio of levels; 0 where the denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, 0)


def _db_to_factor(db: Tensor) -> Tensor:
    return (db * (np.log(10) / 20)).exp()

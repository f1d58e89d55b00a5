"""Freq-MixStyle and FilterAugment of log-mels.

Shapes: B batch, K examples that are changed, M mel bins, F frames.
"""

from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor

from birdmix.augment.base_augmentation import Augmentation, column, draw_uniform
from birdmix.augment.settings import FilterAugmentSettings, FreqMixStyleSettings
from birdmix.mix.tensor_access import array_to_device

# Added to variances, which are 0 in bins of silence.
_EPS = 1e-6


@dataclass
class FreqMixStyle(Augmentation, FreqMixStyleSettings):
    """Blend mean and deviation of each mel bin with those of another example; labels stay.

    These statistics over time describe microphone, place and distance more than the call.

    Source: MixStyle, Zhou et al. 2021, arXiv:2104.02008, with statistics per frequency, which carry
    the recording device (Kim et al. 2022, arXiv:2206.12513), as Schmid et al. use it in DCASE 2022
    and the 2nd place of BirdCLEF 2026 does. Departures: drawn per example, not per batch; an
    example is never its own partner; a partner with NaN changes nothing.
    """

    layout = "log-mels [B, 1, M, F]"

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        batch_size = shape[0]
        own = np.arange(batch_size)
        steps = rng.integers(1, max(batch_size, 2), batch_size)
        return {
            "own_part": rng.beta(self.beta, self.beta, batch_size),
            "partner": (own + steps) % batch_size,
        }

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        partner = x[array_to_device(parameters["partner"], x.device)].float()
        variance, mean = torch.var_mean(selected, dim=3, correction=0, keepdim=True)
        other_variance, other_mean = torch.var_mean(partner, dim=3, correction=0, keepdim=True)
        deviation, other_deviation = (variance + _EPS).sqrt(), (other_variance + _EPS).sqrt()
        is_finite = (other_mean + other_deviation).isfinite().all(dim=2, keepdim=True)
        part = torch.where(is_finite, column(parameters["own_part"], selected), 1)
        new_deviation = torch.lerp(other_deviation.nan_to_num(), deviation, part)
        new_mean = torch.lerp(other_mean.nan_to_num(), mean, part)
        return (selected - mean) / deviation * new_deviation + new_mean


@dataclass
class FilterAugment(Augmentation, FilterAugmentSettings):
    """Change the gains of random frequency bands.

    Source: FilterAugment, Nam et al. 2022, arXiv:2110.03282. Departures: number and bounds of the
    bands per example, not per batch; bands have as many mel bins as they must, or more, and
    log-mels with too few of them are refused; gains are added to log-mels, not multiplied with
    mels, so the floor of silence moves with them.

    Attributes:
        units_per_db: Units of the log-mel per dB, above 0: 1 for log-mels in dB, 1 / scale for
            (dB + offset) / scale.
    """

    _: KW_ONLY
    units_per_db: float = 1.0

    layout = "log-mels [B, 1, M, F]"

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        batch_size, num_mels = shape[0], shape[2]
        self.check_num_mels(num_mels)
        low, high = self.num_bands
        num_bands = rng.integers(low, high + 1, batch_size)
        # All examples have ``high`` bands; those with fewer have empty ones at the end.
        gain_db = draw_uniform(self.gain_db, (batch_size, high + 1), rng)
        free = num_mels - num_bands * self.min_mel_bins
        positions = rng.random((batch_size, high - 1))
        numbers = np.arange(1, high)
        bounds = np.full((batch_size, high + 1), num_mels)
        bounds[:, 0] = 0
        positions[numbers >= num_bands[:, None]] = 1
        inner = (np.sort(positions) * (free[:, None] + 1)).astype(int) + numbers * self.min_mel_bins
        bounds[:, 1:-1] = np.where(numbers < num_bands[:, None], inner, num_mels)
        mels = np.arange(num_mels)
        curves = (
            _step_curve(mels, *each) if self.shape == "step" else np.interp(mels, *each)
            for each in (
                (bound[: count + 1], gain[: count + 1])
                for bound, gain, count in zip(bounds, gain_db, num_bands, strict=True)
            )
        )
        return {"gain_db": np.stack([*curves])}

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        gain = (parameters["gain_db"] * self.units_per_db).astype(np.float32)
        return selected + array_to_device(gain, x.device)[:, None, :, None]


def _step_curve(mels: np.ndarray, bounds: np.ndarray, gain_db: np.ndarray) -> np.ndarray:
    """Return gains [M] that are constant between bounds; the last gain is not used."""
    return gain_db[np.searchsorted(bounds, mels, side="right") - 1]

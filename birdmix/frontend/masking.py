"""Time and frequency masks (SpecAugment): an augmentation of log-mel spectrograms.

Shapes: B batch, M mel bins, F frames.
"""

import numpy as np
import torch
from torch import Tensor

from birdmix.frontend.settings import MaskingSettings


def mask_spectrograms(x: Tensor, settings: MaskingSettings, rng: np.random.Generator) -> Tensor:
    """Mask random spans of time and frequency: their cells are set to the example's own minimum.

    The minimum is the value of silence under any normalisation; 0 would be a mean level after
    standardising.

    Source: SpecAugment, Park et al. 2019, arXiv:1904.08779. Departures: masks per example, not per
    batch, and silence instead of zero.

    Args:
        x: Log-mel spectrograms [B, 1, M, F].
        settings: Probabilities, numbers and widths of masks.
        rng: Source of randomness.

    Returns:
        Spectrograms [B, 1, M, F]; ``x`` itself if nothing is masked.
    """
    batch_size, _, num_mels, num_frames = x.shape
    selected = rng.random(batch_size) < settings.prob
    mels = _draw_spans(num_mels, settings.num_mel_masks, settings.max_mel_fraction, batch_size, rng)
    frames = _draw_spans(
        num_frames, settings.num_time_masks, settings.max_time_fraction, batch_size, rng
    )
    draws = rng.random((2, batch_size, 1))
    mels &= selected[:, None] & (draws[0] < settings.mel_prob)
    frames &= selected[:, None] & (draws[1] < settings.time_prob)
    if not (mels.any() or frames.any()):
        return x
    masked = mels[:, :, None] | frames[:, None, :]
    silence = x.amin(dim=(-2, -1), keepdim=True)
    return torch.where(torch.from_numpy(masked).to(x.device)[:, None], silence, x)


def _draw_spans(
    length: int, count: int, max_share: float, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw the union of ``count`` random spans per example, bool [B, length]."""
    widths = rng.integers(0, int(max_share * length) + 1, size=(batch_size, count, 1))
    starts = (rng.random((batch_size, count, 1)) * (length - widths + 1)).astype(int)
    positions = np.arange(length)
    return np.any((positions >= starts) & (positions < starts + widths), axis=1)

"""Time and frequency masks.

Shapes: B batch, M mel bins, F frames.
"""

import numpy as np
import torch
from torch import Tensor

from birdmix.frontend.settings import MaskingSettings


def masking(x: Tensor, settings: MaskingSettings, rng: np.random.Generator) -> Tensor:
    """Lay time and frequency masks on spectrograms; masked cells take the sample's own minimum.

    That minimum is what silence looks like after any normalisation; 0 would be a mean level.

    Source: SpecAugment, Park et al. 2019, arXiv:1904.08779. Departure: masks per sample, not per
    batch, and silence instead of zero.

    Args:
        x: Spectrograms [B, 1, M, F].
        settings: How many masks, how wide, how often.
        rng: Source of randomness.

    Returns:
        Masked spectrograms; ``x`` itself if nothing is masked.
    """
    batch_size, _, num_mels, num_frames = x.shape
    fires = rng.random(batch_size) < settings.prob
    mels = _spans(num_mels, settings.num_mel_masks, settings.max_mel_share, batch_size, rng)
    frames = _spans(num_frames, settings.num_time_masks, settings.max_time_share, batch_size, rng)
    chance = rng.random((2, batch_size, 1))
    mels &= fires[:, None] & (chance[0] < settings.mel_prob)
    frames &= fires[:, None] & (chance[1] < settings.time_prob)
    if not (mels.any() or frames.any()):
        return x
    masked = mels[:, :, None] | frames[:, None, :]
    silence = x.amin(dim=(-2, -1), keepdim=True)
    return torch.where(torch.from_numpy(masked).to(x.device)[:, None], silence, x)


def _spans(
    length: int, count: int, max_share: float, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw ``count`` spans per sample, bool [B, length]."""
    widths = rng.integers(0, int(max_share * length) + 1, size=(batch_size, count, 1))
    starts = (rng.random((batch_size, count, 1)) * (length - widths + 1)).astype(int)
    at = np.arange(length)
    return np.any((at >= starts) & (at < starts + widths), axis=1)

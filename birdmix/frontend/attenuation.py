"""Random attenuation of high frequencies: an augmentation of log-mel spectrograms.

Shapes: B batch, M mel bins, F frames.
"""

import numpy as np
import torch
from torch import Tensor

from birdmix.frontend.settings import AttenuationSettings


def attenuate_high_frequencies(
    x: Tensor, settings: AttenuationSettings, rng: np.random.Generator
) -> Tensor:
    """Attenuate high frequencies of spectrograms at random, as distance and foliage do.

    The gain falls linearly from 1 at the lowest bin to 1 - u at a random bin of the upper half, and
    is constant above, with u uniform in [0, ``max_attenuation``). It multiplies the difference to
    the spectrogram's minimum, its silence, so the effect is the same under any normalisation.

    Source: the recipe of the 2nd place of BirdCLEF 2023. Departures: drawn per example, not per
    batch; towards silence, not towards 0, which after standardising is a mean level.

    Args:
        x: Log-mel spectrograms [B, 1, M, F].
        settings: Probability and largest attenuation.
        rng: Source of randomness.

    Returns:
        Spectrograms [B, 1, M, F]; ``x`` itself if none is attenuated.
    """
    batch_size, _, num_mels, _ = x.shape
    selected = rng.random(batch_size) < settings.prob
    loss = rng.uniform(0, settings.max_attenuation, batch_size) * selected
    last_bin = rng.integers(num_mels // 2, num_mels, batch_size)
    if not selected.any():
        return x
    slope = np.minimum(np.arange(num_mels) / np.maximum(last_bin, 1)[:, None], 1)  # [B, M]
    gain = torch.from_numpy(1 - loss[:, None] * slope).to(x)[:, None, :, None]
    silence = x.amin(dim=(-2, -1), keepdim=True)
    return torch.where(gain < 1, silence + (x - silence) * gain, x)

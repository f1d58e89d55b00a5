"""Random attenuation of upper frequencies.

Shapes: B batch, M mel bins, F frames.
"""

import numpy as np
import torch
from torch import Tensor

from birdmix.frontend.settings import AttenuationSettings


def attenuation(x: Tensor, settings: AttenuationSettings, rng: np.random.Generator) -> Tensor:
    """Let spectrograms fade towards upper frequencies, as distance and foliage let birds fade.

    The gain falls linearly from 1 at the lowest bin to 1 - u at a random bin of the upper half and
    stays there, with u uniform in [0, ``max_attenuation``). It acts on what stands above the
    sample's own silence, its minimum: so it means the same under any normalisation.

    Source: the recipe of the 2nd place of BirdCLEF 2023. Departures: drawn per sample, not per
    batch; towards silence, not towards 0, which after standardising is a mean level.

    Args:
        x: Spectrograms [B, 1, M, F].
        settings: How often, how much.
        rng: Source of randomness.

    Returns:
        Attenuated spectrograms; ``x`` itself if none is.
    """
    batch_size, _, num_mels, _ = x.shape
    fires = rng.random(batch_size) < settings.prob
    loss = rng.uniform(0, settings.max_attenuation, batch_size) * fires
    last = rng.integers(num_mels // 2, num_mels, batch_size)
    if not fires.any():
        return x
    fall = np.minimum(np.arange(num_mels) / np.maximum(last, 1)[:, None], 1)  # [B, M]
    gain = torch.from_numpy(1 - loss[:, None] * fall).to(x)[:, None, :, None]
    silence = x.amin(dim=(-2, -1), keepdim=True)
    return torch.where(gain < 1, silence + (x - silence) * gain, x)

"""Band-limited resampling of waveforms, each by a factor of its own.

Output n of a waveform is its value at n * step / 256 samples. Because steps are integers, outputs
whose numbers differ by 256 have the same filter. So the outputs are computed in blocks, as products
of excerpts with a matrix of filters, which has a block of outputs as columns.

Shapes: K waveforms, T samples, N outputs, J periods of 256 outputs, S blocks of a period, Q outputs
of a block, W samples that a block depends on.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from birdmix.augment.base_augmentation import take_excerpts
from birdmix.mix.tensor_access import array_to_device

#: Steps of a factor: factors are rounded to 1 / 256, so that pitch is exact to 3.4 cents near 1,
#: and to 6.8 cents an octave below.
STEPS_PER_SAMPLE = 256

# Outputs of a block: filters that are 0 at most samples of a longer one would cost more.
_BLOCK_LENGTH = 32
# Zeros of the filters on either side, and their cutoff as a fraction of the lower of the two
# Nyquist frequencies. A tone at 1.1 x that frequency is 75 dB lower.
_NUM_ZEROS, _CUTOFF = 24, 0.94


def factors_to_steps(factors: np.ndarray) -> np.ndarray:
    """Round factors to steps, int64 of the same shape."""
    return np.rint(factors * STEPS_PER_SAMPLE).astype(np.int64)


def resample(x: Tensor, step: np.ndarray, num_outputs: int, *, loop: bool) -> Tensor:
    """Resample waveforms, each by its own factor, without aliasing.

    Args:
        x: Waveforms, float32 [K, T].
        step: Distance of the outputs in 1 / 256 samples, int64 [K], in [128, 512]: 512 makes a
            sound twice as fast.
        num_outputs: Number of outputs N.
        loop: Whether a waveform is repeated; else there is silence before and after it.

    Returns:
        Resampled waveforms, float32 [K, N]. On a GPU whose tensor cores multiply float32 matrices,
        noise is 74 dB below the sound.
    """
    length = x.shape[1]
    speed = max(int(step.max()) / STEPS_PER_SAMPLE, 1)
    half = math.ceil(_NUM_ZEROS / _CUTOFF * speed)
    width = math.ceil(_BLOCK_LENGTH * speed) + 2 * half + 1
    num_periods = -(-num_outputs // STEPS_PER_SAMPLE)
    first = np.arange(0, STEPS_PER_SAMPLE, _BLOCK_LENGTH)[:, None]  # output of each block [S, 1]
    output = first + STEPS_PER_SAMPLE * np.arange(num_periods)  # [S, J]
    start = step[:, None, None] * output // STEPS_PER_SAMPLE  # [K, S, J]
    if loop:
        extended = x.repeat(1, 1 + -(-width // length))
        start = (start - half) % length
    else:
        extended = pad(x, (half, half + width))
        start = np.minimum(start, length + half)
    excerpts = take_excerpts(extended, start, width)  # [K, S, J, W]
    fraction = step[:, None] * first[:, 0] % STEPS_PER_SAMPLE / STEPS_PER_SAMPLE
    out = excerpts @ _make_filters(step, fraction, half, width, x.device)
    return out.permute(0, 2, 1, 3).reshape(len(x), -1)[:, :num_outputs]


def _make_filters(
    step: np.ndarray, fraction: np.ndarray, half: int, width: int, device: torch.device
) -> Tensor:
    """Return the filters of the outputs of each block: Blackman-windowed sinc functions.

    Args:
        step: Distance of the outputs in 1 / 256 samples, [K].
        fraction: Position of a block's first output behind a sample, in samples, [K, S].
        half: Samples before that one in a block's excerpt.
        width: Samples of the excerpt W.
        device: Device of the filters.

    Returns:
        Filters, float32 [K, S, W, Q].
    """
    distance = step[:, None] * np.arange(_BLOCK_LENGTH) / STEPS_PER_SAMPLE  # [K, Q]
    output = fraction[:, :, None] + distance[:, None]  # [K, S, Q]
    lower_nyquist = np.minimum(STEPS_PER_SAMPLE / step, 1)[:, None, None, None]
    position, cutoff = (
        array_to_device(each.astype(np.float32), device)
        for each in (output, _CUTOFF * lower_nyquist)
    )
    sample = torch.arange(-half, width - half, dtype=torch.float32, device=device)
    zeros = (sample[:, None] - position[:, :, None]).mul_(cutoff)  # zeros of the sinc [K, S, W, Q]
    cosine = (zeros.clamp(-_NUM_ZEROS, _NUM_ZEROS) * (math.pi / _NUM_ZEROS)).cos_()
    blackman = (0.16 * cosine).add_(0.5).mul_(cosine).add_(0.34)  # 0 from the last zero on
    return torch.sinc(zeros).mul_(blackman).mul_(cutoff)

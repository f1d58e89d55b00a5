"""Circular shifts of sources in time, given or found so that loud parts meet.

Shapes: B batch, P mix pool, N = B + P examples, S sources, K sources to shift, T last axis, time.
"""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from birdmix.mix.mix_plan import Plan
from birdmix.mix.tensor_access import array_to_device

# Time intervals of the envelopes that are aligned: 50 ms of 5 s, shorter than most notes.
_NUM_INTERVALS = 100


def shift_offsets(shift: Tensor, length: int) -> Tensor:
    """Return shifts as numbers of cells of a time axis.

    Args:
        shift: Shifts as fractions of the length in [0, 1), of any shape.
        length: Number of cells T.
    """
    return (shift * length).round().long()


def shift_in_time(x: Tensor, shift: Tensor) -> Tensor:
    """Shift examples later in time; what leaves the end comes in at the beginning.

    Args:
        x: Examples [K, ..., T].
        shift: Shift of each as a fraction of its length, [K].
    """
    length = x.shape[-1]
    offset = shift_offsets(shift, length)
    index = (torch.arange(length, device=x.device) - offset[:, None]) % max(length, 1)
    return x.gather(-1, index.view(len(x), *[1] * (x.dim() - 2), length).expand_as(x))


def resolve_shifts(plan: Plan, x: Tensor, pool: Tensor | None, is_linear: bool) -> Tensor | None:
    """Return the shift of each source as a fraction of its length, float32 [B, S]; None for none.

    Where loud parts shall meet, it is the shift at which the envelopes of the partner and of the
    example itself have the largest circular correlation.

    Args:
        plan: The plan.
        x: Inputs of the batch [B, ..., T].
        pool: Inputs of the mix pool [P, ..., T], if the plan draws from it.
        is_linear: Whether x is a sound, and not a spectrogram in dB.
    """
    if plan.shift is not None:
        return array_to_device(plan.shift, x.device)
    if not plan.aligned or x.shape[-1] == 0:
        return None
    envelopes = [_envelope(each, is_linear) for each in (x, pool) if each is not None]
    spectrum = torch.fft.rfft(torch.cat(envelopes)[array_to_device(plan.source, x.device)])
    num_intervals = envelopes[0].shape[1]
    correlation = torch.fft.irfft(spectrum[:, :1] * spectrum.conj(), n=num_intervals)
    shift = correlation.argmax(dim=2) / num_intervals
    return torch.cat([torch.zeros_like(shift[:, :1]), shift[:, 1:]], dim=1)


def _envelope(x: Tensor, is_linear: bool) -> Tensor:
    """Return how loud each time interval is, up to a constant, [N, L]: the RMS, or the mean dB."""
    x = x.detach().float()
    x = x.square() if is_linear else x
    while x.dim() > 2:
        x = x.mean(dim=1)
    averaged = adaptive_avg_pool1d(x[:, None], min(_NUM_INTERVALS, x.shape[1]))[:, 0]
    return averaged.sqrt() if is_linear else averaged

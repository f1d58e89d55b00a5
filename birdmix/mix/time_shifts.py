"""Circular shifts of sources in time, given or found so that loud parts meet.

Shapes: B batch, P mix pool, N = B + P examples, S sources, K sources to shift, T last axis, time.
"""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

# Time intervals of the envelopes that are aligned: 50 ms of 5 s, shorter than most notes.
_NUM_INTERVALS = 100


def shift_offsets(shift: Tensor, length: int) -> Tensor:
    """Return shifts as numbers of cells of a time axis.

    Args:
        shift: Shifts as fractions of the length in [0, 1), of any shape.
        length: Number of cells T.
    """
    return (shift * length).round().long()


def shift_in_time(x: Tensor, offset: Tensor) -> Tensor:
    """Shift examples later in time; what leaves the end comes in at the beginning.

    Args:
        x: Examples [K, ..., T].
        offset: Shift of each in cells of the time axis, int64 [K].
    """
    length = x.shape[-1]
    index = (torch.arange(length, device=x.device) - offset[:, None]) % max(length, 1)
    return x.gather(-1, index.view(len(x), *[1] * (x.dim() - 2), length).expand_as(x))


def align_shifts(source: Tensor, x: Tensor, pool: Tensor | None, is_linear: bool) -> Tensor:
    """Return the shifts at which loud parts of partners and examples meet.

    At each of them the envelopes of the partner and of the example itself have the largest circular
    correlation.

    Args:
        source: Indices of the sources in the batch followed by the pool, int64 [B, S].
        x: Inputs of the batch [B, ..., T].
        pool: Inputs of the mix pool [P, ..., T], if there are sources from it.
        is_linear: Whether x is a sound, and not a spectrogram in dB.

    Returns:
        Fractions of the length, float32 [B, S]; 0 for the examples themselves.
    """
    if x.shape[-1] == 0:
        return x.new_zeros(source.shape, dtype=torch.float32)
    envelopes = [_envelope(each, is_linear) for each in (x, pool) if each is not None]
    spectrum = torch.fft.rfft(torch.cat(envelopes)[source])
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

"""What is done to a sample after it was mixed; it touches x only, never labels.

Shapes: n samples [n, ...].
"""

from collections.abc import Callable

import torch
from torch import Tensor

from birdmix.mix.names import POST_NAMES

_EPS = 1e-5


def _peak_guard(x: Tensor) -> tuple[Tensor, Tensor]:
    """Turn down what exceeds full scale, 1."""
    return _peak_to_one(x, at_least=1.0)


def _peak_normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the peak to 1."""
    return _peak_to_one(x, at_least=_EPS)


def _peak_to_one(x: Tensor, at_least: float) -> tuple[Tensor, Tensor]:
    peak = peaks(x).clamp(min=at_least)
    return torch.zeros_like(peak), 1 / peak


def _standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the mean to 0 and the standard deviation to 1."""
    flat = x.flatten(1).float()
    mean = flat.mean(dim=1)
    # Several times as fast here as torch.std_mean.
    deviation = (
        torch.linalg.vector_norm(flat - mean[:, None], dim=1) / max(flat.shape[1] - 1, 1) ** 0.5
    )
    return mean.to(x.dtype), (1 / (deviation + _EPS)).to(x.dtype)


def peaks(x: Tensor) -> Tensor:
    """Return the largest absolute value of each sample, [n], without a copy; 0 of nothing."""
    flat = x.flatten(1)
    if flat.shape[1] == 0:
        return x.new_zeros(len(x))
    return torch.maximum(flat.amax(dim=1), -flat.amin(dim=1))


#: By name: samples [n, ...] -> what to take off and what to multiply with then, [n] each.
POSTS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]] | None] = dict(
    zip(POST_NAMES, (None, _peak_guard, _peak_normalise, _standardise), strict=True)
)

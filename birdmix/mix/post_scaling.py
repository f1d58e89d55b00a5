"""Scaling of mixed examples: peak guard, peak normalisation, standardisation.

Applied to inputs only, never to labels. A scaling is an offset and a factor per example:
(x - offset) * factor.

Shapes: N examples [N, ...].
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Added to standard deviations, and the smallest peak that is scaled to 1.
EPS = 1e-5

#: Scalings of the peak to 1, and the peak below which it is treated as that peak: so peak_guard
#: attenuates peaks above full scale only.
MIN_PEAKS = {"peak_guard": 1.0, "peak_normalise": EPS}


def _scale_peak_to_one(x: "Tensor", min_peak: float) -> "tuple[Tensor, Tensor]":
    """Return the scaling to a peak of 1; peaks below ``min_peak`` are treated as ``min_peak``."""
    peak = peaks(x).clamp(min=min_peak)
    return peak.new_zeros(peak.shape), 1 / peak


def _standardise(x: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the scaling to mean 0 and standard deviation 1."""
    import torch

    flat = x.flatten(1).float()
    mean = flat.mean(dim=1)
    # Several times as fast here as torch.std_mean.
    deviation = (
        torch.linalg.vector_norm(flat - mean[:, None], dim=1) / max(flat.shape[1] - 1, 1) ** 0.5
    )
    return mean.to(x.dtype), (1 / (deviation + EPS)).to(x.dtype)


def peaks(x: "Tensor") -> "Tensor":
    """Return the largest absolute value of each example, without a copy of x.

    Args:
        x: Tensor [N, ...].

    Returns:
        Peaks [N]; 0 for examples without elements.
    """
    flat = x.flatten(1)
    if flat.shape[1] == 0:
        return x.new_zeros(len(x))
    return flat.amax(dim=1).maximum(-flat.amin(dim=1))


#: Scalings by name. Each maps examples [N, ...] to the offset that
#: is subtracted and the factor that the difference is multiplied by, [N] each; None is no scaling.
POSTS: dict[str, "Callable[[Tensor], tuple[Tensor, Tensor]] | None"] = {
    "none": None,
    **{name: partial(_scale_peak_to_one, min_peak=peak) for name, peak in MIN_PEAKS.items()},
    "standardise": _standardise,
}

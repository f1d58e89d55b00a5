"""Losses on soft multi-label targets.

Shapes: B batch, C classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_bce(
    logits: Tensor, target: Tensor, weight: Tensor, known: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Binary cross-entropy with logits: mean over known classes, weighted mean over samples.

    Args:
        logits: [B, C].
        target: Soft targets in [0, 1], [B, C].
        weight: Sample weights, [B].
        known: Which labels were annotated, bool [B, C]; the others do not count.
        smoothing: Targets are drawn towards 0.5 by this share.

    Returns:
        Scalar loss, float32.
    """
    target = target * (1 - smoothing) + 0.5 * smoothing
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    known = known.to(loss.dtype)
    per_sample = (loss * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    return (per_sample * weight).sum() / weight.sum().clamp(min=torch.finfo(loss.dtype).eps)

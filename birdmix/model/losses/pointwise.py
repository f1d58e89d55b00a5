"""Pointwise losses: weighted means over examples, each computed from its own labels only.

So the loss of a batch is the mean of the losses of its parts, weighted by the sums of their sample
weights.

Shapes: B batch, C classes.
"""

import torch
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn
from torch.nn import functional as F

# Logit of masked entries: far below all others, but finite, and so are sums of several.
MASKED_LOGIT = -1e30
EPS = torch.finfo(torch.float32).eps


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of values [N], weights [N]; 0 if all weights are 0."""
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(values.dtype).eps)


class MaskedMeanLoss(nn.Module):
    """Mean of an element-wise loss over the known labels of an example, weighted over examples.

    Args:
        elementwise: Maps logits and targets, [B, C] each, to losses [B, C].
        class_weight: Weights of the classes, [C]; None is 1 for all.
    """

    class_weight: Tensor | None

    def __init__(self, elementwise: nn.Module, class_weight: Tensor | None = None) -> None:
        super().__init__()
        self.elementwise = elementwise
        self.register_buffer("class_weight", class_weight)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: [B, C].
            target: Soft targets in [0, 1], [B, C].
            weight: Sample weights, [B].
            known: Which labels were annotated, bool [B, C]; the others are ignored.
        """
        mask = known.float()
        losses = self.elementwise(logits.float(), target * mask)
        if self.class_weight is not None:
            losses = losses * self.class_weight
        per_example = (losses * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return weighted_mean(per_example, weight)


class CrossEntropy(nn.Module):
    """Softmax cross-entropy with targets that are scaled to a sum of 1.

    Unknown classes are excluded from the softmax; an example without labels has the loss 0.

    Args:
        smoothing: Fraction of the targets that is spread evenly over the known classes.
        class_weight: Weights of the classes' targets, [C]; None is 1 for all.
    """

    class_weight: Tensor | None

    def __init__(self, smoothing: float = 0.0, class_weight: Tensor | None = None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("class_weight", class_weight)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``MaskedMeanLoss``."""
        mask = known.float()
        target = target * mask
        total = target.sum(dim=1, keepdim=True)
        uniform = mask / mask.sum(dim=1, keepdim=True).clamp(min=1) * (total > 0)
        scaled = target / total.clamp(min=EPS) * (1 - self.smoothing) + uniform * self.smoothing
        if self.class_weight is not None:
            scaled = scaled * self.class_weight
        log_probability = logits.float().masked_fill(~known, MASKED_LOGIT).log_softmax(dim=1)
        return weighted_mean(-(scaled * log_probability).sum(dim=1), weight)


class BinaryCrossEntropy(nn.Module):
    """Element-wise binary cross-entropy.

    Args:
        smoothing: Fraction by which targets are moved towards 0.5.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each label, [B, C]."""
        target = target * (1 - self.smoothing) + 0.5 * self.smoothing
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


class Focal(nn.Module):
    """Element-wise focal loss: binary cross-entropy, less where probability p and target y agree.

    ``(alpha y + (1 - alpha) (1 - y)) |y - p|^gamma`` times the cross-entropy; the minimum is at
    p = y. Source: Lin et al. 2017, arXiv:1708.02002, for targets of 0 and 1. Departure: soft
    targets use |y - p| as in the quality focal loss, Li et al. 2020, arXiv:2006.04388, which has no
    alpha.

    Args:
        gamma: Focusing exponent: 0, or at least 1.
        alpha: Weight of positives, in [0, 1]; negatives have the rest.
        smoothing: Fraction by which targets are moved towards 0.5.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, smoothing: float = 0.0) -> None:
        super().__init__()
        self.gamma, self.alpha, self.smoothing = gamma, alpha, smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each label, [B, C]."""
        target = target * (1 - self.smoothing) + 0.5 * self.smoothing
        alpha_weight = self.alpha * target + (1 - self.alpha) * (1 - target)
        difference = (torch.sigmoid(logits) - target).abs()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return alpha_weight * difference**self.gamma * entropy


class Asymmetric(AsymmetricLossMultiLabel):
    """timm's asymmetric loss, element-wise.

    Source: Ridnik et al. 2020, arXiv:2009.14119.

    Args:
        gamma_neg: Focusing exponent of negatives: 0, or at least 1.
        gamma_pos: Focusing exponent of positives: 0, or at least 1.
        clip: Probability below which a negative has no loss, in [0, 1].
        smoothing: Fraction by which targets are moved towards 0.5.
    """

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(gamma_neg, gamma_pos, clip, smoothing=smoothing, reduction="none")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each label, [B, C]."""
        # Mixed targets can exceed 1 by rounding, and the power of the negative difference is nan.
        return super().forward(x, y.clamp(0, 1))

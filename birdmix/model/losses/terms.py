"""Losses that are means over samples, each of its labels: shares of a batch add up to the whole.

Shapes: B batch, C classes.
"""

import torch
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn
from torch.nn import functional as F

# The logit of what takes no part: far below all others, and finite, as are sums of some.
NEVER = -1e30
EPS = torch.finfo(torch.float32).eps


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of values [N] by their weights [N]; 0 where nothing weighs."""
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(values.dtype).eps)


class MeanOfTerms(nn.Module):
    """Mean of a term over the known labels of a sample, then by weight over the samples.

    Args:
        term: Takes logits and targets, [B, C] each, to a term for each.
        class_weight: What each label counts, [C]; None counts all alike.
    """

    class_weight: Tensor | None

    def __init__(self, term: nn.Module, class_weight: Tensor | None = None) -> None:
        super().__init__()
        self.term = term
        self.register_buffer("class_weight", class_weight)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: [B, C].
            target: Soft targets in [0, 1], [B, C].
            weight: Sample weights, [B].
            known: Which labels were annotated, bool [B, C]; the others do not count.
        """
        counts = known.float()
        terms = self.term(logits.float(), target * counts)
        if self.class_weight is not None:
            terms = terms * self.class_weight
        per_sample = (terms * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        return weighted_mean(per_sample, weight)


class CrossEntropy(nn.Module):
    """Softmax cross-entropy against targets that are scaled to a sum of 1.

    An unknown class is not in the softmax, and a sample without labels adds 0 to the mean.

    Args:
        smoothing: This share of the targets is spread evenly over the known classes.
        class_weight: What the target of each class counts, [C]; None counts all alike.
    """

    class_weight: Tensor | None

    def __init__(self, smoothing: float = 0.0, class_weight: Tensor | None = None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("class_weight", class_weight)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``MeanOfTerms``."""
        counts = known.float()
        target = target * counts
        total = target.sum(dim=1, keepdim=True)
        evenly = counts / counts.sum(dim=1, keepdim=True).clamp(min=1) * (total > 0)
        share = target / total.clamp(min=EPS) * (1 - self.smoothing) + evenly * self.smoothing
        if self.class_weight is not None:
            share = share * self.class_weight
        log_probability = logits.float().masked_fill(~known, NEVER).log_softmax(dim=1)
        return weighted_mean(-(share * log_probability).sum(dim=1), weight)


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy.

    Args:
        smoothing: Targets are drawn towards 0.5 by this share.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a term for each of logits and targets, [B, C]."""
        target = target * (1 - self.smoothing) + 0.5 * self.smoothing
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


class Focal(nn.Module):
    """Binary cross-entropy, less of it where probability p and target y already agree.

    ``(alpha y + (1 - alpha) (1 - y)) |y - p|^gamma`` times the cross-entropy, which is least at
    p = y. Source: Lin et al. 2017, arXiv:1708.02002, of which it is the loss for targets of 0 and
    1; between them |y - p| as in the quality focal loss, Li et al. 2020, arXiv:2006.04388, which
    has no alpha.

    Args:
        gamma: Exponent: 0, or at least 1.
        alpha: What positives count, in [0, 1]; negatives count the rest.
        smoothing: Targets are drawn towards 0.5 by this share.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, smoothing: float = 0.0) -> None:
        super().__init__()
        self.gamma, self.alpha, self.smoothing = gamma, alpha, smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a term for each of logits and targets, [B, C]."""
        target = target * (1 - self.smoothing) + 0.5 * self.smoothing
        side = self.alpha * target + (1 - self.alpha) * (1 - target)
        apart = (torch.sigmoid(logits) - target).abs()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return side * apart**self.gamma * entropy


class Asymmetric(AsymmetricLossMultiLabel):
    """timm's asymmetric loss, term by term.

    Source: Ridnik et al. 2020, arXiv:2009.14119.

    Args:
        gamma_neg: Exponent that negatives are focused by: 0, or at least 1.
        gamma_pos: The same of positives.
        clip: Probability below which a negative costs nothing.
        smoothing: Targets are drawn towards 0.5 by this share.
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
        """Return a term for each of logits and targets, [B, C]."""
        # Blended ones can exceed 1 by a rounding, and the power of what is then below 0 is nan.
        return super().forward(x, y.clamp(0, 1))

"""Pointwise losses: weighted means over examples, each computed from its own labels only.

So the loss of a batch is the mean of the losses of its parts, weighted by the sums of their sample
weights.

Shapes: B batch, C classes.
"""

import numpy as np
import torch
from timm.loss import AsymmetricLossMultiLabel, DistributionBalancedLoss
from torch import Tensor
from torch.nn import functional as F

from birdmix.model.loss_settings import LossSettings
from birdmix.model.losses.logit_loss import EPS, MASKED_LOGIT, LogitLoss, weighted_mean


class ElementwiseLoss(LogitLoss):
    """Base class: mean of the losses of an example's known labels, weighted over examples."""

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``LogitLoss``."""
        mask = known.float()
        losses = self.label_losses(logits.float(), target * mask)
        if self.class_weight is not None:
            losses = losses * self.class_weight
        per_example = (losses * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return weighted_mean(per_example, weight)

    def label_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each label, [B, C], from logits and targets, [B, C] each."""
        raise NotImplementedError

    def smooth(self, target: Tensor) -> Tensor:
        """Move targets towards 0.5."""
        return target * (1 - self.smoothing) + 0.5 * self.smoothing


class BinaryCrossEntropy(ElementwiseLoss):
    """Binary cross-entropy of each label."""

    def label_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each label, [B, C], from logits and targets, [B, C] each."""
        return F.binary_cross_entropy_with_logits(logits, self.smooth(target), reduction="none")


class Focal(ElementwiseLoss):
    """Focal loss: binary cross-entropy, less where probability p and target y agree.

    ``(alpha y + (1 - alpha) (1 - y)) |y - p|^gamma`` times the cross-entropy; the minimum is at
    p = y. Source: Lin et al. 2017, arXiv:1708.02002, for targets of 0 and 1. Departure: soft
    targets use |y - p| as in the quality focal loss, Li et al. 2020, arXiv:2006.04388, which has no
    alpha.
    """

    def label_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each label, [B, C], from logits and targets, [B, C] each."""
        gamma, alpha = self.loss_parameters["gamma"], self.loss_parameters["alpha"]
        target = self.smooth(target)
        alpha_weight = alpha * target + (1 - alpha) * (1 - target)
        difference = (torch.sigmoid(logits) - target).abs()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return alpha_weight * difference**gamma * entropy


class Asymmetric(ElementwiseLoss):
    """Asymmetric loss, as timm has it.

    Source: Ridnik et al. 2020, arXiv:2009.14119.
    """

    def __init__(
        self, settings: LossSettings, label_counts: np.ndarray, num_recordings: int
    ) -> None:
        super().__init__(settings, label_counts, num_recordings)
        gammas = self.loss_parameters["gamma_neg"], self.loss_parameters["gamma_pos"]
        self.timm_loss = AsymmetricLossMultiLabel(
            *gammas, self.loss_parameters["clip"], smoothing=self.smoothing, reduction="none"
        )

    def label_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each label, [B, C], from logits and targets, [B, C] each."""
        # Mixed targets can exceed 1 by rounding, and the power of the negative difference is nan.
        return self.timm_loss(logits, target.clamp(0, 1))


class DistributionBalanced(ElementwiseLoss):
    """Distribution-balanced loss, as timm has it: labels are weighted by the label counts.

    Source: Wu et al. 2020, arXiv:2007.09654.

    Raises:
        ValueError: If there are fewer than two training recordings.
    """

    def __init__(
        self, settings: LossSettings, label_counts: np.ndarray, num_recordings: int
    ) -> None:
        super().__init__(settings, label_counts, num_recordings)
        if num_recordings < 2:
            raise ValueError(
                "loss.name=distribution_balanced needs 2 training recordings or more; "
                f"there is {num_recordings}"
            )
        self.timm_loss = DistributionBalancedLoss(
            torch.as_tensor(label_counts),
            num_recordings,
            smoothing=self.smoothing,
            reduction="none",
        )

    def label_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each label, [B, C], from logits and targets, [B, C] each."""
        return self.timm_loss(logits, target)


class CrossEntropy(LogitLoss):
    """Softmax cross-entropy with targets that are scaled to a sum of 1.

    Unknown classes are excluded from the softmax; an example without labels has the loss 0.
    """

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``LogitLoss``."""
        mask = known.float()
        target = target * mask
        total = target.sum(dim=1, keepdim=True)
        uniform = mask / mask.sum(dim=1, keepdim=True).clamp(min=1) * (total > 0)
        scaled = target / total.clamp(min=EPS) * (1 - self.smoothing) + uniform * self.smoothing
        if self.class_weight is not None:
            scaled = scaled * self.class_weight
        log_probability = logits.float().masked_fill(~known, MASKED_LOGIT).log_softmax(dim=1)
        return weighted_mean(-(scaled * log_probability).sum(dim=1), weight)

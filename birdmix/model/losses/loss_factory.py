"""Building the loss of the settings, with class weights and a second term on the frame logits.

Shapes: B batch, C classes.
"""

from collections.abc import Callable

import numpy as np
import torch
from timm.loss import DistributionBalancedLoss
from torch import Tensor, nn

from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.losses.pairwise import SoftAUC, TwoWay
from birdmix.model.losses.pointwise import (
    Asymmetric,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    MaskedMeanLoss,
)
from birdmix.model.settings import LossSettings

#: Maps output, targets [B, C], sample weights [B] and known labels, bool [B, C], to a scalar.
Loss = Callable[[ClassifierOutput, Tensor, Tensor, Tensor], Tensor]

_DEFAULT_FRAME_WEIGHT = 0.5
_EFFECTIVE_BETA = 0.999


class LossWithFrames(nn.Module):
    """Weighted sum of the loss of the logits and that of the maximum over the frame logits.

    Args:
        loss: Loss of logits [B, C].
        frame_weight: Weight of the frame logits, in [0, 1); 0 ignores them.
    """

    def __init__(self, loss: nn.Module, frame_weight: float) -> None:
        super().__init__()
        self.loss, self.frame_weight = loss, frame_weight

    def forward(
        self, output: ClassifierOutput, target: Tensor, weight: Tensor, known: Tensor
    ) -> Tensor:
        """Return the loss of a batch, a scalar; the arguments are those of ``Loss``."""
        loss = self.loss(output.logits, target, weight, known)
        if not self.frame_weight:
            return loss
        frame_loss = self.loss(output.max_frame_logits, target, weight, known)
        return (1 - self.frame_weight) * loss + self.frame_weight * frame_loss


def build_loss(
    settings: LossSettings, label_counts: np.ndarray, num_recordings: int, has_frames: bool
) -> LossWithFrames:
    """Build a loss.

    Args:
        settings: Loss, its parameters, class weights and frame weight.
        label_counts: Training recordings with each label, [C].
        num_recordings: Training recordings.
        has_frames: Whether the head computes frame logits.

    Raises:
        ValueError: If the loss needs frame logits that the head has not, or more recordings.
    """
    check_frame_weight(settings, has_frames)
    frame_weight = settings.frame_weight
    if frame_weight is None:
        frame_weight = _DEFAULT_FRAME_WEIGHT if has_frames else 0.0
    return LossWithFrames(_build_logit_loss(settings, label_counts, num_recordings), frame_weight)


def check_frame_weight(settings: LossSettings, has_frames: bool) -> None:
    """Check that the head computes frame logits if the loss has a weight for them.

    Raises:
        ValueError: If it does not.
    """
    if settings.frame_weight and not has_frames:
        raise ValueError(
            f"loss.frame_weight={settings.frame_weight}: this head computes no frame logits; "
            "leave it out, or use model.head=sed"
        )


def _build_logit_loss(
    settings: LossSettings, label_counts: np.ndarray, num_recordings: int
) -> nn.Module:
    """Build a loss of logits [B, C]."""
    parameters, smoothing = settings.parameters, settings.smoothing
    class_weight = class_weights(settings.class_weight, label_counts)
    match settings.name:
        case "bce":
            return MaskedMeanLoss(BinaryCrossEntropy(smoothing), class_weight)
        case "focal":
            return MaskedMeanLoss(Focal(smoothing=smoothing, **parameters), class_weight)
        case "asymmetric":
            return MaskedMeanLoss(Asymmetric(smoothing=smoothing, **parameters), class_weight)
        case "distribution_balanced":
            if num_recordings < 2:
                raise ValueError(
                    "loss.name=distribution_balanced needs 2 training recordings or more; "
                    f"there is {num_recordings}"
                )
            balanced = DistributionBalancedLoss(
                torch.as_tensor(label_counts),
                num_recordings,
                smoothing=smoothing,
                reduction="none",
            )
            return MaskedMeanLoss(balanced)
        case "cross_entropy":
            return CrossEntropy(smoothing, class_weight)
        case "soft_auc":
            return SoftAUC(class_weight)
        case "two_way":
            return TwoWay(**parameters)
    raise AssertionError(settings.name)  # LossSettings checks the name


def class_weights(kind: str, label_counts: np.ndarray) -> Tensor | None:
    """Return class weights, float32 [C] with mean 1; None for ``none``.

    A class without recordings has the weight of a class with one recording. Source of
    ``effective``: Cui et al. 2019, arXiv:1901.05555, with its beta of 0.999.

    Args:
        kind: none, inverse, sqrt or effective.
        label_counts: Training recordings with each label, [C].
    """
    counts = torch.as_tensor(label_counts, dtype=torch.float64).clamp(min=1)
    match kind:
        case "none":
            return None
        case "inverse":
            weights = 1 / counts
        case "sqrt":
            weights = counts**-0.5
        case "effective":
            weights = (1 - _EFFECTIVE_BETA) / (1 - _EFFECTIVE_BETA**counts)
    return (weights / weights.mean()).float()

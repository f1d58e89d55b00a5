"""From settings to a loss of clips and frames.

Shapes: B batch, C classes.
"""

from collections.abc import Callable

import numpy as np
import torch
from timm.loss import DistributionBalancedLoss
from torch import Tensor, nn

from birdmix.model.logits import Logits
from birdmix.model.losses.contrasts import SoftAUC, TwoWay
from birdmix.model.losses.terms import (
    Asymmetric,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    MeanOfTerms,
)
from birdmix.model.settings import LossSettings

#: Takes logits, targets [B, C], sample weights [B] and known labels, bool [B, C], to a scalar.
Loss = Callable[[Logits, Tensor, Tensor, Tensor], Tensor]

_FRAME_SHARE = 0.5
_EFFECTIVE_BETA = 0.999


class OfClipsAndFrames(nn.Module):
    """The loss of clips, joined by that of the maximum over their frames.

    Args:
        loss: Of logits [B, C].
        frame_share: Share of the frames in it, in [0, 1); 0 does not look at them.
    """

    def __init__(self, loss: nn.Module, frame_share: float) -> None:
        super().__init__()
        self.loss, self.frame_share = loss, frame_share

    def forward(self, logits: Logits, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar; its arguments are those of ``Loss``."""
        clip = self.loss(logits.clip, target, weight, known)
        if not self.frame_share:
            return clip
        frames = self.loss(logits.frame_maximum, target, weight, known)
        return (1 - self.frame_share) * clip + self.frame_share * frames


def build_loss(
    settings: LossSettings, label_counts: np.ndarray, num_recordings: int, has_frames: bool
) -> OfClipsAndFrames:
    """Make a loss.

    Args:
        settings: What to build.
        label_counts: Training recordings that hold each label, [C].
        num_recordings: Training recordings.
        has_frames: Whether the head hears frames.

    Raises:
        ValueError: If the loss needs frames or recordings that are not there.
    """
    if settings.frame_share and not has_frames:
        raise ValueError(
            f"loss.frame_share={settings.frame_share}: this head hears no frames; leave it out, or "
            "take one that does (model.head=sed)"
        )
    share = settings.frame_share
    if share is None:
        share = _FRAME_SHARE if has_frames else 0.0
    return OfClipsAndFrames(_of_clips(settings, label_counts, num_recordings), share)


def _of_clips(settings: LossSettings, label_counts: np.ndarray, num_recordings: int) -> nn.Module:
    """Make a loss of logits [B, C]."""
    numbers, smoothing = settings.numbers, settings.smoothing
    class_weight = class_weights(settings.class_weight, label_counts)
    match settings.name:
        case "bce":
            return MeanOfTerms(BinaryCrossEntropy(smoothing), class_weight)
        case "focal":
            return MeanOfTerms(Focal(smoothing=smoothing, **numbers), class_weight)
        case "asymmetric":
            return MeanOfTerms(Asymmetric(smoothing=smoothing, **numbers), class_weight)
        case "distribution_balanced":
            if num_recordings < 2:
                raise ValueError(
                    "loss.name=distribution_balanced balances what 2 recordings or more hold; "
                    f"there is {num_recordings} to train on"
                )
            balanced = DistributionBalancedLoss(
                torch.as_tensor(label_counts),
                num_recordings,
                smoothing=smoothing,
                reduction="none",
            )
            return MeanOfTerms(balanced)
        case "cross_entropy":
            return CrossEntropy(smoothing, class_weight)
        case "soft_auc":
            return SoftAUC(class_weight)
        case "two_way":
            return TwoWay(**numbers)
    raise AssertionError(settings.name)  # its settings know the names


def class_weights(kind: str, label_counts: np.ndarray) -> Tensor | None:
    """Return what each class counts, float32 [C] with mean 1; None if all count alike.

    A class that no recording holds counts as if one did. Source of ``effective``: Cui et al. 2019,
    arXiv:1901.05555, with its beta of 0.999.
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

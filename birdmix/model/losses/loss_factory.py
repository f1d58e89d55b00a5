"""Building the loss of the settings, with a second term on the frame logits.

Shapes: B batch, C classes.
"""

import pkgutil
from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.loss_settings import LOSSES, LossSettings
from birdmix.model.losses.logit_loss import LogitLoss

#: Maps output, targets [B, C], sample weights [B] and known labels, bool [B, C], to a scalar.
Loss = Callable[[ClassifierOutput, Tensor, Tensor, Tensor], Tensor]

_DEFAULT_FRAME_WEIGHT = 0.5


class LossWithFrames(nn.Module):
    """Weighted sum of the loss of the logits and that of the maximum over the frame logits.

    Args:
        loss: Loss of logits [B, C].
        frame_weight: Weight of the frame logits, in [0, 1); 0 ignores them.
    """

    def __init__(self, loss: LogitLoss, frame_weight: float) -> None:
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
    loss_class = pkgutil.resolve_name(f"{__package__}.{LOSSES[settings.name].class_path}")
    return LossWithFrames(loss_class(settings, label_counts, num_recordings), frame_weight)


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

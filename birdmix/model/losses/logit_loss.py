"""Base class of losses of logits, class weights, and weighted means.

Shapes: B batch, C classes.
"""

import numpy as np
import torch
from torch import Tensor, nn

from birdmix.model.loss_settings import CLASS_WEIGHTS, LossSettings

# Logit of masked entries: far below all others, but finite, and so are sums of several.
MASKED_LOGIT = -1e30
EPS = torch.finfo(torch.float32).eps


class LogitLoss(nn.Module):
    """Base class of losses of logits [B, C], with weights of the classes.

    Args:
        settings: The loss's parameters, smoothing and class weights.
        label_counts: Training recordings with each label, [C].
        num_recordings: Training recordings.
    """

    class_weight: Tensor | None

    def __init__(
        self, settings: LossSettings, label_counts: np.ndarray, num_recordings: int
    ) -> None:
        super().__init__()
        self.loss_parameters, self.smoothing = settings.parameters, settings.smoothing
        self.register_buffer("class_weight", class_weights(settings.class_weight, label_counts))

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: [B, C].
            target: Soft targets in [0, 1], [B, C].
            weight: Sample weights, [B].
            known: Which labels were annotated, bool [B, C]; the others are ignored.
        """
        raise NotImplementedError


def class_weights(name: str, label_counts: np.ndarray) -> Tensor | None:
    """Return class weights, float32 [C] with mean 1; None for ``none``.

    A class without recordings has the weight of a class with one recording.

    Args:
        name: A name of ``CLASS_WEIGHTS``.
        label_counts: Training recordings with each label, [C].
    """
    compute = CLASS_WEIGHTS[name]
    if compute is None:
        return None
    weights = compute(torch.as_tensor(label_counts, dtype=torch.float64).clamp(min=1))
    return (weights / weights.mean()).float()


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of values [N], weights [N]; 0 if all weights are 0."""
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(values.dtype).eps)

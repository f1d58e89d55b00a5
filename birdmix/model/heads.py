"""Heads: pooling of a feature map and the last layers, which compute the logits.

Shapes: B batch, D features, h frequency and w time of the feature map, C classes.
"""

import pkgutil
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.settings import HEADS, ModelSettings


class Head(nn.Module):
    """Base class of heads: pooling, then dropout with one or several masks per example in training.

    Training with several masks converges faster; the pooled features are computed once for all.
    Source: Inoue 2019, arXiv:1905.09788, which averages the losses; here the logits are averaged.

    Args:
        settings: Probability of dropout and number of masks.
    """

    #: Names of the layers whose weights have a row for each class.
    class_layers: ClassVar[tuple[str, ...]] = ("classes",)

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.num_dropouts = settings.num_dropouts

    def forward(
        self, features: Tensor, mix_pooled: Callable[[Tensor], Tensor] | None = None
    ) -> ClassifierOutput:
        """Compute logits [B, C], and frame logits if the head has them.

        Args:
            features: Feature map, [B, D, h, w].
            mix_pooled: Mixes the pooled features, in training; it keeps their shape.
        """
        pooled = self.pool_features(features)
        if mix_pooled is not None:
            pooled = mix_pooled(pooled)
        if not self.training or self.num_dropouts == 1:
            return self.classify(pooled)
        outputs = [self.classify(pooled) for _ in range(self.num_dropouts)]
        logits = torch.stack([output.logits for output in outputs]).mean(dim=0)
        frames = [output.frame_logits for output in outputs if output.frame_logits is not None]
        return ClassifierOutput(logits, torch.stack(frames).mean(dim=0) if frames else None)

    def pool_features(self, features: Tensor) -> Tensor:
        """Pool a feature map [B, D, h, w]: the features that dropout masks."""
        raise NotImplementedError

    def classify(self, pooled: Tensor) -> ClassifierOutput:
        """Apply dropout to pooled features, and compute logits."""
        raise NotImplementedError


class PoolingHead(Head):
    """Pooling over frequency and time, then one linear layer.

    Args:
        settings: Probability of dropout and number of masks.
        width: Features D.
        num_classes: Classes C.
    """

    #: Module that pools [B, D, h, w] to [B, D].
    pool_class: ClassVar[type[nn.Module]]

    def __init__(self, settings: ModelSettings, width: int, num_classes: int) -> None:
        super().__init__(settings)
        self.pool = self.pool_class()
        self.classes = nn.Linear(width, num_classes)

    def pool_features(self, features: Tensor) -> Tensor:
        """Pool [B, D, h, w] to [B, D]."""
        return self.pool(features)

    def classify(self, pooled: Tensor) -> ClassifierOutput:
        """Compute logits [B, C] from pooled features [B, D]."""
        return ClassifierOutput(self.classes(self.dropout(pooled)))


class AveragePooling(nn.Module):
    """Average pooling of a feature map."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool [B, D, h, w] to [B, D]."""
        return features.mean(dim=(-2, -1))


class GeneralisedMeanPooling(nn.Module):
    """GeM pooling of a feature map: a power mean with a learned exponent.

    Source: Radenovic et al. 2018, arXiv:1711.02512.

    Args:
        exponent: Initial exponent.
        eps: Lower limit of the features.
    """

    def __init__(self, exponent: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(exponent))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Pool [B, D, h, w] to [B, D], in float32."""
        powered = features.float().clamp(min=self.eps).pow(self.exponent)
        return powered.mean(dim=(-2, -1)).pow(1 / self.exponent)


class AverageHead(PoolingHead):
    """Average pooling, then one linear layer."""

    pool_class = AveragePooling


class GeneralisedMeanHead(PoolingHead):
    """GeM pooling, then one linear layer."""

    pool_class = GeneralisedMeanPooling


class SoundEventHead(Head):
    """Frame logits, and logits by an attention over frames of each class.

    Source: the decision-level attention of PANNs, Kong et al. 2020, arXiv:1912.10211, after the
    mean over frequency. Departures: the attention weights logits instead of probabilities, so that
    the whole input has logits too; the smoothing does not pad the first and last frame with zeros.

    Args:
        settings: Probability of dropout and number of masks.
        width: Features D.
        num_classes: Classes C.
    """

    class_layers = ("attention", "classes")

    def __init__(self, settings: ModelSettings, width: int, num_classes: int) -> None:
        super().__init__(settings)
        self.hidden = nn.Linear(width, width)
        self.attention = nn.Linear(width, num_classes)
        self.classes = nn.Linear(width, num_classes)

    def pool_features(self, features: Tensor) -> Tensor:
        """Pool [B, D, h, w] over frequency to [B, D, w], smoothed over three frames."""
        frames = features.mean(dim=-2)
        highest = F.max_pool1d(frames, 3, stride=1, padding=1)
        return highest + F.avg_pool1d(frames, 3, stride=1, padding=1, count_include_pad=False)

    def classify(self, pooled: Tensor) -> ClassifierOutput:
        """Compute logits [B, C] and frame logits [B, C, w] from features [B, D, w]."""
        hidden = F.relu(self.hidden(self.dropout(pooled).transpose(1, 2)))
        hidden = self.dropout(hidden)
        frames = self.classes(hidden).transpose(1, 2)
        weights = self.attention(hidden).transpose(1, 2).softmax(dim=-1)
        return ClassifierOutput((weights * frames).sum(dim=-1), frames)


def build_head(settings: ModelSettings, width: int, num_classes: int) -> Head:
    """Build the head of the settings, with random weights.

    Args:
        settings: Kind of head, dropout probability and number of dropout masks.
        width: Features D of the feature map.
        num_classes: Classes C.
    """
    head_class = pkgutil.resolve_name(f"{__name__}:{HEADS[settings.head].class_name}")
    return head_class(settings, width, num_classes)

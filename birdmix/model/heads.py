"""Heads: from the feature map of a clip to its logits.

Shapes: B batch, D features, h frequency, w time of the feature map, C classes.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from birdmix.model.logits import Logits
from birdmix.model.settings import ModelSettings


class Head(nn.Module):
    """What all heads share: dropout, of which training may draw several masks.

    A network under several masks learns faster; what is heard before them is computed once.
    Source: Inoue 2019, arXiv:1905.09788; here the logits are averaged, there the losses.

    Args:
        dropout: Share of features that a mask drops.
        num_dropouts: Masks per sample.
    """

    #: The layers whose weights have a row for each class.
    per_class: ClassVar[tuple[str, ...]] = ("classes",)

    def __init__(self, dropout: float, num_dropouts: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.num_dropouts = num_dropouts

    def forward(self, features: Tensor) -> Logits:
        """Take a feature map [B, D, h, w] to logits."""
        heard = self.hear(features)
        if not self.training or self.num_dropouts == 1:
            return self.judge(heard)
        judged = [self.judge(heard) for _ in range(self.num_dropouts)]
        clip = torch.stack([each.clip for each in judged]).mean(dim=0)
        frames = [each.frames for each in judged if each.frames is not None]
        return Logits(clip, torch.stack(frames).mean(dim=0) if frames else None)

    def hear(self, features: Tensor) -> Tensor:
        """Take a feature map to what a mask is drawn for."""
        raise NotImplementedError

    def judge(self, heard: Tensor) -> Logits:
        """Draw a mask, and take what is left of it to logits."""
        raise NotImplementedError


class PoolingHead(Head):
    """Pool the feature map, then judge it: one linear layer.

    Args:
        pool: From [B, D, h, w] to [B, D].
        width: Features D.
        num_classes: Classes C.
        dropout: Share of features that a mask drops.
        num_dropouts: Masks per sample.
    """

    def __init__(
        self, pool: nn.Module, width: int, num_classes: int, dropout: float, num_dropouts: int
    ) -> None:
        super().__init__(dropout, num_dropouts)
        self.pool = pool
        self.classes = nn.Linear(width, num_classes)

    def hear(self, features: Tensor) -> Tensor:
        """Pool [B, D, h, w] to [B, D]."""
        return self.pool(features)

    def judge(self, heard: Tensor) -> Logits:
        """Take [B, D] to logits of clips."""
        return Logits(self.classes(self.dropout(heard)))


class Average(nn.Module):
    """Pool a feature map by its mean."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool [B, D, h, w] to [B, D]."""
        return features.mean(dim=(-2, -1))


class GeneralisedMean(nn.Module):
    """Pool a feature map by a power mean with a learned exponent.

    Source: Radenovic et al. 2018, arXiv:1711.02512.
    """

    def __init__(self, exponent: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(exponent))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Pool [B, D, h, w] to [B, D], in float32."""
        powered = features.float().clamp(min=self.eps).pow(self.exponent)
        return powered.mean(dim=(-2, -1)).pow(1 / self.exponent)


class SoundEventHead(Head):
    """Hear every frame, and let each class attend to the frames it is in.

    Source: the decision-level attention of PANNs, Kong et al. 2020, arXiv:1912.10211, after the
    mean over frequency. Departures: the attention weighs logits, there probabilities, so that a
    clip has logits too; the smoothing does not draw the first and last frame towards silence.

    Args:
        width: Features D.
        num_classes: Classes C.
        dropout: Share of features that a mask drops.
        num_dropouts: Masks per sample.
    """

    per_class = ("attention", "classes")

    def __init__(self, width: int, num_classes: int, dropout: float, num_dropouts: int) -> None:
        super().__init__(dropout, num_dropouts)
        self.hidden = nn.Linear(width, width)
        self.attention = nn.Linear(width, num_classes)
        self.classes = nn.Linear(width, num_classes)

    def hear(self, features: Tensor) -> Tensor:
        """Take [B, D, h, w] to [B, D, w], smoothed over three frames."""
        frames = features.mean(dim=-2)
        highest = F.max_pool1d(frames, 3, stride=1, padding=1)
        return highest + F.avg_pool1d(frames, 3, stride=1, padding=1, count_include_pad=False)

    def judge(self, heard: Tensor) -> Logits:
        """Take [B, D, w] to logits of clips and of their frames."""
        hidden = F.relu(self.hidden(self.dropout(heard).transpose(1, 2)))
        hidden = self.dropout(hidden)
        frames = self.classes(hidden).transpose(1, 2)
        weights = self.attention(hidden).transpose(1, 2).softmax(dim=-1)
        return Logits((weights * frames).sum(dim=-1), frames)


def build_head(settings: ModelSettings, width: int, num_classes: int) -> Head:
    """Make the head that the settings name, over D = ``width`` features."""
    masks = settings.dropout, settings.num_dropouts
    if settings.head == "sed":
        return SoundEventHead(width, num_classes, *masks)
    pool = GeneralisedMean() if settings.head == "gem" else Average()
    return PoolingHead(pool, width, num_classes, *masks)

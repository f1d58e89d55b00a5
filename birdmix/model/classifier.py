"""A timm backbone with a pooling head.

Shapes: B batch, M mel bins, F frames, D features, C classes.
"""

from collections.abc import Callable
from typing import Any

import timm
import timm.layers
import torch
from torch import Tensor, nn

from birdmix.model.settings import ModelSettings
from birdmix.suggest import did_you_mean


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


class Classifier(nn.Module):
    """Log-mel spectrograms [B, 1, M, F] to logits [B, C].

    Args:
        settings: What to build.
        num_classes: Classes C.

    Raises:
        ValueError: If timm knows no such backbone.
    """

    def __init__(self, settings: ModelSettings, num_classes: int) -> None:
        super().__init__()
        self.backbone = _backbone(settings)
        self.pool = GeneralisedMean() if settings.pool == "gem" else None
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(self.backbone.num_features, num_classes)

    def forward(
        self, mel: Tensor, mix_features: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return logits, [B, C].

        Args:
            mel: Log-mel spectrograms, [B, 1, M, F].
            mix_features: What training does to the feature map [B, D, h, w] before the head.
        """
        features = self.backbone(mel)
        if mix_features is not None:
            features = mix_features(features)
        pooled = features.mean(dim=(-2, -1)) if self.pool is None else self.pool(features)
        return self.head(self.dropout(pooled))


def _backbone(settings: ModelSettings) -> Any:
    if not timm.is_model(settings.backbone):
        raise ValueError(
            f"model.backbone={settings.backbone!r} is no timm model"
            f"{did_you_mean(settings.backbone, timm.list_models())}"
        )
    arguments = {str(name): value for name, value in settings.backbone_args.items()}
    try:
        return timm.create_model(
            settings.backbone,
            pretrained=settings.pretrained,
            in_chans=1,
            num_classes=0,
            global_pool="",
            **arguments,
        )
    except TypeError as error:
        raise ValueError(
            f"model.backbone_args={arguments}: {settings.backbone} does not take them ({error})"
        ) from error


def channels_last(classifier: Classifier) -> Classifier:
    """Lay the weights out channels last, which convolutions prefer; the results stay the same."""
    return classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def synchronised(classifier: Classifier) -> Classifier:
    """Let batch norms see the batch of all processes; names and values of the weights stay.

    Torch's own converter would lose the activation inside of timm's batch norms.
    """
    return timm.layers.convert_sync_batchnorm(classifier)


def compiled(classifier: Classifier) -> Classifier:
    """Compile the backbone in place, on its first call; names of the weights stay.

    For each shape apart: code that fits several shapes rounds differently, and which one is used
    would depend on what came before.
    """
    classifier.backbone.compile(dynamic=False)
    return classifier

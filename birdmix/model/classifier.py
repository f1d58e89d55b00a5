"""A timm backbone with a head.

Shapes: B batch, M mel bins, F frames, D features, h frequency, w time of the feature map,
C classes, P parts.
"""

from collections.abc import Callable

import timm.layers
import timm.models
import torch
from torch import Tensor, nn

from birdmix.frontend.deltas import deltas
from birdmix.model.backbone import build_backbone
from birdmix.model.heads import build_head
from birdmix.model.logits import Logits
from birdmix.model.settings import ModelSettings

_PREFIX = "backbone."


class Classifier(nn.Module):
    """Log-mel spectrograms [B, 1, M, F] to logits [B, C], and of frames if the head hears them.

    Args:
        settings: What to build.
        num_classes: Classes C.
        picture: Mel bins and frames of what it is going to hear, if that is known.
        softmax: Whether it is trained to tell which one of the classes is there. Outside of
            training its logits are then each class's log-odds by the softmax: they mean what those
            of all others do.

    Raises:
        ValueError: If the backbone or its weights cannot be had.
    """

    def __init__(
        self,
        settings: ModelSettings,
        num_classes: int,
        *,
        picture: tuple[int, int] | None = None,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        if softmax and num_classes < 2:
            raise ValueError("loss=cross_entropy chooses among classes, and there is one; take bce")
        self.channels, self.parts, self.softmax = settings.channels, settings.parts, softmax
        if picture is not None:
            picture = picture[0], -(-picture[1] // settings.parts)
        self.backbone, self.layout = build_backbone(settings, picture)
        self.head = build_head(settings, self.layout.width, num_classes)

    def forward(
        self, mel: Tensor, mix_features: Callable[[Tensor], Tensor] | None = None
    ) -> Logits:
        """Return logits, [B, C]; of a softmax in training, of a sigmoid for each class otherwise.

        Args:
            mel: Log-mel spectrograms, [B, 1, M, F].
            mix_features: What training does to the feature map [B, D, h, w] before the head.
        """
        features = self.backbone(split(_inputs(mel, self.channels), self.parts))
        if self.layout.last:
            features = features.permute(0, 3, 1, 2)
        features = join(features, self.parts)
        logits = self.head(features if mix_features is None else mix_features(features))
        return logits.log_odds() if self.softmax and not self.training else logits

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Tell timm's optimizers how deep a parameter lies; the head lies above all others."""
        matcher = self.backbone.group_matcher(coarse)
        depths = timm.models.group_parameters(self.backbone, matcher, reverse=True)
        top = max(depths.values()) + 1

        def depth(name: str) -> int:
            return depths[name.removeprefix(_PREFIX)] if name.startswith(_PREFIX) else top

        return depth

    def no_weight_decay(self) -> set[str]:
        """Tell timm's optimizers which parameters the backbone wants to be spared."""
        spared: Callable[[], set[str]] = getattr(self.backbone, "no_weight_decay", set)
        return {_PREFIX + name for name in spared()}


def _inputs(mel: Tensor, channels: str) -> Tensor:
    if channels == "deltas":
        return deltas(mel)
    return mel.expand(-1, 3, -1, -1) if channels == "repeated" else mel


def split(mel: Tensor, parts: int) -> Tensor:
    """Cut clips [B, c, M, F] into P parts of equal width along time, [B * P, c, M, F / P].

    Where frames do not divide evenly, neighbours share a few of them, so that none is lost and
    none is made up.
    """
    if parts == 1:
        return mel
    frames = int(mel.shape[-1])  # a number in an export too: ONNX's division rounds otherwise
    width = -(-frames // parts)
    starts = [(frames - width) * part // (parts - 1) for part in range(parts)]
    cut = torch.stack([mel[..., start : start + width] for start in starts], dim=1)
    return cut.flatten(0, 1)


def join(features: Tensor, parts: int) -> Tensor:
    """Lay the feature maps of parts [B * P, D, h, w] side by side along time, [B, D, h, P * w]."""
    if parts == 1:
        return features
    return torch.cat(features.unflatten(0, (-1, parts)).unbind(dim=1), dim=-1)


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

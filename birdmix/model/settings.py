"""The model's settings; a bundle stores ``ModelSettings`` and rebuilds exactly what was trained."""

from dataclasses import dataclass, field
from typing import Any

from birdmix.suggest import check_choice


@dataclass
class ModelSettings:
    """A timm backbone and a pooling head.

    Attributes:
        backbone: timm model name.
        backbone_args: More arguments for ``timm.create_model``, by their names there.
        pool: How the feature map is pooled: average, or gem (generalised mean, learned exponent).
        dropout: Dropout before the last layer, in [0, 1).
        pretrained: Start from timm's published weights (needs a network once).
    """

    backbone: str = "efficientnet_b0"
    backbone_args: dict[str, Any] = field(default_factory=dict)
    pool: str = "gem"
    dropout: float = 0.0
    pretrained: bool = False

    def __post_init__(self) -> None:
        check_choice("pool", self.pool, ("average", "gem"))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}: it lies in [0, 1)")


@dataclass
class LossSettings:
    """Multi-label binary cross-entropy on soft targets.

    Attributes:
        name: bce.
        smoothing: Label smoothing: targets are drawn in from 0 and 1 by half of it.
    """

    name: str = "bce"
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_choice("name", self.name, ("bce",))
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing}: it lies in [0, 1)")


@dataclass
class OptimSettings:
    """A timm optimizer, warm-up and cosine decay, and averaged weights.

    Attributes:
        name: timm optimizer name.
        lr: Peak learning rate.
        weight_decay: Weight decay of matrices and kernels; norms and biases have none.
        warmup_share: Share of all steps that the learning rate rises linearly, in [0, 1).
        ema_decay: Decay per step of the weight average that is validated and kept; 0 is off.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    ema_decay: float = 0.995

    def __post_init__(self) -> None:
        for name in ("warmup_share", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1)")
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}: it must be above 0")

"""Settings of the model, the loss and the optimizer; bundles store ``ModelSettings``."""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from birdmix.json_data import MAX_TEXT, check_setting_magnitudes, format_for_message
from birdmix.messages import check_choice

# Arguments of ``timm.create_model`` that are not allowed in backbone_args, and what sets them.
_RESERVED_ARGUMENTS = {
    "in_chans": "channels",
    "drop_path_rate": "drop_path",
    "global_pool": "head",
    "num_classes": "the data's labels",
    "pretrained": "pretrained",
    "pretrained_cfg": "backbone, as NAME.TAG",
    "pretrained_cfg_overlay": "backbone, as NAME.TAG",
    "checkpoint_path": "weights",
    "scriptable": "birdmix itself",
    "exportable": "birdmix itself",
}

# Limits on backbone arguments: largest number (of features, pixels, layers), how many values, and
# the depth of their nesting.
_MAX_NUMBER, _MAX_NUM_VALUES, _MAX_DEPTH = 1_000_000, 1_000, 5


@dataclass
class ModelSettings:
    """Settings of the classifier: a timm backbone, and a head on its feature map.

    Attributes:
        backbone: timm model name.
        backbone_args: More arguments for ``timm.create_model``, by their names there.
        channels: Input channels: mono, the log-mel; repeated, the log-mel three times, for weights
            trained on RGB images; deltas, the log-mel, its slope along time and the slope of that.
        drop_path: Stochastic depth: fraction of examples that skip the last block, in [0, 1).
        num_chunks: Chunks of equal width that an input is split into along time, 1 to 64; the
            backbone processes each by itself, the head the concatenated feature map.
        head: average (pooling); gem, the generalised mean with a learned exponent; sed, an
            attention over frames, which also gives frame logits.
        dropout: Dropout before the last layer, in [0, 1).
        num_dropouts: Dropout masks per example in training, 1 to 64; their logits are averaged.
        pretrained: Start from timm's published weights (needs a network connection once).
        weights: Start from the backbone in this file: safetensors, or pth with tensors only.
    """

    backbone: str = "efficientnet_b0"
    backbone_args: dict[str, Any] = field(default_factory=dict)
    channels: str = "mono"
    drop_path: float = 0.0
    num_chunks: int = 1
    head: str = "gem"
    dropout: float = 0.0
    num_dropouts: int = 1
    pretrained: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        check_choice("channels", self.channels, ("mono", "repeated", "deltas"))
        check_choice("head", self.head, ("average", "gem", "sed"))
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be in [0, 1)")
        for name in ("num_chunks", "num_dropouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        check_setting_magnitudes(self, num_chunks=64, num_dropouts=64)
        _check_arguments(self.backbone_args)
        if self.num_dropouts > 1 and not self.dropout:
            raise ValueError(f"num_dropouts={self.num_dropouts} needs a dropout above 0")
        for name in _RESERVED_ARGUMENTS:
            if name in self.backbone_args:
                raise ValueError(
                    f"backbone_args.{name} is set by {_RESERVED_ARGUMENTS[name]}; leave it out"
                )
        if self.pretrained and self.weights is not None:
            raise ValueError(
                f"pretrained=true and weights={self.weights}: choose one; to use the file, set "
                "pretrained=false"
            )


def _check_arguments(arguments: dict[str, Any]) -> None:
    """Refuse backbone arguments that are too large, too many, too long or nested too deeply."""
    pending = [(f"backbone_args.{name}", value, 0) for name, value in arguments.items()]
    count = 0
    while pending:
        key, value, depth = pending.pop()
        count += 1
        if depth > _MAX_DEPTH or count + len(pending) > _MAX_NUM_VALUES:
            raise ValueError(
                f"backbone_args: nested deeper than {_MAX_DEPTH}, or more than {_MAX_NUM_VALUES:,} "
                "values"
            )
        if isinstance(value, dict):
            pending += [(f"{key}.{name}", each, depth + 1) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(f"{key}[{index}]", each, depth + 1) for index, each in enumerate(value)]
        elif isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER:
            raise ValueError(
                f"{key}={format_for_message(value)}: it must be at most {_MAX_NUMBER:,}"
            )
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            raise ValueError(
                f"{key}={format_for_message(value)}: it has more than {MAX_TEXT} characters"
            )


#: The losses, and the parameters of each.
LOSSES: dict[str, tuple[str, ...]] = {
    "bce": (),
    "focal": ("gamma", "alpha"),
    "cross_entropy": (),
    "soft_auc": (),
    "asymmetric": ("gamma_neg", "gamma_pos", "clip"),
    "distribution_balanced": (),
    "two_way": ("tp", "tn"),
}

_LOSSES_WITHOUT_SMOOTHING = ("soft_auc", "two_way")
_LOSSES_WITHOUT_CLASS_WEIGHT = ("distribution_balanced", "two_way")


@dataclass
class LossSettings:
    """Settings of the loss on soft multi-label targets.

    Attributes:
        name: bce, focal, cross_entropy, soft_auc, asymmetric, distribution_balanced or two_way.
        smoothing: Label smoothing in [0, 1): targets are moved from 0 and 1 towards 0.5 by half of
            it; with cross_entropy, this fraction of the targets is spread evenly over the classes.
        class_weight: Weights of the classes, by the number n of recordings with the class: none,
            inverse (1 / n), sqrt (1 / sqrt(n)) or effective (Cui et al. 2019); the mean is 1.
        frame_weight: With model.head=sed: weight of the loss of the maximum over frame logits, in
            [0, 1); the loss of the logits has the rest. null is 0.5 if there are frame logits.
        gamma: Focusing exponent of focal, 0 or at least 1; null, here and below, is the loss's
            own default.
        alpha: Weight of positives in focal, in [0, 1]; negatives have the rest.
        gamma_neg: Focusing exponent of asymmetric for negatives, 0 or at least 1.
        gamma_pos: Focusing exponent of asymmetric for positives, 0 or at least 1.
        clip: Probability below which a negative has no loss in asymmetric, in [0, 1].
        tp: Temperature of positives in two_way, above 0.
        tn: Temperature of negatives in two_way, above 0.
    """

    name: str = "bce"
    smoothing: float = 0.0
    class_weight: str = "none"
    frame_weight: float | None = None
    gamma: float | None = None
    alpha: float | None = None
    gamma_neg: float | None = None
    gamma_pos: float | None = None
    clip: float | None = None
    tp: float | None = None
    tn: float | None = None

    def __post_init__(self) -> None:
        check_choice("name", self.name, LOSSES)
        check_choice("class_weight", self.class_weight, ("none", "inverse", "sqrt", "effective"))
        for name in ("smoothing", "frame_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name}={value}: it must be in [0, 1)")
        if self.smoothing and self.name in _LOSSES_WITHOUT_SMOOTHING:
            raise ValueError(
                f"smoothing={self.smoothing}: {self.name} is a ranking loss; set smoothing=0"
            )
        if self.class_weight != "none" and self.name in _LOSSES_WITHOUT_CLASS_WEIGHT:
            raise ValueError(
                f"class_weight={self.class_weight}: {self.name} has no class weights; set "
                "class_weight=none"
            )
        self._check_parameters()

    @property
    def is_softmax(self) -> bool:
        """Whether the loss is a softmax cross-entropy, in which classes exclude each other."""
        return self.name == "cross_entropy"

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters of the loss that are set, by name."""
        values = {name: getattr(self, name) for name in chain(*LOSSES.values())}
        return {name: value for name, value in values.items() if value is not None}

    def _check_parameters(self) -> None:
        for name, value in self.parameters.items():
            if name not in LOSSES[self.name]:
                raise ValueError(f"{name}={value}: {self.name} has no {name}; leave it out")
            if name.startswith("gamma") and not (value == 0 or value >= 1):
                # Between 0 and 1 the gradient is infinite where the probability is the target.
                raise ValueError(f"{name}={value}: it must be 0 or at least 1")
            if name in ("alpha", "clip") and not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: it must be in [0, 1]")
            if name in ("tp", "tn") and not value > 0:
                raise ValueError(f"{name}={value}: it must be above 0")


@dataclass
class OptimSettings:
    """Settings of the optimizer, the learning-rate schedule and the weight average.

    Attributes:
        name: timm optimizer name.
        args: More arguments for ``timm.optim.create_optimizer_v2`` (betas, eps, ...):
            ``+optim.args.betas=[0.9,0.98]``.
        lr: Peak learning rate.
        weight_decay: Weight decay of matrices and kernels; norms and biases have none.
        layer_decay: Learning rate of a layer over that of the layer above it, in (0, 1]; null is
            the same rate for all.
        freeze: Parts of the classifier that are not trained, by prefixes of their parameters'
            names: backbone, backbone.layer1, ... Their norms keep their statistics, and they have
            no dropout.
        schedule: Learning rate after the warm-up: cosine, one_cycle, constant or polynomial.
        warmup_fraction: Fraction of all optimizer steps in which the learning rate rises, in
            [0, 1): linearly, or in one_cycle by a half cosine from a 25th of its peak.
        final_fraction: Learning rate at the end, as a fraction of its peak, in [0, 1].
        power: Exponent of polynomial, above 0.
        ema_decay: Decay per optimizer step of the weight average (EMA) that is validated and kept,
            in [0, 1); 0 is off.
    """

    name: str = "adamw"
    args: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    weight_decay: float = 0.01
    layer_decay: float | None = None
    freeze: list[str] = field(default_factory=list)
    schedule: str = "cosine"
    warmup_fraction: float = 0.1
    final_fraction: float = 0.0
    power: float = 1.0
    ema_decay: float = 0.995

    def __post_init__(self) -> None:
        check_choice("schedule", self.schedule, ("cosine", "one_cycle", "constant", "polynomial"))
        for name in ("warmup_fraction", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be in [0, 1)")
        for name in ("lr", "power"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be above 0")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction={self.final_fraction}: it must be in [0, 1]")
        if self.final_fraction and self.schedule == "constant":
            raise ValueError(
                f"final_fraction={self.final_fraction}: schedule=constant ends at its peak; "
                "set it to 0"
            )
        if self.power != 1 and self.schedule != "polynomial":
            raise ValueError(
                f"power={self.power}: only schedule=polynomial has a power; set power=1"
            )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay}: it must be in (0, 1]; null is off")

"""The model's settings; a bundle stores ``ModelSettings`` and rebuilds exactly what was trained."""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from birdmix.json_data import MAX_TEXT, brief, check_at_most
from birdmix.suggest import check_choice

#: Arguments of ``timm.create_model`` that are said elsewhere.
_SAID_BY = {
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

# Of a backbone's arguments: the largest number (of features, pixels, layers), how many, how deep.
_MOST_ARGUMENT, _MOST_ARGUMENTS, _MOST_DEPTH = 1_000_000, 1_000, 5


@dataclass
class ModelSettings:
    """A timm backbone, and a head over its feature map.

    Attributes:
        backbone: timm model name.
        backbone_args: More arguments for ``timm.create_model``, by their names there.
        channels: What the backbone sees: mono, the mel alone; repeated, the mel three times, for
            weights that learned from pictures; deltas, the mel and its first two differences
            along time.
        drop_path: Stochastic depth: share of samples that skip the last block, in [0, 1).
        parts: Parts of equal width that a clip is cut into along time; the backbone sees them one
            by one, the head the feature map of all.
        head: average; gem, the generalised mean with a learned exponent; sed, an attention over
            frames, which also hears each frame.
        dropout: Dropout before the last layer, in [0, 1).
        num_dropouts: Masks that dropout draws for each sample; their logits are averaged.
        pretrained: Start from timm's published weights (needs a network once).
        weights: Start from the backbone in this file: safetensors, or pth that holds tensors only.
    """

    backbone: str = "efficientnet_b0"
    backbone_args: dict[str, Any] = field(default_factory=dict)
    channels: str = "mono"
    drop_path: float = 0.0
    parts: int = 1
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
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1)")
        for name in ("parts", "num_dropouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it is at least 1")
        check_at_most(self, parts=64, num_dropouts=64)
        _check_arguments(self.backbone_args)
        if self.num_dropouts > 1 and not self.dropout:
            raise ValueError(f"num_dropouts={self.num_dropouts} needs a dropout above 0")
        for name in _SAID_BY:
            if name in self.backbone_args:
                raise ValueError(f"backbone_args.{name} is said by {_SAID_BY[name]}; leave it out")
        if self.pretrained and self.weights is not None:
            raise ValueError(
                f"pretrained=true and weights={self.weights}: choose one; the file needs "
                "pretrained=false"
            )


def _check_arguments(arguments: dict[str, Any]) -> None:
    """Refuse arguments of a backbone that are more than names and numbers of a sane size."""
    left = [(f"backbone_args.{name}", value, 0) for name, value in arguments.items()]
    count = 0
    while left:
        key, value, depth = left.pop()
        count += 1
        if depth > _MOST_DEPTH or count + len(left) > _MOST_ARGUMENTS:
            raise ValueError(f"backbone_args: it is nested deeper than {_MOST_DEPTH} or too long")
        if isinstance(value, dict):
            left += [(f"{key}.{name}", each, depth + 1) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            left += [(f"{key}[{at}]", each, depth + 1) for at, each in enumerate(value)]
        elif isinstance(value, int | float) and not abs(value) <= _MOST_ARGUMENT:
            raise ValueError(f"{key}={brief(value)}: it must be at most {_MOST_ARGUMENT:,}")
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            raise ValueError(f"{key}={brief(value)}: it has more than {MAX_TEXT} characters")


#: The losses, and the numbers that each takes.
LOSSES: dict[str, tuple[str, ...]] = {
    "bce": (),
    "focal": ("gamma", "alpha"),
    "cross_entropy": (),
    "soft_auc": (),
    "asymmetric": ("gamma_neg", "gamma_pos", "clip"),
    "distribution_balanced": (),
    "two_way": ("tp", "tn"),
}

_WITHOUT_SMOOTHING = ("soft_auc", "two_way")
_WITHOUT_CLASS_WEIGHT = ("distribution_balanced", "two_way")


@dataclass
class LossSettings:
    """A loss on soft multi-label targets.

    Attributes:
        name: bce, focal, cross_entropy, soft_auc, asymmetric, distribution_balanced or two_way.
        smoothing: Label smoothing in [0, 1): targets are drawn in from 0 and 1 by half of it; of
            cross_entropy, this share of them is spread evenly.
        class_weight: How rare classes count more, by the recordings n that hold them: none,
            inverse (1 / n), sqrt (1 / sqrt(n)) or effective (Cui et al. 2019); the mean is 1.
        frame_share: Of a head that hears frames (model.head=sed): share of the frames' maximum in
            the loss, in [0, 1), beside that of the whole clip. null is a half where there are
            frames.
        gamma: Exponent of focal's focus; null, here and below, is the loss's own default.
        alpha: What positives count in focal, in [0, 1]; negatives count the rest.
        gamma_neg: Exponent of asymmetric's focus on negatives.
        gamma_pos: The same on positives.
        clip: Probability below which a negative costs nothing in asymmetric.
        tp: Temperature of two_way's positives.
        tn: Temperature of two_way's negatives.
    """

    name: str = "bce"
    smoothing: float = 0.0
    class_weight: str = "none"
    frame_share: float | None = None
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
        for name in ("smoothing", "frame_share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name}={value}: it lies in [0, 1)")
        if self.smoothing and self.name in _WITHOUT_SMOOTHING:
            raise ValueError(f"smoothing={self.smoothing}: {self.name} ranks and takes none; set 0")
        if self.class_weight != "none" and self.name in _WITHOUT_CLASS_WEIGHT:
            raise ValueError(f"class_weight={self.class_weight}: {self.name} takes none; set none")
        self._check_numbers()

    @property
    def is_softmax(self) -> bool:
        """Whether the loss trains classes to exclude each other."""
        return self.name == "cross_entropy"

    @property
    def numbers(self) -> dict[str, float]:
        """The loss's own numbers that are set."""
        values = {name: getattr(self, name) for name in chain(*LOSSES.values())}
        return {name: value for name, value in values.items() if value is not None}

    def _check_numbers(self) -> None:
        for name, value in self.numbers.items():
            if name not in LOSSES[self.name]:
                raise ValueError(f"{name}={value}: {self.name} has none; leave it out")
            if name.startswith("gamma") and not (value == 0 or value >= 1):
                # Between them the gradient has a pole where a label is right.
                raise ValueError(f"{name}={value}: it is 0 or at least 1")
            if name in ("alpha", "clip") and not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: it lies in [0, 1]")
            if name in ("tp", "tn") and not value > 0:
                raise ValueError(f"{name}={value}: it must be above 0")


@dataclass
class OptimSettings:
    """A timm optimizer, its learning rate as a function of the step, and averaged weights.

    Attributes:
        name: timm optimizer name.
        args: More arguments for ``timm.optim.create_optimizer_v2`` (betas, eps, ...):
            ``+optim.args.betas=[0.9,0.98]``.
        lr: Peak learning rate.
        weight_decay: Weight decay of matrices and kernels; norms and biases have none.
        layer_decay: Factor of the learning rate from each layer to the one below it, in (0, 1];
            null is the same rate for all.
        freeze: What of the classifier keeps its weights, by the beginnings of their names:
            backbone, backbone.layer1, ... Its norms keep their statistics, its dropout rests.
        schedule: How the rate goes on after its rise: cosine, one_cycle, constant or polynomial.
        warmup_share: Share of all steps that the learning rate rises, in [0, 1): linearly, or in
            one_cycle by a half cosine from a 25th of its peak.
        final_share: Learning rate at the end, as a share of its peak, in [0, 1].
        power: Exponent of polynomial.
        ema_decay: Decay per step of the weight average that is validated and kept; 0 is off.
    """

    name: str = "adamw"
    args: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    weight_decay: float = 0.01
    layer_decay: float | None = None
    freeze: list[str] = field(default_factory=list)
    schedule: str = "cosine"
    warmup_share: float = 0.1
    final_share: float = 0.0
    power: float = 1.0
    ema_decay: float = 0.995

    def __post_init__(self) -> None:
        check_choice("schedule", self.schedule, ("cosine", "one_cycle", "constant", "polynomial"))
        for name in ("warmup_share", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1)")
        for name in ("lr", "power"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be above 0")
        if not 0 <= self.final_share <= 1:
            raise ValueError(f"final_share={self.final_share}: it lies in [0, 1]")
        if self.final_share and self.schedule == "constant":
            raise ValueError(f"final_share={self.final_share}: a constant rate ends at its peak")
        if self.power != 1 and self.schedule != "polynomial":
            raise ValueError(f"power={self.power}: {self.schedule} has none, polynomial has")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay}: it lies in (0, 1]; null is off")

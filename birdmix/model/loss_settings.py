"""Settings of the loss: the losses, their parameters, and the class weights; without torch.

A new loss is a subclass of ``LogitLoss`` and a line in ``LOSSES``; a new parameter is a field of
``LossSettings``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from birdmix.messages import check_choice

if TYPE_CHECKING:
    from torch import Tensor


class LossKind(NamedTuple):
    """A loss: its class, which is not imported yet, and the settings that it has.

    Attributes:
        class_path: A subclass of ``LogitLoss``, as ``module:name`` below ``birdmix.model.losses``.
        is_softmax: Whether it is a softmax cross-entropy, in which classes exclude each other.
        has_smoothing: Whether its targets can be smoothed; those of ranking losses cannot.
        has_class_weight: Whether its classes can be weighted.
    """

    class_path: str
    is_softmax: bool = False
    has_smoothing: bool = True
    has_class_weight: bool = True


#: The losses, by ``loss.name``.
LOSSES = {
    "bce": LossKind("pointwise:BinaryCrossEntropy"),
    "focal": LossKind("pointwise:Focal"),
    "cross_entropy": LossKind("pointwise:CrossEntropy", is_softmax=True),
    "soft_auc": LossKind("pairwise:SoftAUC", has_smoothing=False),
    "asymmetric": LossKind("pointwise:Asymmetric"),
    "distribution_balanced": LossKind("pointwise:DistributionBalanced", has_class_weight=False),
    "two_way": LossKind("pairwise:TwoWay", has_smoothing=False, has_class_weight=False),
}

_EFFECTIVE_BETA = 0.999

#: Weights of the classes, not normalised yet, by ``loss.class_weight``: functions of the numbers n
#: of recordings with each class. Source of ``effective``: Cui et al. 2019, arXiv:1901.05555.
CLASS_WEIGHTS: dict[str, Callable[["Tensor"], "Tensor"] | None] = {
    "none": None,
    "inverse": lambda n: 1 / n,
    "sqrt": lambda n: n**-0.5,
    "effective": lambda n: (1 - _EFFECTIVE_BETA) / (1 - _EFFECTIVE_BETA**n),
}


class _Range(NamedTuple):
    """Valid values of a parameter, and the words for them."""

    contains: Callable[[float], bool]
    text: str


# Between 0 and 1 the gradient is infinite where the probability is the target.
_EXPONENT = _Range(lambda value: value == 0 or value >= 1, "0 or at least 1")
_FRACTION = _Range(lambda value: 0 <= value <= 1, "in [0, 1]")
_POSITIVE = _Range(lambda value: value > 0, "above 0")


def _parameter(valid: _Range, defaults: dict[str, float]) -> Any:
    """Return the field of a parameter; its defaults are given for each loss that has it."""
    return field(default=None, metadata={"valid": valid, "defaults": defaults})


@dataclass
class LossSettings:
    """Settings of the loss on soft multi-label targets.

    Attributes:
        name: The loss, of ``LOSSES``.
        smoothing: Label smoothing in [0, 1): targets are moved from 0 and 1 towards 0.5 by half of
            it; with cross_entropy, this fraction of the targets is spread evenly over the classes.
        class_weight: Weights of the classes, of ``CLASS_WEIGHTS``; their mean is 1.
        frame_weight: With model.head=sed: weight of the loss of the maximum over frame logits, in
            [0, 1); the loss of the logits has the rest. null gives both the same weight, if there
            are frame logits.
        gamma: Focusing exponent; null, here and below, is the loss's own default.
        alpha: Weight of positives; negatives have the rest.
        gamma_neg: Focusing exponent of negatives.
        gamma_pos: Focusing exponent of positives.
        clip: Probability below which a negative has no loss.
        tp: Temperature of positives.
        tn: Temperature of negatives.
    """

    name: str = "bce"
    smoothing: float = 0.0
    class_weight: str = "none"
    frame_weight: float | None = None
    gamma: float | None = _parameter(_EXPONENT, {"focal": 2.0})
    alpha: float | None = _parameter(_FRACTION, {"focal": 0.25})
    gamma_neg: float | None = _parameter(_EXPONENT, {"asymmetric": 4.0})
    gamma_pos: float | None = _parameter(_EXPONENT, {"asymmetric": 1.0})
    clip: float | None = _parameter(_FRACTION, {"asymmetric": 0.05})
    tp: float | None = _parameter(_POSITIVE, {"two_way": 4.0})
    tn: float | None = _parameter(_POSITIVE, {"two_way": 1.0})

    def __post_init__(self) -> None:
        check_choice("name", self.name, LOSSES)
        check_choice("class_weight", self.class_weight, CLASS_WEIGHTS)
        for name in ("smoothing", "frame_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name}={value}: it must be in [0, 1)")
        if self.smoothing and not LOSSES[self.name].has_smoothing:
            raise ValueError(
                f"smoothing={self.smoothing}: {self.name} is a ranking loss; set smoothing=0"
            )
        if self.class_weight != "none" and not LOSSES[self.name].has_class_weight:
            raise ValueError(
                f"class_weight={self.class_weight}: {self.name} has no class weights; set "
                "class_weight=none"
            )
        self._check_parameters()

    @property
    def is_softmax(self) -> bool:
        """Whether the loss is a softmax, as ``LossKind`` has it."""
        return LOSSES[self.name].is_softmax

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters of the loss, by name; those that are null have its defaults."""
        defaults = {
            each.name: each.metadata["defaults"][self.name]
            for each in fields(self)
            if self.name in each.metadata.get("defaults", ())
        }
        values = {name: getattr(self, name) for name in defaults}
        return {name: defaults[name] if value is None else value for name, value in values.items()}

    def _check_parameters(self) -> None:
        for each in fields(self):
            name, value = each.name, getattr(self, each.name)
            if not each.metadata or value is None:
                continue
            if self.name not in each.metadata["defaults"]:
                raise ValueError(f"{name}={value}: {self.name} has no {name}; leave it out")
            valid: _Range = each.metadata["valid"]
            if not valid.contains(value):
                raise ValueError(f"{name}={value}: it must be {valid.text}")

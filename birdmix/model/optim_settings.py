"""Settings of the optimizer, its learning-rate schedule and the weight average; without torch.

A new schedule is a line in ``SCHEDULES``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from birdmix.messages import check_choice

#: A curve of the learning rate: maps steps done, of a total, to a fraction of the peak rate.
Curve = Callable[[float, float], float]


def _linear_rise(done: float, total: float) -> float:
    """Rise linearly, from above 0 to below 1."""
    return (done + 1) / (total + 1)


def _cosine_rise(done: float, total: float) -> float:
    """Rise by half a cosine from a 25th, as in fastai and torch."""
    return 1 - (1 - 1 / 25) * _cosine_fall(done, total)


def _cosine_fall(done: float, total: float) -> float:
    """Fall from 1 to 0 by half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * done / total))


class LearningRateSchedule(NamedTuple):
    """The shape of a learning-rate schedule.

    Attributes:
        fall: Curve after the warm-up, from 1; scaled to end at ``final_fraction`` instead of 0.
        rise: Curve of the warm-up, to 1.
    """

    fall: Curve
    rise: Curve = _linear_rise


#: The learning-rate schedules, by ``optim.schedule``. Source of ``one_cycle``: Smith and Topin
#: 2018, arXiv:1708.07120, without its cycle of momentum, and with cosines instead of lines, as
#: fastai.
SCHEDULES = {
    "cosine": LearningRateSchedule(_cosine_fall),
    "one_cycle": LearningRateSchedule(_cosine_fall, _cosine_rise),
    "constant": LearningRateSchedule(lambda done, total: 1.0),
    "polynomial": LearningRateSchedule(
        lambda done, total: 1 - done / total
    ),  # to the power of ``power``
}


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
        schedule: Curves of the learning rate, of ``SCHEDULES``.
        warmup_fraction: Fraction of all optimizer steps in which the learning rate rises, in
            [0, 1).
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
        check_choice("schedule", self.schedule, SCHEDULES)
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

    def learning_rate(self, step: int, num_steps: int) -> float:
        """Return the learning rate of an optimizer step.

        The rate rises for ``warmup_fraction`` of the steps. Then it falls from its peak to
        ``final_fraction`` of it; that value belongs to the step after the last.

        Args:
            step: Optimizer step, from 0.
            num_steps: Optimizer steps of the whole run.
        """
        schedule, warmup = SCHEDULES[self.schedule], self.warmup_fraction * num_steps
        if step < warmup:
            return self.lr * schedule.rise(step, warmup)
        above = schedule.fall(step - warmup, max(num_steps - warmup, 1)) ** self.power
        return self.lr * (self.final_fraction + (1 - self.final_fraction) * above)

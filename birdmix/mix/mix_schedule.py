"""Schedules of mix probabilities and strengths over a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from birdmix.messages import check_choice

# How far a value has moved from start to end, in [0, 1], at a progress in [0, 1].
_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}


@dataclass
class Schedule:
    """A number as a function of progress: the fraction of a run that is done, in [0, 1].

    Attributes:
        start: Value at the beginning.
        end: Value at the end; None is ``start``.
        shape: Curve from start to end: constant (stays at start), linear or cosine.
        warm_up: Fraction of the run over which the value is first scaled up linearly from 0.
        off_from: Progress at and after which the value is 0; 1 never switches it off.

    Raises:
        ValueError: If the shape is unknown, or a fraction lies outside [0, 1].
    """

    start: float
    end: float | None = None
    shape: str = "linear"
    warm_up: float = 0.0
    off_from: float = 1.0

    def __post_init__(self) -> None:
        check_choice("shape", self.shape, _SHAPES)
        for name in ("warm_up", "off_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1]")

    def value_at(self, progress: float) -> float:
        """Return the value at a progress.

        Args:
            progress: Fraction of the run that is done, in [0, 1].

        Raises:
            ValueError: If progress lies outside [0, 1].
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress={progress}: it lies in [0, 1]")
        if self.off_from < 1 and progress >= self.off_from:
            return 0.0
        end = self.start if self.end is None else self.end
        value = self.start + (end - self.start) * _SHAPES[self.shape](progress)
        return value * min(progress / self.warm_up, 1) if self.warm_up > 0 else value

    def times(self, factor: float) -> "Schedule":
        """Return the schedule with all values multiplied by a factor."""
        end = None if self.end is None else self.end * factor
        return replace(self, start=self.start * factor, end=end)


#: A constant number, or one with a schedule over the run.
if TYPE_CHECKING:
    ScheduledFloat = float | Schedule
else:
    ScheduledFloat = float  # the only one of both types that a configuration can hold


def value_at(parameter: ScheduledFloat, progress: float) -> float:
    """Return the value of a parameter at a progress in [0, 1]."""
    return parameter.value_at(progress) if isinstance(parameter, Schedule) else parameter


def schedule_endpoints(parameter: ScheduledFloat) -> tuple[float, ...]:
    """Return the start and the end of a parameter's schedule, or its one constant value."""
    if not isinstance(parameter, Schedule):
        return (parameter,)
    return (parameter.start, parameter.start if parameter.end is None else parameter.end)

"""Probabilities and strengths that change over a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}

SHAPES = tuple(_SHAPES)


@dataclass(frozen=True)
class Schedule:
    """A number as a function of progress, the share in [0, 1] of a run that is done.

    Attributes:
        start: Value at the beginning.
        end: Value at the end; None stays at ``start``.
        shape: How it goes from one to the other: constant (it does not), linear or cosine.
        warm_up: Share of the run in which it first rises from 0, linearly.
        off_from: Progress from which on it is 0; 1 never switches it off.
    """

    start: float
    end: float | None = None
    shape: str = "linear"
    warm_up: float = 0.0
    off_from: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in _SHAPES:
            raise ValueError(f"shape={self.shape!r}: it is one of {', '.join(SHAPES)}")
        for name in ("warm_up", "off_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: a share of a run lies in [0, 1]")

    def at(self, progress: float) -> float:
        """Return the value at a progress in [0, 1]."""
        if not 0 <= progress <= 1:
            raise ValueError(f"progress={progress}: it lies in [0, 1]")
        if self.off_from < 1 and progress >= self.off_from:
            return 0.0
        end = self.start if self.end is None else self.end
        value = self.start + (end - self.start) * _SHAPES[self.shape](progress)
        return value * min(progress / self.warm_up, 1) if self.warm_up > 0 else value


#: A number, or one that changes over the run.
Scheduled = float | Schedule


def value_at(parameter: Scheduled, progress: float) -> float:
    """Return what a parameter is at a progress in [0, 1]."""
    return parameter.at(progress) if isinstance(parameter, Schedule) else parameter


def values(parameter: Scheduled) -> tuple[float, ...]:
    """Return the values between which a parameter moves, to be checked."""
    if not isinstance(parameter, Schedule):
        return (parameter,)
    return (parameter.start, parameter.start if parameter.end is None else parameter.end)

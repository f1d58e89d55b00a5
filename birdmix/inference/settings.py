"""How recordings are heard."""

import math
from dataclasses import dataclass

from birdmix.frontend.settings import SHORTEST_WINDOW
from birdmix.suggest import check_choice

# Seconds: shorter rows would be more than networks have frames, longer ones more than memory holds.
_SHORTEST, _LONGEST = SHORTEST_WINDOW, 86_400


@dataclass(frozen=True)
class ListenSettings:
    """How a recording becomes rows of scores.

    Attributes:
        window: Length of a row in seconds; None is that of the segments trained on.
        step: Seconds from one row to the next; None is ``window``, side by side.
        context: Seconds heard about each row, the row in the middle, silence beyond the ends of the
            recording; None is the length of the segments that each model was trained on.
        pool: What of it is the row's score: clip (what the head says of all that was heard), mean
            or max (of the frames within the row, of a head that hears frames).
        shift: Each row is also heard this many seconds earlier and later, and the logits averaged;
            0 is off.
        combine: Mean over several models: of their logits, of probabilities to a power, or of each
            species' ranks over all rows.
        power: The exponent of --combine power.
        channel: The one that is heard, counted from 1; None is the mean of all.
    """

    window: float | None = None
    step: float | None = None
    context: float | None = None
    pool: str = "clip"
    shift: float = 0.0
    combine: str = "logit"
    power: float = 2.0
    channel: int | None = None

    def __post_init__(self) -> None:
        check_choice("--pool", self.pool, ("clip", "mean", "max"))
        check_choice("--combine", self.combine, ("logit", "power", "rank"))
        for name in ("window", "step", "context"):
            value = getattr(self, name)
            if value is not None and not _SHORTEST <= value <= _LONGEST:
                raise ValueError(
                    f"--{name} {value:g}: it must be above 0, from {_SHORTEST:g} to {_LONGEST} s"
                )
        for name in ("power", "channel"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"--{name} {value:g}: it must be above 0, and finite")
        if not 0 <= self.shift <= _LONGEST:
            raise ValueError(f"--shift {self.shift:g}: it is 0 (off), or up to {_LONGEST} s")


def check_calls(smoothing: float, threshold: float | None) -> None:
    """Refuse settings of how calls are made of rows that cannot be."""
    if not 0 <= smoothing < 1:
        raise ValueError(f"--smoothing {smoothing:g}: it lies in [0, 1)")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"--threshold {threshold:g}: it lies between 0 and 1")

"""What is made of scores on their way to a submission."""

import math
import time
from dataclasses import dataclass, field

from birdmix.duration import seconds_of
from birdmix.inference.settings import check_calls

#: Seconds below which a limit is taken for a slip: bundles have to be opened, and the file written.
SHORTEST_LIMIT = 10


@dataclass(frozen=True)
class FinishSettings:
    """What is made of scores once they are heard, in this order.

    Attributes:
        smoothing: Share of a row's logits that its two neighbours are given.
        prior_weight: How much of what labelled soundscapes tell of sites and hours is added to the
            logits; 0 is nothing, 1 takes it at its word.
        file_scaling: Exponent of a species' highest probability in the soundscape, by which all of
            its rows there are multiplied; 0 is off.
        threshold: Probability from which a species is called, where rows hold decisions; None is
            the bundles' own.
    """

    smoothing: float = 0.0
    prior_weight: float = 0.0
    file_scaling: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_calls(self.smoothing, self.threshold)
        for name in ("prior_weight", "file_scaling"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} {value:g}: it is 0 (off) or more, and finite")


@dataclass(frozen=True)
class PaceSettings:
    """How long a submission may take.

    Attributes:
        limit: Until the file must stand, counted from ``began``, as 85m; None is as long as it
            takes.
        degrade: Whether to hear more cheaply if that would be too late.
        began: ``time.monotonic()`` when the clock started.
    """

    limit: str | None = None
    degrade: bool = False
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.degrade and self.limit is None:
            raise ValueError("--degrade: it needs to know the time, --time-limit 85m for example")
        try:
            short = self.limit_seconds < SHORTEST_LIMIT
        except ValueError as error:
            raise ValueError(f"--time-limit: {error}") from error
        if short:
            raise ValueError(
                f"--time-limit {self.limit}: it leaves no time to listen; {SHORTEST_LIMIT} s at "
                "least"
            )

    @property
    def limit_seconds(self) -> float:
        """The limit in seconds; infinite if there is none."""
        return math.inf if self.limit is None else seconds_of(self.limit)

"""Settings of a submission: post-processing of predictions, and the deadline."""

import math
import time
from dataclasses import dataclass, field

from birdmix.duration import parse_duration
from birdmix.inference.settings import check_smoothing_and_threshold

#: Shortest time limit in seconds: bundles have to be opened, and the file written.
SHORTEST_LIMIT = 10


@dataclass(frozen=True)
class PostprocessingSettings:
    """Post-processing of predictions, applied in this order.

    Attributes:
        smoothing: Weight of the mean of a row's two neighbours in its logits, in [0, 1).
        prior_weight: Factor of the log-odds of site and hour that are added to the logits; 0 is
            off, 1 adds them as estimated.
        file_scaling: Exponent of a species' highest probability in the soundscape, by which all of
            its rows there are multiplied; 0 is off.
        threshold: Probability from which a species is called, where rows hold decisions; None
            uses the bundles' thresholds.
    """

    smoothing: float = 0.0
    prior_weight: float = 0.0
    file_scaling: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_smoothing_and_threshold(self.smoothing, self.threshold)
        for name in ("prior_weight", "file_scaling"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} {value:g}: it must be 0 (off) or more, and finite")


@dataclass(frozen=True)
class DeadlineSettings:
    """Time limit of a submission.

    Attributes:
        limit: Time until the file must be complete, counted from ``started_at``, such as 85m; None
            is no limit.
        degrade: Whether to fall back to faster prediction if the limit would be exceeded.
        started_at: ``time.monotonic()`` from which the time counts.
    """

    limit: str | None = None
    degrade: bool = False
    started_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.degrade and self.limit is None:
            raise ValueError("--degrade: it needs a time limit; add --time-limit 85m, for example")
        try:
            short = self.limit_seconds < SHORTEST_LIMIT
        except ValueError as error:
            raise ValueError(f"--time-limit: {error}") from error
        if short:
            raise ValueError(
                f"--time-limit {self.limit}: it is too short to predict anything; set at least "
                f"{SHORTEST_LIMIT} s"
            )

    @property
    def limit_seconds(self) -> float:
        """The limit in seconds; infinite if there is none."""
        return math.inf if self.limit is None else parse_duration(self.limit)

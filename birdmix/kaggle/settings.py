"""What is made of scores on their way to a submission."""

import math
from dataclasses import dataclass


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
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"--smoothing {self.smoothing:g}: it lies in [0, 1)")
        for name in ("prior_weight", "file_scaling"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} {value:g}: it is 0 (off) or more, and finite")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"--threshold {self.threshold:g}: it is between 0 and 1")

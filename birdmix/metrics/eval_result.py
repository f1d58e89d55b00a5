"""The result of an evaluation: truth and logits of a data set.

Shapes: N examples (recordings or annotated windows), C classes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from birdmix.windows import probability


@dataclass(frozen=True)
class EvalResult:
    """Truth and logits of a data set, one row per recording or annotated window.

    Attributes:
        name: Name of the data set, a prefix of its metrics' names.
        truth: Targets in [0, 1], [N, C].
        known: Which targets are known, bool [N, C]; metrics ignore the others.
        logits: Logits, [N, C].
    """

    name: str
    truth: np.ndarray
    known: np.ndarray
    logits: np.ndarray

    @cached_property
    def positive(self) -> np.ndarray:
        """Labels whose target is at least 0.5, bool [N, C]."""
        return self.truth >= 0.5

    @cached_property
    def probability(self) -> np.ndarray:
        """Probabilities, float64 [N, C]."""
        return probability(self.logits)

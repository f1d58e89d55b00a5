"""The plan of a mix: who is mixed into whom, and how loud.

Shapes: B batch, S sources.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """A small, replayable description of one mixed batch.

    A sample with fewer sources than S fills its unused slots with itself at gain 0; an unused slot
    is never read, so a broken neighbour cannot reach a sample that it was not mixed into.

    Attributes:
        source: Row of each source, int64 [B, S]; column 0 is the sample itself.
        gain: Linear gain of each source, float32 [B, S]; [1, 0, ...] where nothing is mixed.
    """

    source: np.ndarray
    gain: np.ndarray

    @staticmethod
    def identity(batch_size: int) -> "Plan":
        """Return the plan that mixes nothing."""
        return Plan(np.arange(batch_size)[:, None], np.ones((batch_size, 1), np.float32))

    @property
    def is_identity(self) -> bool:
        """Whether the plan changes nothing."""
        return bool((self.gain[:, 0] == 1).all() and (self.gain[:, 1:] == 0).all())

    @property
    def used(self) -> np.ndarray:
        """Which slots hold a source, bool [B, S]."""
        return self.gain != 0

    @property
    def num_sources(self) -> np.ndarray:
        """Sources of each sample, int64 [B]."""
        return self.used.sum(axis=1)

    @property
    def num_self_pairs(self) -> int:
        """How often a sample was mixed with itself; a correct draw has none."""
        own = self.source[:, 1:] == np.arange(len(self.source))[:, None]
        return int((own & self.used[:, 1:]).sum())

"""Randomness without state: every choice is a function of what it is for and where it happens.

A generator is made from ``(seed, purpose, *position)`` each time one is needed, so the same run
comes out for any number of workers, a resumed run only has to know where it was, and a test can
replay one batch. Positions count within the epoch, not rows of a table: sampling with replacement
repeats rows, and each repetition deserves a crop of its own.
"""

import zlib
from dataclasses import dataclass

import numpy as np


def _sequence(seed: int, purpose: str, position: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *position])


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Make the generator for one purpose at one position; each call starts it afresh."""
    return np.random.default_rng(_sequence(seed, purpose, position))


def integer_seed(seed: int, purpose: str, *position: int) -> int:
    """Make a 63-bit seed for generators that are not numpy's (torch's dropout, say)."""
    return int(_sequence(seed, purpose, position).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class StepKeys:
    """The keys of one training step.

    Attributes:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        batch: Batch within the epoch, from 0.
        rank: Process among several, from 0.
        progress: Share of the run that is done, in [0, 1], for what changes over a run.
    """

    seed: int
    epoch: int
    batch: int
    rank: int = 0
    progress: float = 0.0

    def rng(self, purpose: str) -> np.random.Generator:
        """Make the generator of this step for ``purpose``."""
        return generator(self.seed, purpose, self.epoch, self.batch, self.rank)

    def integer(self, purpose: str) -> int:
        """Make the 63-bit seed of this step for ``purpose``."""
        return integer_seed(self.seed, purpose, self.epoch, self.batch, self.rank)

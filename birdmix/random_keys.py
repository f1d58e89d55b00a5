"""Keys of random choices: stateless generators from seed, purpose and position.

A generator is made from ``(seed, purpose, *position)`` each time one is needed. So a run is the
same for any number of workers, a resumed run needs only its position, and a test can replay one
batch. Positions are those in the epoch, not rows of a table: sampling with replacement repeats
rows, and each repetition gets another segment.
"""

import zlib
from dataclasses import dataclass

import numpy as np


def _seed_sequence(seed: int, purpose: str, position: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *position])


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Return the generator for a purpose at a position; each call returns a new one.

    Args:
        seed: Seed of the run, 0 or more.
        purpose: What the generator is for; part of the key, so other purposes draw other numbers.
        position: Integers of 0 or more, such as epoch, batch and rank.
    """
    return np.random.default_rng(_seed_sequence(seed, purpose, position))


def integer_seed(seed: int, purpose: str, *position: int) -> int:
    """Return a 63-bit seed for generators that are not numpy's, such as torch's for dropout.

    Arguments are those of ``generator``.
    """
    sequence = _seed_sequence(seed, purpose, position)
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class StepKeys:
    """The random keys of one training step: a batch, or one process's share of it.

    Attributes:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        batch: Batch within the epoch, from 0.
        rank: Rank of the process, from 0.
        progress: Fraction of the run that is done, in [0, 1], for schedules.
    """

    seed: int
    epoch: int
    batch: int
    rank: int = 0
    progress: float = 0.0

    @staticmethod
    def of_run(
        seed: int, epoch: int, batch: int, rank: int, *, batches_per_epoch: int, num_epochs: int
    ) -> "StepKeys":
        """Return the keys of a step of a run, with the run's progress at it.

        Args:
            seed: Seed of the run.
            epoch: Epoch, from 0.
            batch: Batch within the epoch, from 0.
            rank: Rank of the process, from 0.
            batches_per_epoch: Batches in an epoch of the run.
            num_epochs: Epochs of the run.
        """
        progress = (epoch + batch / batches_per_epoch) / num_epochs
        return StepKeys(seed, epoch, batch, rank, progress=progress)

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of this step for ``purpose``."""
        return generator(self.seed, purpose, self.epoch, self.batch, self.rank)

    def common_rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of this step that is the same in all processes."""
        return generator(self.seed, purpose, self.epoch, self.batch)

    def torch_seed(self, purpose: str) -> int:
        """Return the 63-bit seed of this step for ``purpose``."""
        return integer_seed(self.seed, purpose, self.epoch, self.batch, self.rank)

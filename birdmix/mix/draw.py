"""Draw plans: numpy on the host, no data.

Shapes: B batch, P pool, K partners, S = K + 1 sources.
"""

from collections.abc import Iterable
from operator import index

import numpy as np

from birdmix.keys import generator
from birdmix.mix.plan import Boxes

# Gains that add up to 1 are drawn on this grid: then they do so exactly, in float32 too, and none
# of them is 0, which would mean a slot that is not used.
_GRID = 2.0**-24


def batch_rng(
    seed: int, epoch: int, rows: Iterable[int], *, purpose: str = "mix"
) -> np.random.Generator:
    """Make the generator of one batch from the numbers that name the batch.

    For mixing in the ``collate_fn`` of a ``DataLoader``: each worker holds a copy of a generator
    that was made outside, so two workers draw the same mixes, and every epoch starts with the
    same copies again. This one depends on nothing but its arguments, for any number of workers.

    Args:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.
        rows: Rows of the batch's samples in their data set, a list, array or tensor of integers.
        purpose: What the generator is for; two mixes of one batch need two.

    Raises:
        ValueError: If a number is no integer of 0 or more.
    """
    try:
        key = [index(number) for number in (seed, epoch, *rows)]
    except TypeError as error:
        raise ValueError(f"seed, epoch and rows of a batch are integers: {error}") from None
    if min(key) < 0:
        raise ValueError(
            f"seed={seed}, epoch={epoch}, rows from {min(key[2:], default=0)}: "
            "numbers that name a batch are at least 0"
        )
    return generator(key[0], purpose, *key[1:])


def check_rng(rng: object) -> None:
    """Refuse what is no numpy generator with a ValueError."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng is a {type(rng).__name__}; pass a generator: numpy.random.default_rng(seed)"
        )


def check_batch_size(batch_size: int, num_sources: int) -> None:
    """Refuse a batch with fewer samples than a mix may join.

    Raises:
        ValueError: If ``batch_size < num_sources``.
    """
    if batch_size < num_sources:
        raise ValueError(
            f"mixing {num_sources} sources needs a batch of at least {num_sources}, "
            f"got {batch_size}; raise data.batch_size or set data.drop_last=true"
        )


def draw_partners(batch_size: int, num_partners: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distinct mixing partners for every sample of a batch.

    The batch is laid on one random cycle and partner k of a sample is its neighbour at one random
    distance, the same for all samples but different for every k: nobody is their own partner or
    has a partner twice. Independent permutations, as the reference code draws them, pair one
    sample per batch with itself on average.

    Args:
        batch_size: Number of samples B.
        num_partners: Partners per sample K, below ``batch_size``.
        rng: Source of randomness.

    Returns:
        Rows of the partners, int64 [B, K].

    Raises:
        ValueError: If ``num_partners >= batch_size``.
    """
    check_batch_size(batch_size, num_partners + 1)
    cycle = rng.permutation(batch_size)
    place = np.empty_like(cycle)
    place[cycle] = np.arange(batch_size)
    distances = 1 + rng.permutation(batch_size - 1)[:num_partners]
    return cycle[(place[:, None] + distances) % batch_size]


def draw_from_pool(batch_size: int, pool_size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a sample of the pool for each sample of a batch, none twice before all were taken.

    Returns:
        Rows of the batch followed by the pool, int64 [B].
    """
    rounds = -(-batch_size // pool_size)
    rows = np.concatenate([rng.permutation(pool_size) for _ in range(rounds)])
    return batch_size + rows[:batch_size]


def with_themselves(partners: np.ndarray) -> np.ndarray:
    """Put every sample before its partners [B, K]: the sources [B, S] of a plan."""
    return np.concatenate([np.arange(len(partners))[:, None], partners], axis=1)


def dirichlet_gains(
    counts: np.ndarray, concentration: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw gains from symmetric Dirichlet distributions, 0 in slots that are not used.

    Args:
        counts: Sources of each sample, int64 [B].
        concentration: Of the distribution; 1 is uniform.
        rng: Source of randomness.

    Returns:
        float32 [B, S] with S the largest count; a sample's gains add up to 1.
    """
    gains = np.zeros((len(counts), counts.max()), np.float32)
    for count in np.unique(counts):
        rows = counts == count
        drawn = rng.dirichlet([concentration] * count, size=int(rows.sum()))
        gains[rows, :count] = _to_grid(drawn)
    return gains


def convex_gains(lam: np.ndarray) -> np.ndarray:
    """Return gains lambda and 1 - lambda: float32 [B, 2], adding up to 1."""
    return _to_grid(np.stack([lam, 1 - lam], axis=1))


def _to_grid(gains: np.ndarray) -> np.ndarray:
    """Round gains [B, S] to the grid: none is 0, and float32 adds them up to exactly 1."""
    steps = np.maximum(np.rint(gains / _GRID), 1)
    largest = gains.argmax(axis=1)[:, None]
    excess = steps.sum(axis=1, keepdims=True) - 1 / _GRID
    np.put_along_axis(steps, largest, np.take_along_axis(steps, largest, axis=1) - excess, axis=1)
    return (steps * _GRID).astype(np.float32)


def draw_boxes(area: np.ndarray, axis: str, rng: np.random.Generator) -> Boxes:
    """Draw where boxes of given areas lie; each lies wholly inside its sample.

    Args:
        area: Shares of the sample that boxes cover, in [0, 1], float64 [B].
        axis: ``time`` (a span of time), ``frequency`` (a band) or ``box`` (both, of equal shares).
        rng: Source of randomness.
    """
    everything = np.tile((0.0, 1.0), (len(area), 1))
    if axis == "time":
        return Boxes(_spans(area, rng), everything)
    if axis == "frequency":
        return Boxes(everything, _spans(area, rng))
    side = np.sqrt(area)
    return Boxes(_spans(side, rng), _spans(side, rng))


def _spans(width: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    begin = rng.random(len(width)) * (1 - width)
    return np.stack([begin, begin + width], axis=1)

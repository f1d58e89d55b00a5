"""Random draws of a mix plan: partners, gains and boxes, by numpy on the host.

Shapes: B batch, P mix pool, K partners, S = K + 1 sources.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import index

import numpy as np

from birdmix.mix.mix_plan import Boxes
from birdmix.random_keys import generator

# Gains that add up to 1 are drawn on this grid, so that they do so exactly in float32, and none is
# 0, which would mark an unused slot.
_GRID = 2.0**-24


def batch_rng(
    seed: int, epoch: int, rows: Iterable[int], *, purpose: str = "mix"
) -> np.random.Generator:
    """Create the random generator of one batch from the seed, the epoch and the batch's examples.

    For mixing in the ``collate_fn`` of a ``DataLoader``. Each worker process holds a copy of a
    generator that was created outside, so two workers draw the same mixes, and every epoch starts
    with the same copies. This generator depends on the arguments alone, so mixes are the same for
    any number of workers.

    Args:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.
        rows: Indices of the batch's examples in their data set: a list, array or tensor of
            integers of 0 or more.
        purpose: What the generator is for; two mixes of one batch need two.

    Raises:
        ValueError: If a number is not an integer of 0 or more.
    """
    try:
        key = [index(number) for number in (seed, epoch, *rows)]
    except TypeError as error:
        raise ValueError(f"seed, epoch and rows of a batch are integers: {error}") from None
    if min(key) < 0:
        raise ValueError(
            f"seed={seed}, epoch={epoch}, rows from {min(key[2:], default=0)}: "
            "each must be at least 0"
        )
    return generator(key[0], purpose, *key[1:])


def check_rng(rng: object) -> None:
    """Raise ValueError if an object is not a numpy random generator."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng is a {type(rng).__name__}; pass a generator: numpy.random.default_rng(seed)"
        )


def check_batch_size(batch_size: int, num_sources: int) -> None:
    """Check that a batch has enough examples for a mix.

    Args:
        batch_size: Number of examples B.
        num_sources: Most sources S of one example.

    Raises:
        ValueError: If ``batch_size < num_sources``.
    """
    if batch_size < num_sources:
        raise ValueError(
            f"mixing {num_sources} sources needs a batch of at least {num_sources}, "
            f"got {batch_size}; raise data.batch_size or set data.drop_last=true"
        )


def draw_partners(batch_size: int, num_partners: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distinct mixing partners for every example of a batch.

    The batch is arranged in one random cycle. Partner k of an example is the example at distance
    d_k along the cycle; the K distances are random, distinct, and the same for all examples. So no
    example is its own partner or has a partner twice, and every example is a partner K times.
    Independent permutations, as the reference code of the 2nd place of BirdCLEF 2023 draws them,
    pair one example per batch with itself on average.

    Args:
        batch_size: Number of examples B.
        num_partners: Partners per example K, below ``batch_size``.
        rng: Source of randomness.

    Returns:
        Indices of the partners, int64 [B, K].

    Raises:
        ValueError: If ``num_partners >= batch_size``.
    """
    check_batch_size(batch_size, num_partners + 1)
    cycle = rng.permutation(batch_size)
    position = np.empty_like(cycle)
    position[cycle] = np.arange(batch_size)
    distances = 1 + rng.permutation(batch_size - 1)[:num_partners]
    return cycle[(position[:, None] + distances) % batch_size]


def draw_from_pool(batch_size: int, pool: range, rng: np.random.Generator) -> np.ndarray:
    """Draw one pool example for each example of a batch, none twice before all were drawn once.

    Args:
        batch_size: Number of examples B.
        pool: Indices of the pool's examples in the batch followed by the pools, 1 or more.
        rng: Source of randomness.

    Returns:
        Indices in the batch followed by the pools, int64 [B].
    """
    num_rounds = -(-batch_size // len(pool))
    indices = np.concatenate([rng.permutation(len(pool)) for _ in range(num_rounds)])
    return pool.start + indices[:batch_size]


def prepend_self(partners: np.ndarray) -> np.ndarray:
    """Prepend each example's own index to its partners [B, K]: the sources [B, S] of a plan."""
    return np.concatenate([np.arange(len(partners))[:, None], partners], axis=1)


def draw_listed_counts(
    probabilities: Sequence[float], num_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw numbers of sources, int64, from the probabilities of two, three, four and more."""
    draws = rng.random(num_draws)
    return 2 + np.searchsorted(np.cumsum(probabilities)[:-1], draws, side="right")


def draw_beta_binomial_counts(
    max_sources: int, a: float, b: float, num_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw numbers of sources 1 + BetaBinomial(max_sources - 1, a, b), int64."""
    return 1 + rng.binomial(max_sources - 1, rng.beta(a, b, num_draws))


def use_first_slots(source: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Restrict each example to its first sources.

    Args:
        source: Sources of a plan, int64 [B, S].
        counts: Number of sources of each example, int64 [B].

    Returns:
        The sources, with the example itself in unused slots, int64 [B, S]; and which slots are
        used, bool [B, S].
    """
    used = np.arange(source.shape[1]) < counts[:, None]
    return np.where(used, source, np.arange(len(source))[:, None]), used


def plan_unfit(unfit: np.ndarray | None) -> np.ndarray | None:
    """Return which sources do not fit [B, S], from which partners do not [B, K]; None for none."""
    if unfit is None or not unfit.any():
        return None
    return np.pad(unfit, ((0, 0), (1, 0)))


def draw_uniform(
    bounds: Sequence[float], shape: int | tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Draw numbers uniformly from a range [lowest, highest]."""
    low, high = bounds
    return rng.uniform(low, high, shape)


def db_to_gain(level_db: np.ndarray) -> np.ndarray:
    """Return linear gains from gains in dB."""
    return 10 ** (level_db / 20)


def draw_dirichlet_gains(
    counts: np.ndarray, concentration: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw gains from symmetric Dirichlet distributions.

    Args:
        counts: Number of sources of each example, int64 [B].
        concentration: Concentration of the distribution, above 0; 1 is uniform.
        rng: Source of randomness.

    Returns:
        float32 [B, S], S being the largest count; the gains of an example add up to 1, and are 0
        in unused slots.
    """
    gains = np.zeros((len(counts), counts.max()), np.float32)
    for count in np.unique(counts):
        selected = counts == count
        drawn = rng.dirichlet([concentration] * count, size=int(selected.sum()))
        gains[selected, :count] = round_gains(drawn)
    return gains


def lambda_to_gains(lam: np.ndarray) -> np.ndarray:
    """Return gains lambda and 1 - lambda for lambdas [B]: float32 [B, 2], adding up to 1."""
    return round_gains(np.stack([lam, 1 - lam], axis=1))


def round_gains(gains: np.ndarray, used: np.ndarray | bool = True) -> np.ndarray:
    """Round gains so that those of an example add up to exactly 1 in float32, and none is 0.

    Args:
        gains: Gains that add up to 1, [B, S].
        used: Which slots hold a source, bool [B, S]; the others get 0.
    """
    steps = np.where(used, np.maximum(np.rint(gains / _GRID), 1), 0)
    largest = gains.argmax(axis=1)[:, None]
    excess = steps.sum(axis=1, keepdims=True) - 1 / _GRID
    np.put_along_axis(steps, largest, np.take_along_axis(steps, largest, axis=1) - excess, axis=1)
    return (steps * _GRID).astype(np.float32)


def draw_boxes_of_area(area: np.ndarray, axis: str, rng: np.random.Generator) -> Boxes:
    """Draw the positions of boxes of given areas; each lies wholly inside its example.

    Args:
        area: Fraction of the example that its box covers, in [0, 1], float64 [B].
        axis: ``time`` (a time span), ``frequency`` (a frequency band) or ``box`` (both, of equal
            fractions of their axes); see ``BOX_AXES``.
        rng: Source of randomness.
    """
    return BOX_AXES[axis](area, rng)


def _draw_time_spans(area: np.ndarray, rng: np.random.Generator) -> Boxes:
    return Boxes(_draw_spans(area, rng), _full_axis(len(area)))


def _draw_frequency_bands(area: np.ndarray, rng: np.random.Generator) -> Boxes:
    return Boxes(_full_axis(len(area)), _draw_spans(area, rng))


def _draw_boxes(area: np.ndarray, rng: np.random.Generator) -> Boxes:
    side = np.sqrt(area)
    return Boxes(_draw_spans(side, rng), _draw_spans(side, rng))


#: Boxes of given areas, [B], by the axes that they do not cover wholly.
BOX_AXES: dict[str, Callable[[np.ndarray, np.random.Generator], Boxes]] = {
    "time": _draw_time_spans,
    "frequency": _draw_frequency_bands,
    "box": _draw_boxes,
}


def _full_axis(num_boxes: int) -> np.ndarray:
    return np.tile((0.0, 1.0), (num_boxes, 1))


def _draw_spans(width: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw begin and end in [0, 1] of spans of these widths [B]: float64 [B, 2]."""
    begin = rng.random(len(width)) * (1 - width)
    return np.stack([begin, begin + width], axis=1)

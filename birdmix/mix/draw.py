"""Draw plans: numpy on the host, no data.

Shapes: B batch, K partners, S = K + 1 sources.
"""

import numpy as np

from birdmix.mix.plan import Plan


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
    if num_partners >= batch_size:
        raise ValueError(
            f"mixing {num_partners + 1} sources needs a batch of at least {num_partners + 1}, "
            f"got {batch_size}; raise data.batch_size or set data.drop_last=true"
        )
    cycle = rng.permutation(batch_size)
    place = np.empty_like(cycle)
    place[cycle] = np.arange(batch_size)
    distances = 1 + rng.permutation(batch_size - 1)[:num_partners]
    return cycle[(place[:, None] + distances) % batch_size]


def sum_plan(
    batch_size: int, num_sources: int, mix_beta: float | None, rng: np.random.Generator
) -> Plan:
    """Draw a plan in which every sample sums ``num_sources`` sources.

    Args:
        batch_size: Number of samples B.
        num_sources: Sources per sample S, the sample itself among them.
        mix_beta: None gives every source gain 1; a number draws the gains of each sample from the
            symmetric Dirichlet distribution with this concentration, so that they add up to 1.
        rng: Source of randomness.
    """
    partners = draw_partners(batch_size, num_sources - 1, rng)
    source = np.concatenate([np.arange(batch_size)[:, None], partners], axis=1)
    if mix_beta is None:
        gain = np.ones(source.shape)
    else:
        gain = rng.dirichlet([mix_beta] * num_sources, size=batch_size)
    return Plan(source, gain.astype(np.float32))


def convex_plan(batch_size: int, mix_beta: float, rng: np.random.Generator) -> Plan:
    """Draw a plan of two sources per sample with gains lambda and 1 - lambda.

    Source: Zhang et al. 2018, arXiv:1710.09412; lambda ~ Beta(mix_beta, mix_beta) for each sample,
    not one for the batch.
    """
    partners = draw_partners(batch_size, 1, rng)
    lam = rng.beta(mix_beta, mix_beta, size=batch_size).astype(np.float32)
    source = np.concatenate([np.arange(batch_size)[:, None], partners], axis=1)
    return Plan(source, np.stack([lam, 1 - lam], axis=1))

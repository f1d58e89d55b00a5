"""What mix settings promise: rates, numbers of sources, and distributions of parts and levels.

Everything follows from the settings in closed form, not from the code that draws; so a comparison
with what was drawn is a check of both. Where no closed form is known, nothing is promised.

Shapes: E edges, E - 1 bins.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from birdmix.mix import CutMix, Inject, Mixup, Mixup2, Operator
from birdmix.mix.mix_schedule import value_at

#: A cumulative distribution function: the probability of at most x, for an array of x.
Cdf = Callable[[np.ndarray], np.ndarray]

# How often a comparison calls a true promise broken: a page has a dozen of them.
_ERROR_RATE = 1e-3

# Bounds of gains are met in float32 and in dB: a value at a bound counts as inside.
_ROUNDING = 1e-9


def gate_probability(operator: Operator, progress: float) -> float:
    """Return the probability that an example is mixed by an operator.

    Args:
        operator: The operator.
        progress: Fraction of the run that is done, in [0, 1].
    """
    alone = source_count_probabilities(operator, progress).get(1, 0.0)
    return value_at(operator.probability, progress) * (1 - alone)


def source_count_probabilities(operator: Operator, progress: float) -> dict[int, float]:
    """Return the probability of each number of sources, if the operator is applied.

    One source is an example that is not mixed, as with a control that mixes nothing.

    Args:
        operator: The operator.
        progress: Fraction of the run that is done, in [0, 1].
    """
    if operator.control in ("no_mixing", "resampling"):
        return {1: 1.0}
    if isinstance(operator, Mixup):
        if operator.max_sources is not None:
            n = operator.max_sources - 1
            law = stats.betabinom(n, *operator.source_count_beta)
            return {1 + k: float(law.pmf(k)) for k in range(n + 1)}
        double = value_at(operator.mixup_double, progress)
        listed = list(operator.num_sources) or [double, 1 - double]
    else:
        listed = list(operator.num_sources2) if isinstance(operator, Mixup2) else []
        listed = listed or [1.0]
    return {count: p for count, p in enumerate(listed, start=2) if p > 0}


def own_part_cdf(operator: Operator, progress: float, num_sources: int) -> Cdf | None:
    """Return the distribution of lambda, the part of a mix that is the example itself.

    Args:
        operator: The operator.
        progress: Fraction of the run that is done, in [0, 1].
        num_sources: Number of sources of the mix, 2 or more.

    Returns:
        Its distribution function; None if it has no closed form.
    """
    if isinstance(operator, Mixup):
        return _mixup_part(operator, progress, num_sources)
    if isinstance(operator, Mixup2):
        return _mixup2_part(operator, progress, num_sources)
    if isinstance(operator, CutMix):
        beta = value_at(operator.beta, progress)
        return stats.beta(beta, beta).cdf
    if isinstance(operator, Inject):
        return _inject_part(operator)
    return None


def _mixup_part(operator: Mixup, progress: float, num_sources: int) -> Cdf | None:
    if operator.mix_beta is not None:
        beta = value_at(operator.mix_beta, progress)
        return stats.beta(beta, (num_sources - 1) * beta).cdf  # marginal of the Dirichlet
    if operator.source_gain is not None:
        return None
    if operator.partner_gain_db is not None:
        return _part_of_partner_db(operator.partner_gain_db, 1) if num_sources == 2 else None
    return _constant(1 / num_sources)


def _mixup2_part(operator: Mixup2, progress: float, num_sources: int) -> Cdf | None:
    if operator.fixed_lambda is not None:
        return _constant(max(operator.fixed_lambda, operator.min_lambda))
    if operator.own_is_larger and num_sources > 2:
        return None
    beta = value_at(operator.mix_beta2, progress)
    law = stats.beta(beta, (num_sources - 1) * beta)

    def cdf(part: np.ndarray) -> np.ndarray:
        probability = law.cdf(part)
        if operator.own_is_larger:
            probability = np.maximum(2 * probability - 1, 0)  # of the larger of two, by symmetry
        return np.where(part < operator.min_lambda, 0, probability)

    return cdf


def _inject_part(operator: Inject) -> Cdf:
    if operator.blend is not None:
        low, high = operator.blend
        return _uniform(1 - high, 1 - low)
    if operator.snr_db is not None:
        return _part_of_partner_db(operator.snr_db, -1)
    if operator.gain_db is not None:
        return _part_of_partner_db(operator.gain_db, 1)
    if operator.gain is not None:
        gain = _uniform(*operator.gain)
        return lambda x: 1 - gain(_partner_gain(x) - _ROUNDING)
    return _constant(0.5)


def _part_of_partner_db(bounds: list[float], sign: int) -> Cdf:
    """Return the law of 1 / (1 + g), g uniform in dB within bounds; ``sign`` -1 is 1 / g."""
    low, high = sorted(sign * bound for bound in bounds)
    decibel = _uniform(low, high)

    def cdf(part: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return 1 - decibel(20 * np.log10(_partner_gain(part)) - _ROUNDING)

    return cdf


def _partner_gain(part: np.ndarray) -> np.ndarray:
    """Return the gain g of a partner at which the example's part is 1 / (1 + g)."""
    part = np.asarray(part, float)
    with np.errstate(divide="ignore"):
        return np.where(part > 0, np.maximum(1 / np.where(part > 0, part, 1) - 1, 0), np.inf)


def own_snr_cdf(part: Cdf) -> Cdf:
    """Return the law of the example's level against one partner, in dB, if levels are matched.

    Args:
        part: Law of the example's part: its gain, over the sum of both gains.
    """

    def cdf(snr_db: np.ndarray) -> np.ndarray:
        return part(1 / (1 + 10 ** (-np.asarray(snr_db, float) / 20)))

    return cdf


def bin_probabilities(cdf: Cdf, edges: np.ndarray) -> np.ndarray:
    """Return the probability of each bin between edges [E], float64 [E - 1].

    What lies outside is added to the first and the last bin.
    """
    inner = np.asarray(cdf(edges[1:-1]), float)
    return np.diff(np.concatenate([[0.0], inner, [1.0]]))


def _constant(value: float) -> Cdf:
    return lambda x: (np.asarray(x) >= value).astype(float)


def _uniform(low: float, high: float) -> Cdf:
    if high <= low:
        return _constant(low)
    return lambda x: np.clip((np.asarray(x) - low) / (high - low), 0, 1)


def chance_interval(
    probability: np.ndarray, num_draws: int, num_tests: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return between which rates chance leaves what is drawn, in 999 of 1,000 comparisons.

    Args:
        probability: Promised probability of each outcome, in [0, 1].
        num_draws: Number of independent draws.
        num_tests: Number of outcomes that are compared together (Bonferroni).

    Returns:
        The lowest and the highest rate, in [0, 1], each shaped as ``probability``.
    """
    tail = _ERROR_RATE / num_tests / 2
    bounds = stats.binom(num_draws, np.clip(probability, 0, 1))
    return bounds.ppf(tail) / num_draws, bounds.isf(tail) / num_draws

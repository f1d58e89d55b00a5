"""The operators: how each draws.

Shapes: B batch, P pool, S sources.
"""

from collections.abc import Mapping
from typing import Unpack

import numpy as np

from birdmix.mix.checks import (
    check_concentration,
    check_num_sources,
    check_probability,
    check_range,
)
from birdmix.mix.draw import (
    convex_gains,
    dirichlet_gains,
    draw_boxes,
    draw_from_pool,
    draw_partners,
    with_themselves,
)
from birdmix.mix.label_rules import CONVEX, MAX, UNION, LabelRule
from birdmix.mix.names import AXES, SCOPES
from birdmix.mix.operator import Operator, Options
from birdmix.mix.plan import Plan
from birdmix.mix.schedule import Scheduled, value_at, values
from birdmix.suggest import check_choice


class Mixup(Operator):
    """Sum two, three or more samples of a batch.

    Source: the 2nd place of BirdCLEF 2023. Departures: partners are distinct and never the sample
    itself; ``mix_beta``, which that code stores and never reads, draws gains here.

    Args:
        mixup_prob: Probability that it fires.
        mixup_double: Given that, the probability of two sources; otherwise three.
        mix_beta: None sums at gain 1; a number draws the gains from a symmetric Dirichlet
            distribution with this concentration (Beta for two), so that they add up to 1.
        num_sources: Instead of ``mixup_double``: the probability of each number of sources, as in
            ``{2: 0.5, 3: 0.3, 4: 0.2}``.
        label_rule: How targets are joined.
        options: Those of every ``Operator``.
    """

    def __init__(
        self,
        mixup_prob: Scheduled,
        mixup_double: Scheduled = 0.5,
        mix_beta: Scheduled | None = None,
        *,
        num_sources: Mapping[int, float] | None = None,
        label_rule: LabelRule = UNION,
        **options: Unpack[Options],
    ) -> None:
        check_probability("mixup_prob", mixup_prob)
        check_probability("mixup_double", mixup_double)
        if mix_beta is not None:
            check_concentration("mix_beta", mix_beta)
        if num_sources is not None:
            check_num_sources(num_sources)
        super().__init__(mixup_prob, label_rule=label_rule, **options)
        self.mixup_double = mixup_double
        self.mix_beta = mix_beta
        self.num_sources = num_sources

    @property
    def num_batch_sources(self) -> int:
        """Sources of the largest sum."""
        if self.num_sources is not None:
            return max(count for count, prob in self.num_sources.items() if prob > 0)
        return 3 if min(values(self.mixup_double)) < 1 else 2

    def draw_fired(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw the number of sources, the partners and their gains."""
        double = value_at(self.mixup_double, progress)
        law = self.num_sources or {2: double, 3: 1 - double}
        draws = rng.random(1 if self.scope == "batch" else batch_size)
        index = np.searchsorted(np.cumsum(list(law.values()))[:-1], draws, side="right")
        counts = np.broadcast_to(np.array(list(law))[index], batch_size)
        source = with_themselves(draw_partners(batch_size, counts.max() - 1, rng))
        unused = np.arange(source.shape[1]) >= counts[:, None]
        source = np.where(unused, np.arange(batch_size)[:, None], source)
        if self.mix_beta is None:
            return Plan(source, (~unused).astype(np.float32))
        return Plan(source, dirichlet_gains(counts, value_at(self.mix_beta, progress), rng))


class Mixup2(Operator):
    """Blend pairs of samples convexly, lambda of the sample and 1 - lambda of its partner.

    Source: the 2nd place of BirdCLEF 2023, after Zhang et al. 2018, arXiv:1710.09412. Departure:
    a sample is never its own partner. One lambda per batch is Zhang et al.'s own form.

    Args:
        mix_beta: Concentration b of lambda ~ Beta(b, b).
        mixup2_prob: Probability that it fires.
        lambda_per: One draw of lambda for each ``sample``, or one for the ``batch``.
        own_is_larger: Take max(lambda, 1 - lambda).
        min_lambda: Lower bound on lambda, in [0, 1).
        fixed_lambda: Use this lambda, in (0, 1), instead of drawing one.
        label_rule: How targets are joined.
        options: Those of every ``Operator``.
    """

    def __init__(
        self,
        mix_beta: Scheduled,
        mixup2_prob: Scheduled,
        *,
        lambda_per: str = "sample",
        own_is_larger: bool = False,
        min_lambda: float = 0.0,
        fixed_lambda: float | None = None,
        label_rule: LabelRule = CONVEX,
        **options: Unpack[Options],
    ) -> None:
        check_concentration("mix_beta", mix_beta)
        check_probability("mixup2_prob", mixup2_prob)
        check_choice("lambda_per", lambda_per, SCOPES)
        if not 0 <= min_lambda < 1:
            raise ValueError(f"min_lambda={min_lambda}: it lies in [0, 1)")
        if fixed_lambda is not None and not 0 < fixed_lambda < 1:
            raise ValueError(
                f"fixed_lambda={fixed_lambda}: it lies in (0, 1); mixup2_prob=0 mixes nothing"
            )
        super().__init__(mixup2_prob, label_rule=label_rule, **options)
        self.mix_beta = mix_beta
        self.lambda_per = lambda_per
        self.own_is_larger = own_is_larger
        self.min_lambda = min_lambda
        self.fixed_lambda = fixed_lambda

    def draw_fired(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw the partners and their lambdas."""
        source = with_themselves(draw_partners(batch_size, 1, rng))
        if self.fixed_lambda is not None:
            lam = np.array([self.fixed_lambda])
        else:
            beta = value_at(self.mix_beta, progress)
            lam = rng.beta(beta, beta, size=1 if self.lambda_per == "batch" else batch_size)
        if self.own_is_larger:
            lam = np.maximum(lam, 1 - lam)
        lam = np.maximum(lam, self.min_lambda)
        return Plan(source, convex_gains(np.broadcast_to(lam, batch_size)))


class CutMix(Operator):
    """Put a piece of one sample in the place of the same piece of another.

    Source: Yun et al. 2019, arXiv:1905.04899. Departures: a sample is never its own partner; a box
    lies wholly inside the sample, so that its area is the one drawn; one box per sample. Shares go
    by the area on the tensor's own grid; strong targets move frame by frame.

    Args:
        cutmix_prob: Probability that it fires.
        cutmix_beta: Concentration b of the area left to the sample itself, lambda ~ Beta(b, b).
        axis: ``time`` (a span of time), ``frequency`` (a band, of spectrograms) or ``box``.
        label_rule: How targets are joined.
        options: Those of every ``Operator``.
    """

    def __init__(
        self,
        cutmix_prob: Scheduled,
        cutmix_beta: Scheduled = 1.0,
        *,
        axis: str = "time",
        label_rule: LabelRule = CONVEX,
        **options: Unpack[Options],
    ) -> None:
        check_probability("cutmix_prob", cutmix_prob)
        check_concentration("cutmix_beta", cutmix_beta)
        check_choice("axis", axis, AXES)
        super().__init__(cutmix_prob, label_rule=label_rule, **options)
        self.cutmix_beta = cutmix_beta
        self.axis = axis

    def draw_fired(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw the partners and their boxes."""
        source = with_themselves(draw_partners(batch_size, 1, rng))
        beta = value_at(self.cutmix_beta, progress)
        boxes = draw_boxes(1 - rng.beta(beta, beta, size=batch_size), self.axis, rng)
        return Plan(source, np.ones(source.shape, np.float32), boxes)


class Inject(Operator):
    """Lay a sample of a pool over samples of the batch: background noise, or soundscapes.

    Source: the soundscape and noise mixes of BirdCLEF 2024 (2nd place) and 2026 (1st place).

    Args:
        inject_prob: Probability that it fires.
        gain: Range that the pool sample's gain is drawn from, uniformly.
        snr_db: Instead of ``gain``: range of the sample's level over the pool sample's, in dB; it
            needs levels.
        convex: The sample itself gets 1 - gain, as in a blend.
        label_rule: How targets are joined; its ``label_cap`` limits what comes from the pool.
        options: Those of every ``Operator``; the gate stands before each sample unless told.
    """

    def __init__(
        self,
        inject_prob: Scheduled,
        *,
        gain: tuple[float, float] = (1.0, 1.0),
        snr_db: tuple[float, float] | None = None,
        convex: bool = False,
        label_rule: LabelRule = MAX,
        **options: Unpack[Options],
    ) -> None:
        check_probability("inject_prob", inject_prob)
        check_range("gain", gain, 0)
        if snr_db is not None:
            check_range("snr_db", snr_db, -np.inf)
        if convex and (snr_db is not None or gain[1] > 1):
            raise ValueError(
                f"convex=True blends with a gain in [0, 1], not gain={list(gain)}, snr_db={snr_db}"
            )
        options.setdefault("scope", "sample")
        super().__init__(inject_prob, label_rule=label_rule, **options)
        self.gain = gain
        self.snr_db = snr_db
        self.convex = convex

    @property
    def num_batch_sources(self) -> int:
        """One: the others come from the pool."""
        return 1

    def draw_fired(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw the pool samples and their gains."""
        if pool_size == 0:
            raise ValueError("there is no pool to inject from; pass pool=Samples(x, target)")
        source = with_themselves(draw_from_pool(batch_size, pool_size, rng)[:, None])
        if self.snr_db is not None:
            gain = 10 ** (-rng.uniform(*self.snr_db, size=batch_size) / 20)
        else:
            gain = rng.uniform(*self.gain, size=batch_size)
        if self.convex:
            return Plan(source, convex_gains(1 - gain))
        gains = np.stack([np.ones(batch_size), gain], axis=1).astype(np.float32)
        return Plan(source, gains, matched=self.snr_db is not None)

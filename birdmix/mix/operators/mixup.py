"""Mixup: sums of two, three or more examples of a batch.

Shapes: B batch, K partners, S sources.
"""

from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, field

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.base_operator import Operator
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.label_rules import RULES
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, schedule_endpoints, value_at
from birdmix.mix.parameter_checks import (
    check_at_most_one,
    check_concentration,
    check_db_range,
    check_gain_range,
    check_number_probabilities,
    check_probability,
)
from birdmix.mix.partners import draw_fitting_partners
from birdmix.mix.random_draws import (
    db_to_gain,
    draw_beta_binomial_counts,
    draw_dirichlet_gains,
    draw_listed_counts,
    draw_uniform,
    plan_unfit,
    prepend_self,
    use_first_slots,
)
from birdmix.mix.shared_options import PartnerOption, ScalingOptions, TimeShiftOption


@dataclass
class MixupSettings(ScalingOptions, PartnerOption, TimeShiftOption):
    """Settings of Mixup.

    Attributes:
        mixup_prob: Probability of a sum, in [0, 1]; 0 is off.
        mixup_double: Given a sum, the probability of two sources, in [0, 1]; otherwise three.
        mix_beta: null (None) sums at gain 1. A number, above 0, is the concentration of a symmetric
            Dirichlet distribution (Beta for two sources) of gains that add up to 1.
        num_sources: Replaces ``mixup_double``: the probabilities of two, three, four and more
            sources, as in [0.5, 0.3, 0.2]; empty uses ``mixup_double``.
        max_sources: Replaces ``mixup_double``: the number of sources is 1 + BetaBinomial(n, a, b)
            with n = max_sources - 1 and [a, b] = ``source_count_beta``; with 1 the example is not
            mixed (Perch 2, van Merrienboer et al. 2025, arXiv:2508.04665). null (None): not used.
        source_count_beta: Parameters [a, b] of that distribution, above 0; [1, 1] is uniform.
        source_gain: Range of linear gains, [lowest, highest], drawn uniformly for each source by
            itself, the example included (sumix, the 7th place of BirdCLEF 2023, is [0.3, 1] with
            mixup_rule=saturating). null (None): not used.
        partner_gain_db: Range of the partners' gains in dB, drawn uniformly for each by itself; the
            example has gain 1. null (None): not used.
        unit_power: Whether gains are divided by the root of the sum of their squares, so that a mix
            of equally loud, independent sources is as loud as each of them (Perch 2).
        partner_pool: Mix pool that partners are drawn from; null (None) draws them from the batch.
        mixup_rule: How labels are joined: union, convex, max, noisy_or, amplitude, saturating
            or own.

    Raises:
        ValueError: If a value is out of range.
    """

    mixup_prob: ScheduledFloat
    mixup_double: ScheduledFloat = 0.5
    mix_beta: ScheduledFloat | None = None
    _: KW_ONLY
    num_sources: list[float] = field(default_factory=list)
    max_sources: int | None = None
    source_count_beta: list[float] = field(default_factory=lambda: [1.0, 1.0])
    source_gain: list[float] | None = None
    partner_gain_db: list[float] | None = None
    unit_power: bool = False
    partner_pool: str | None = None
    mixup_rule: str = "union"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("mixup_prob", self.mixup_prob)
        check_probability("mixup_double", self.mixup_double)
        if self.mix_beta is not None:
            check_concentration("mix_beta", self.mix_beta)
        check_number_probabilities("num_sources", self.num_sources)
        self._check_beta_binomial()
        if self.source_gain is not None:
            check_gain_range("source_gain", self.source_gain)
        if self.partner_gain_db is not None:
            check_db_range("partner_gain_db", self.partner_gain_db)
        check_at_most_one(
            mix_beta=self.mix_beta,
            source_gain=self.source_gain,
            partner_gain_db=self.partner_gain_db,
        )
        check_choice("mixup_rule", self.mixup_rule, RULES)

    def _check_beta_binomial(self) -> None:
        check_at_most_one(num_sources=self.num_sources or None, max_sources=self.max_sources)
        if self.max_sources is not None and self.max_sources < 2:
            raise ValueError(f"max_sources={self.max_sources}: it must be at least 2")
        parameters = self.source_count_beta
        if len(parameters) != 2 or not 0 < min(parameters) <= max(parameters) < np.inf:
            raise ValueError(
                f"source_count_beta={list(parameters)}: it must be two numbers above 0, [a, b]"
            )


@dataclass
class Mixup(Operator, MixupSettings):
    """Sum two, three or more examples of a batch, at gain 1 or at random gains.

    Source: the 2nd place of BirdCLEF 2023. Departures: partners are distinct and never the example
    itself; ``mix_beta``, which that code stores and does not use, sets how gains are drawn.

    Between-class learning (Tokozume et al. 2018, arXiv:1711.10282) is mix_beta=1, mixup_double=1,
    match_level=loudness, unit_power=True, partners=no_common_class and mixup_rule=convex: shares
    are drawn, and the gains follow from the levels. Departure from Perch 2: sources are drawn from
    the batch, without replacement, not from all data.
    """

    probability_setting = "mixup_prob"
    rule_setting = "mixup_rule"

    def pools_in(self, names: Collection[str]) -> set[str]:
        """Return the pool of partners, if there is one; see ``Operator.pools_in``."""
        return set() if self.partner_pool is None else {self.partner_pool}

    @property
    def min_pool_size(self) -> int:
        """The largest number of partners."""
        return self._max_num_sources - 1

    @property
    def min_batch_size(self) -> int:
        """The largest number of sources of nonzero probability; 1 with a pool of partners."""
        return 1 if self.partner_pool is not None else self._max_num_sources

    @property
    def _max_num_sources(self) -> int:
        if self.max_sources is not None:
            return self.max_sources
        if self.num_sources:
            return max(count for count, prob in enumerate(self.num_sources, start=2) if prob > 0)
        return 3 if min(schedule_endpoints(self.mixup_double)) < 1 else 2

    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw numbers of sources, partners and gains; see ``Operator.draw_full_plan``."""
        counts = self._draw_counts(context.batch_size, rng, progress)
        num_partners = int(counts.max()) - 1
        if self.partner_pool is None:
            partners, unfit = self.draw_batch_partners(context, num_partners, rng)
        else:
            pool = context.candidates(self.partner_pool)
            partners, unfit = draw_fitting_partners(context, num_partners, self.partners, pool, rng)
        source, used = use_first_slots(prepend_self(partners), counts)
        return Plan(
            source,
            self._draw_gains(used, rng, progress),
            match=self.match_level,
            unit_power=self.unit_power,
            shift=self.draw_time_shifts(source.shape, rng),
            aligned=self.is_aligned,
            unfit=plan_unfit(unfit),
        )

    def _draw_counts(
        self, batch_size: int, rng: np.random.Generator, progress: float
    ) -> np.ndarray:
        """Draw the number of sources of each example, int64 [B]."""
        num_draws = 1 if self.scope == "batch" else batch_size
        if self.max_sources is not None:
            a, b = self.source_count_beta
            counts = draw_beta_binomial_counts(self.max_sources, a, b, num_draws, rng)
        else:
            double = value_at(self.mixup_double, progress)
            probabilities: Sequence[float] = self.num_sources or [double, 1 - double]
            counts = draw_listed_counts(probabilities, num_draws, rng)
        return np.broadcast_to(counts, batch_size)

    def _draw_gains(
        self, used: np.ndarray, rng: np.random.Generator, progress: float
    ) -> np.ndarray:
        """Draw the gains of the used slots [B, S]: float32, 0 elsewhere."""
        if self.mix_beta is not None:
            return draw_dirichlet_gains(used.sum(axis=1), value_at(self.mix_beta, progress), rng)
        gain = np.ones(used.shape)
        if self.source_gain is not None:
            gain = draw_uniform(self.source_gain, used.shape, rng)
            gain[used.sum(axis=1) == 1] = 1  # no mix
        elif self.partner_gain_db is not None:
            gain[:, 1:] = db_to_gain(draw_uniform(self.partner_gain_db, gain[:, 1:].shape, rng))
        return np.where(used, gain, 0).astype(np.float32)

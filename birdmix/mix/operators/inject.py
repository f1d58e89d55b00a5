"""Inject: an example of a mix pool, such as noise or a soundscape, is added to each example.

Shapes: B batch.
"""

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.base_operator import Operator
from birdmix.mix.draw_context import DrawContext, InjectedGroup
from birdmix.mix.label_rules import RULES, LabelRule
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, value_at
from birdmix.mix.parameter_checks import (
    check_at_most_one,
    check_db_range,
    check_gain_range,
    check_probability,
    check_range,
)
from birdmix.mix.partners import PARTNERS, draw_fitting_partners
from birdmix.mix.random_draws import (
    db_to_gain,
    draw_from_pool,
    draw_uniform,
    lambda_to_gains,
    plan_unfit,
    prepend_self,
)
from birdmix.mix.shared_options import PartnerOption, ScalingOptions, TimeShiftOption


@dataclass
class InjectSettings(ScalingOptions, PartnerOption, TimeShiftOption):
    """Settings of Inject.

    How loud the pool example is, is set by one of ``gain``, ``gain_db``, ``snr_db`` and ``blend``;
    without any of them its gain is 1.

    Attributes:
        prob: Probability that an example is added, in [0, 1]; 0 is off.
        pool: Name of the mix pool (``data.pools``); null (None) is all pools together.
        gain: Range of the pool example's linear gain, [lowest, highest], drawn uniformly.
        gain_db: The same in dB.
        snr_db: Range of the example's level minus the pool example's level after its gain, in dB,
            drawn uniformly. It needs levels.
        blend: Range of the pool example's gain g in [0, 1], drawn uniformly; the example itself
            gets gain 1 - g. [0.5, 0.5] is a constant blend (BirdCLEF 2025, 1st place).
        rule: How labels are joined: max, convex, union, noisy_or, amplitude, saturating or own.
        label_cap: ``LabelRule.label_cap``: largest sum of labels that a pool example adds.
        label_sum: ``LabelRule.label_sum``: sum that a pool example's labels are scaled to.
        group: Injectors of one group are never applied to the same example; their probabilities add
            up to 1 or less. null (None): applied independently of others.

    Raises:
        ValueError: If a value is out of range, or values exclude each other.
    """

    prob: ScheduledFloat
    _: KW_ONLY
    pool: str | None = None
    gain: list[float] | None = None
    gain_db: list[float] | None = None
    snr_db: list[float] | None = None
    blend: list[float] | None = None
    rule: str = "max"
    label_cap: float | None = None
    label_sum: float | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("prob", self.prob)
        check_at_most_one(
            gain=self.gain, gain_db=self.gain_db, snr_db=self.snr_db, blend=self.blend
        )
        for name, check in (
            ("gain", check_gain_range),
            ("gain_db", check_db_range),
            ("snr_db", check_db_range),
        ):
            if getattr(self, name) is not None:
                check(name, getattr(self, name))
        if self.blend is not None:
            check_range("blend", self.blend, 0)
        if self.blend is not None and self.blend[1] > 1:
            raise ValueError(f"blend={list(self.blend)}: the gains of a blend lie in [0, 1]")
        if self.snr_db is not None and self.match_level == "loudness":
            raise ValueError(
                f"snr_db={list(self.snr_db)}: it states levels by RMS; use gain_db with "
                "match_level=loudness"
            )
        check_choice("rule", self.rule, RULES)
        self.with_label_limits(RULES[self.rule])  # checks the limits

    def with_label_limits(self, rule: LabelRule) -> LabelRule:
        """Return a rule with ``label_cap`` and ``label_sum``, where they are set."""
        if self.label_cap is None and self.label_sum is None:
            return rule
        return replace(rule, label_cap=self.label_cap, label_sum=self.label_sum)


@dataclass
class Inject(Operator, InjectSettings):
    """Add an example of a mix pool to examples of the batch: background noise or soundscapes.

    By default it is decided for each example whether one is added.

    Source: the soundscape and noise mixes of BirdCLEF 2024 (2nd place), 2025 and 2026 (1st places).
    """

    scope: str = field(default="sample", kw_only=True)

    @property
    def effective_rule(self) -> LabelRule:
        """How targets are joined, with ``label_cap`` and ``label_sum``."""
        return self.with_label_limits(super().effective_rule)

    @property
    def needs_levels(self) -> bool:
        """Whether the mix depends on the levels of its sources."""
        return super().needs_levels or self.snr_db is not None

    def pools_in(self, names: Collection[str]) -> set[str]:
        """Return the pool, or all of them; see ``Operator.pools_in``."""
        return set(names) if self.pool is None else {self.pool}

    @property
    def min_batch_size(self) -> int:
        """One: the other source comes from the pool."""
        return 1

    def draw_mixed(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> np.ndarray:
        """Draw which examples are mixed; in a group, among those that are not mixed yet.

        Raises:
            ValueError: If the probabilities of the group add up to more than 1.
        """
        if self.group is None or self.group not in context.injected:
            return super().draw_mixed(context, rng, progress)
        before, probability = context.injected[self.group], value_at(self.prob, progress)
        if before.probability + probability > 1 + 1e-6:
            raise ValueError(
                f"group={self.group}: the probabilities of its injectors add up to "
                f"{before.probability + probability:g}; they act on different examples, so lower "
                "them to 1 together"
            )
        # Given that none of the others was applied, so that the probability is as stated.
        conditional = probability / max(1 - before.probability, probability)
        drawn = rng.random(1 if self.scope == "batch" else context.batch_size) < conditional
        return drawn & ~before.mixed

    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw pool examples and their gains; see ``Operator.draw_full_plan``.

        Raises:
            ValueError: If there is no such pool.
        """
        pool, unfit = context.candidates(self.pool), None
        if PARTNERS[self.partners] is None and not _holds_recordings_of_batch(context, pool):
            partners = draw_from_pool(context.batch_size, pool, rng)[:, None]
        else:
            partners, unfit = draw_fitting_partners(context, 1, self.partners, pool, rng)
        source = prepend_self(partners)
        return Plan(
            source,
            self._draw_gains(context.batch_size, rng),
            match=self.match_level if self.snr_db is None else "rms",
            shift=self.draw_time_shifts(source.shape, rng),
            aligned=self.is_aligned,
            unfit=plan_unfit(unfit),
        )

    def _draw_gains(self, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the gains of examples and pool examples, float32 [B, 2]."""
        if self.blend is not None:
            return lambda_to_gains(1 - draw_uniform(self.blend, batch_size, rng))
        gain = np.ones(batch_size)
        if self.snr_db is not None:
            gain = db_to_gain(-draw_uniform(self.snr_db, batch_size, rng))
        elif self.gain_db is not None:
            gain = db_to_gain(draw_uniform(self.gain_db, batch_size, rng))
        elif self.gain is not None:
            gain = draw_uniform(self.gain, batch_size, rng)
        return np.stack([np.ones(batch_size), gain], axis=1).astype(np.float32)

    def context_after(self, context: DrawContext, plan: Plan, progress: float) -> DrawContext:
        """Return the context after a mix, with the examples that this group has mixed."""
        context_after = super().context_after(context, plan, progress)
        if self.group is None:
            return context_after
        mixed, probability = plan.source_counts > 1, value_at(self.prob, progress)
        before = context.injected.get(self.group)
        if before is not None:
            mixed, probability = mixed | before.mixed, probability + before.probability
        group = InjectedGroup(mixed, probability)
        return context_after._replace(injected={**context.injected, self.group: group})


def _holds_recordings_of_batch(context: DrawContext, pool: range) -> bool:
    """Return whether a pool has a segment of a recording that is in the batch, too."""
    recording = context.recording
    return recording is not None and bool(
        np.isin(recording[pool.start : pool.stop], recording[: context.batch_size]).any()
    )

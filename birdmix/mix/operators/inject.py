"""Inject: an example of the mix pool, such as noise or a soundscape, is added to each example.

Shapes: B batch, P mix pool.
"""

from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.base_operator import Operator
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.label_rules import RULES, LabelRule
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat
from birdmix.mix.parameter_checks import check_probability, check_range
from birdmix.mix.random_draws import draw_from_pool, lambda_to_gains, prepend_self
from birdmix.mix.shared_options import ScalingOptions


@dataclass
class InjectSettings(ScalingOptions):
    """Settings of Inject.

    Attributes:
        prob: Probability that an example is added, in [0, 1]; 0 is off.
        gain: Range of the pool example's linear gain, [lowest, highest], drawn uniformly.
        snr_db: Replaces ``gain``: range of the example's level minus the pool example's level
            after its gain, in dB, drawn uniformly. It needs levels.
        convex: Whether the example itself gets gain 1 - gain, as in a blend.
        rule: How labels are joined: max, convex, union, noisy_or or amplitude.
        label_cap: Replaces ``LabelRule.label_cap`` of the rule; null (None) keeps it.

    Raises:
        ValueError: If a value is out of range.
    """

    prob: ScheduledFloat
    _: KW_ONLY
    gain: list[float] = field(default_factory=lambda: [1.0, 1.0])
    snr_db: list[float] | None = None
    convex: bool = False
    rule: str = "max"
    label_cap: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("prob", self.prob)
        check_range("gain", self.gain, 0)
        if self.snr_db is not None:
            check_range("snr_db", self.snr_db, -np.inf)
        if self.convex and (self.snr_db is not None or self.gain[1] > 1):
            raise ValueError(
                f"convex=True blends with a gain in [0, 1], not gain={list(self.gain)}, "
                f"snr_db={self.snr_db}"
            )
        check_choice("rule", self.rule, RULES)
        replace(RULES[self.rule], label_cap=self.label_cap)  # checks the cap


@dataclass
class Inject(Operator, InjectSettings):
    """Add an example of the mix pool to examples of the batch: background noise or soundscapes.

    By default it is decided for each example whether one is added.

    Source: the soundscape and noise mixes of BirdCLEF 2024 (2nd place) and 2026 (1st place).
    """

    scope: str = field(default="sample", kw_only=True)

    @property
    def effective_rule(self) -> LabelRule:
        """How targets are joined, with ``label_cap``."""
        rule = super().effective_rule
        return rule if self.label_cap is None else replace(rule, label_cap=self.label_cap)

    @property
    def min_batch_size(self) -> int:
        """One: the other source comes from the pool."""
        return 1

    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw pool examples and their gains; see ``Operator.draw_full_plan``.

        Raises:
            ValueError: If there is no pool.
        """
        batch_size = context.batch_size
        source = prepend_self(draw_from_pool(batch_size, context.candidates(None), rng)[:, None])
        if self.snr_db is not None:
            gain = 10 ** (-rng.uniform(self.snr_db[0], self.snr_db[1], batch_size) / 20)
        else:
            gain = rng.uniform(self.gain[0], self.gain[1], batch_size)
        if self.convex:
            return Plan(source, lambda_to_gains(1 - gain))
        gains = np.stack([np.ones(batch_size), gain], axis=1).astype(np.float32)
        return Plan(source, gains, matched=self.snr_db is not None)

"""Mixup: sums of two, three or more examples of a batch.

Shapes: B batch, S sources.
"""

from dataclasses import KW_ONLY, dataclass, field

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.base_operator import Operator
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.label_rules import RULES
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, schedule_endpoints, value_at
from birdmix.mix.parameter_checks import check_concentration, check_probability
from birdmix.mix.random_draws import draw_dirichlet_gains, draw_partners, prepend_self
from birdmix.mix.shared_options import ScalingOptions


@dataclass
class MixupSettings(ScalingOptions):
    """Settings of Mixup.

    Attributes:
        mixup_prob: Probability of a sum, in [0, 1]; 0 is off.
        mixup_double: Given a sum, the probability of two sources, in [0, 1]; otherwise three.
        mix_beta: null (None) sums at gain 1. A number, above 0, is the concentration of a symmetric
            Dirichlet distribution (Beta for two sources) of gains that add up to 1.
        num_sources: Replaces ``mixup_double``: the probabilities of two, three, four and more
            sources, as in [0.5, 0.3, 0.2]; empty uses ``mixup_double``.
        mixup_rule: How labels are joined: union, convex, max, noisy_or or amplitude.

    Raises:
        ValueError: If a value is out of range.
    """

    mixup_prob: ScheduledFloat
    mixup_double: ScheduledFloat = 0.5
    mix_beta: ScheduledFloat | None = None
    _: KW_ONLY
    num_sources: list[float] = field(default_factory=list)
    mixup_rule: str = "union"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("mixup_prob", self.mixup_prob)
        check_probability("mixup_double", self.mixup_double)
        if self.mix_beta is not None:
            check_concentration("mix_beta", self.mix_beta)
        probabilities = self.num_sources
        if probabilities and (min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-6):
            raise ValueError(
                f"num_sources={list(probabilities)}: probabilities of two, three, ... sources must "
                "add up to 1"
            )
        check_choice("mixup_rule", self.mixup_rule, RULES)


@dataclass
class Mixup(Operator, MixupSettings):
    """Sum two, three or more examples of a batch, at gain 1 or at random gains.

    Source: the 2nd place of BirdCLEF 2023. Departures: partners are distinct and never the example
    itself; ``mix_beta``, which that code stores and does not use, sets how gains are drawn.
    """

    probability_setting = "mixup_prob"
    rule_setting = "mixup_rule"

    @property
    def min_batch_size(self) -> int:
        """The largest number of sources of nonzero probability."""
        if self.num_sources:
            return max(count for count, prob in enumerate(self.num_sources, start=2) if prob > 0)
        return 3 if min(schedule_endpoints(self.mixup_double)) < 1 else 2

    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw numbers of sources, partners and gains; see ``Operator.draw_full_plan``."""
        batch_size = context.batch_size
        double = value_at(self.mixup_double, progress)
        probabilities = self.num_sources or [double, 1 - double]
        draws = rng.random(1 if self.scope == "batch" else batch_size)
        index = np.searchsorted(np.cumsum(probabilities)[:-1], draws, side="right")
        counts = np.broadcast_to(2 + index, batch_size)
        source = prepend_self(draw_partners(batch_size, counts.max() - 1, rng))
        unused = np.arange(source.shape[1]) >= counts[:, None]
        source = np.where(unused, np.arange(batch_size)[:, None], source)
        if self.mix_beta is None:
            return Plan(source, (~unused).astype(np.float32))
        return Plan(source, draw_dirichlet_gains(counts, value_at(self.mix_beta, progress), rng))

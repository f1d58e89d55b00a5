"""Mixup2: convex blends of two examples of a batch.

Shapes: B batch.
"""

from dataclasses import KW_ONLY, dataclass

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.base_operator import Operator
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.label_rules import RULES
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, value_at
from birdmix.mix.parameter_checks import check_concentration, check_probability
from birdmix.mix.random_draws import draw_partners, lambda_to_gains, prepend_self
from birdmix.mix.shared_options import SCOPES, CheckedSettings


@dataclass
class Mixup2Settings(CheckedSettings):
    """Settings of Mixup2.

    Attributes:
        mix_beta2: Concentration b of lambda ~ Beta(b, b), above 0.
        mixup2_prob: Probability of a blend, in [0, 1]; 0 is off.
        lambda_per: Whether lambda is drawn for each sample (example) or once for the batch.
        own_is_larger: Whether to use max(lambda, 1 - lambda).
        min_lambda: Lower bound on lambda, in [0, 1).
        fixed_lambda: Constant lambda in (0, 1); null (None) draws it.
        mixup2_rule: How labels are joined: convex, union, max, noisy_or or amplitude.

    Raises:
        ValueError: If a value is out of range.
    """

    mix_beta2: ScheduledFloat
    mixup2_prob: ScheduledFloat
    _: KW_ONLY
    lambda_per: str = "sample"
    own_is_larger: bool = False
    min_lambda: float = 0.0
    fixed_lambda: float | None = None
    mixup2_rule: str = "convex"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_concentration("mix_beta2", self.mix_beta2)
        check_probability("mixup2_prob", self.mixup2_prob)
        check_choice("lambda_per", self.lambda_per, SCOPES)
        if not 0 <= self.min_lambda < 1:
            raise ValueError(f"min_lambda={self.min_lambda}: it lies in [0, 1)")
        if self.fixed_lambda is not None and not 0 < self.fixed_lambda < 1:
            raise ValueError(
                f"fixed_lambda={self.fixed_lambda}: it lies in (0, 1); mixup2_prob=0 mixes nothing"
            )
        check_choice("mixup2_rule", self.mixup2_rule, RULES)


@dataclass
class Mixup2(Operator, Mixup2Settings):
    """Blend pairs of examples convexly: gain lambda for the example, 1 - lambda for its partner.

    Source: the 2nd place of BirdCLEF 2023, after Zhang et al. 2018, arXiv:1710.09412. Departures:
    an example is never its own partner; one lambda per example by default, where Zhang et al. draw
    one per batch.
    """

    probability_setting = "mixup2_prob"
    rule_setting = "mixup2_rule"

    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw partners and lambdas; see ``Operator.draw_full_plan``."""
        batch_size = context.batch_size
        source = prepend_self(draw_partners(batch_size, 1, rng))
        if self.fixed_lambda is not None:
            lam = np.array([self.fixed_lambda])
        else:
            beta = value_at(self.mix_beta2, progress)
            lam = rng.beta(beta, beta, size=1 if self.lambda_per == "batch" else batch_size)
        if self.own_is_larger:
            lam = np.maximum(lam, 1 - lam)
        lam = np.maximum(lam, self.min_lambda)
        return Plan(source, lambda_to_gains(np.broadcast_to(lam, batch_size)))

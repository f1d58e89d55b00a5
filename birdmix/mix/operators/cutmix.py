"""CutMix: a box of each example is replaced by the same box of its partner.

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
from birdmix.mix.random_draws import BOX_AXES, draw_boxes_of_area, plan_unfit, prepend_self
from birdmix.mix.shared_options import PartnerOption, ScalingOptions


@dataclass
class CutMixSettings(ScalingOptions, PartnerOption):
    """Settings of CutMix.

    Attributes:
        prob: Probability of a paste, in [0, 1]; 0 is off.
        beta: Concentration b, above 0, of lambda ~ Beta(b, b), the area that the example keeps.
        axis: Shape of the box: time (a time span), frequency (a frequency band, of spectrograms) or
            box.
        rule: How labels are joined: convex, union, max, noisy_or, amplitude,
            saturating or own.

    Raises:
        ValueError: If a value is out of range.
    """

    prob: ScheduledFloat
    beta: ScheduledFloat = 1.0
    _: KW_ONLY
    axis: str = "time"
    rule: str = "convex"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("prob", self.prob)
        check_concentration("beta", self.beta)
        check_choice("axis", self.axis, BOX_AXES)
        if self.match_level == "loudness":
            raise ValueError("match_level=loudness: CutMix matches levels by rms only")
        check_choice("rule", self.rule, RULES)


@dataclass
class CutMix(Operator, CutMixSettings):
    """Replace a box of each example by the same box of its partner.

    Source: Yun et al. 2019, arXiv:1905.04899. Departures: an example is never its own partner; a
    box lies wholly inside the example, so that its area is the one drawn; one box per example.
    Label shares are areas on the tensor's own grid; strong targets are joined frame by frame.
    """

    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw partners and boxes; see ``Operator.draw_full_plan``."""
        partners, unfit = self.draw_batch_partners(context, 1, rng)
        source = prepend_self(partners)
        beta = value_at(self.beta, progress)
        area = 1 - rng.beta(beta, beta, size=context.batch_size)
        return Plan(
            source,
            np.ones(source.shape, np.float32),
            draw_boxes_of_area(area, self.axis, rng),
            match=self.match_level,
            unfit=plan_unfit(unfit),
        )

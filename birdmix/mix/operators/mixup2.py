"""Mixup2: convex blends of two, three or more examples of a batch.

Shapes: B batch, S sources.
"""

from dataclasses import KW_ONLY, dataclass, field

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.base_operator import Operator
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.label_rules import RULES
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, value_at
from birdmix.mix.parameter_checks import (
    check_concentration,
    check_number_probabilities,
    check_probability,
)
from birdmix.mix.random_draws import (
    draw_dirichlet_gains,
    draw_listed_counts,
    lambda_to_gains,
    plan_unfit,
    prepend_self,
    round_gains,
    use_first_slots,
)
from birdmix.mix.shared_options import SCOPES, PartnerOption, TimeShiftOption


@dataclass
class Mixup2Settings(PartnerOption, TimeShiftOption):
    """Settings of Mixup2.

    Attributes:
        mix_beta2: Concentration b, above 0, of lambda ~ Beta(b, b), or of the symmetric Dirichlet
            distribution of the gains of three or more sources.
        mixup2_prob: Probability of a blend, in [0, 1]; 0 is off.
        lambda_per: Whether lambda is drawn for each sample (example) or once for the batch.
        num_sources2: Probabilities of two, three, four and more sources, as in [0.5, 0.3, 0.2];
            empty is two.
        own_is_larger: Whether the example gets the largest gain, as max(lambda, 1 - lambda).
        min_lambda: Lower bound on lambda, in [0, 1).
        fixed_lambda: Constant lambda in (0, 1); null (None) draws it.
        mixup2_rule: How labels are joined: convex, union, max, noisy_or, amplitude, saturating
            or own.

    Raises:
        ValueError: If a value is out of range.
    """

    mix_beta2: ScheduledFloat
    mixup2_prob: ScheduledFloat
    _: KW_ONLY
    num_sources2: list[float] = field(default_factory=list)
    lambda_per: str = "sample"
    own_is_larger: bool = False
    min_lambda: float = 0.0
    fixed_lambda: float | None = None
    mixup2_rule: str = "convex"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_concentration("mix_beta2", self.mix_beta2)
        check_probability("mixup2_prob", self.mixup2_prob)
        check_number_probabilities("num_sources2", self.num_sources2)
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
    """Blend examples convexly: gain lambda for the example, 1 - lambda for its partner or partners.

    Source: the 2nd place of BirdCLEF 2023, after Zhang et al. 2018, arXiv:1710.09412; three or more
    sources after the Dirichlet blends of spectrograms of Bird-MAE, Rauch et al. 2025,
    arXiv:2504.12880. Departures: an example is never its own partner; one lambda per example by
    default, where Zhang et al. draw one per batch.
    """

    probability_setting = "mixup2_prob"
    rule_setting = "mixup2_rule"

    @property
    def min_batch_size(self) -> int:
        """The largest number of sources of nonzero probability."""
        return max(
            [2, *(count for count, prob in enumerate(self.num_sources2, start=2) if prob > 0)]
        )

    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw numbers of sources, partners and gains; see ``Operator.draw_full_plan``."""
        counts = np.full(context.batch_size, 2)
        if self.num_sources2:
            num_draws = 1 if self.scope == "batch" else context.batch_size
            counts[:] = draw_listed_counts(self.num_sources2, num_draws, rng)
        partners, unfit = self.draw_batch_partners(context, int(counts.max()) - 1, rng)
        source, _ = use_first_slots(prepend_self(partners), counts)
        return Plan(
            source,
            self._draw_gains(counts, value_at(self.mix_beta2, progress), rng),
            match=self.match_level,
            shift=self.draw_time_shifts(source.shape, rng),
            aligned=self.is_aligned,
            unfit=plan_unfit(unfit),
        )

    def _draw_gains(self, counts: np.ndarray, beta: float, rng: np.random.Generator) -> np.ndarray:
        """Draw the gains of each example's sources, float32 [B, S], 0 in unused slots."""
        if self.num_sources2:
            return self._draw_gains_of_several(counts, beta, rng)
        lam = np.zeros(1)
        if self.fixed_lambda is None:
            lam = rng.beta(beta, beta, size=1 if self.lambda_per == "batch" else len(counts))
        if self.own_is_larger:
            lam = np.maximum(lam, 1 - lam)
        return lambda_to_gains(np.broadcast_to(self._bound_lambda(lam), len(counts)))

    def _draw_gains_of_several(
        self, counts: np.ndarray, beta: float, rng: np.random.Generator
    ) -> np.ndarray:
        distinct = np.unique(counts) if self.lambda_per == "batch" else counts
        gain = draw_dirichlet_gains(distinct, beta, rng).astype(float)
        if self.lambda_per == "batch":
            gain = gain[np.searchsorted(distinct, counts)]
        if self.own_is_larger:
            largest = gain.argmax(axis=1)[:, None]
            own = gain[:, :1].copy()
            gain[:, :1] = np.take_along_axis(gain, largest, axis=1)
            np.put_along_axis(gain, largest, own, axis=1)
        lam = self._bound_lambda(gain[:, :1])
        others = gain[:, 1:] * (1 - lam) / gain[:, 1:].sum(axis=1, keepdims=True)
        return round_gains(np.concatenate([lam, others], axis=1), used=gain > 0)

    def _bound_lambda(self, lam: np.ndarray) -> np.ndarray:
        """Return the example's own gains after the options that bound or fix them."""
        if self.fixed_lambda is not None:
            lam = np.full(lam.shape, self.fixed_lambda)
        return np.maximum(lam, self.min_lambda)

"""The mix operators: Mixup (sum), Mixup2 (blend), CutMix (box), Inject (from the mix pool).

Shapes: B batch, P mix pool, S sources.
"""

from collections.abc import Mapping
from typing import Unpack

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.base_operator import Operator, OperatorOptions
from birdmix.mix.label_rules import CONVEX, MAX, UNION, LabelRule
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, schedule_endpoints, value_at
from birdmix.mix.parameter_checks import (
    AXES,
    SCOPES,
    check_concentration,
    check_probability,
    check_range,
    check_source_count_probabilities,
)
from birdmix.mix.random_draws import (
    draw_boxes_of_area,
    draw_dirichlet_gains,
    draw_from_pool,
    draw_partners,
    lambda_to_gains,
    prepend_self,
)


class Mixup(Operator):
    """Sum two, three or more examples of a batch, at gain 1 or at random gains.

    Source: the 2nd place of BirdCLEF 2023. Departures: partners are distinct and never the example
    itself; ``mix_beta``, which that code stores and does not use, sets how gains are drawn.

    Args:
        mixup_prob: Probability of mixing, in [0, 1].
        mixup_double: Given a mix, the probability of two sources, in [0, 1]; otherwise three.
        mix_beta: None is gain 1 for each source. A number, above 0, is the concentration of a
            symmetric Dirichlet distribution (Beta for two sources) of gains that add up to 1.
        num_sources: Replaces ``mixup_double``: the probability of each number of sources, as in
            ``{2: 0.5, 3: 0.3, 4: 0.2}``.
        label_rule: How targets are joined.
        options: Options of ``Operator``.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(
        self,
        mixup_prob: ScheduledFloat,
        mixup_double: ScheduledFloat = 0.5,
        mix_beta: ScheduledFloat | None = None,
        *,
        num_sources: Mapping[int, float] | None = None,
        label_rule: LabelRule = UNION,
        **options: Unpack[OperatorOptions],
    ) -> None:
        check_probability("mixup_prob", mixup_prob)
        check_probability("mixup_double", mixup_double)
        if mix_beta is not None:
            check_concentration("mix_beta", mix_beta)
        if num_sources is not None:
            check_source_count_probabilities(num_sources)
        super().__init__(mixup_prob, label_rule=label_rule, **options)
        self.mixup_double = mixup_double
        self.mix_beta = mix_beta
        self.num_sources = num_sources

    @property
    def min_batch_size(self) -> int:
        """The largest number of sources of nonzero probability."""
        if self.num_sources is not None:
            return max(count for count, prob in self.num_sources.items() if prob > 0)
        return 3 if min(schedule_endpoints(self.mixup_double)) < 1 else 2

    def draw_full_plan(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw numbers of sources, partners and gains; see ``Operator.draw_full_plan``."""
        double = value_at(self.mixup_double, progress)
        probabilities = self.num_sources or {2: double, 3: 1 - double}
        draws = rng.random(1 if self.scope == "batch" else batch_size)
        bounds = np.cumsum(list(probabilities.values()))[:-1]
        index = np.searchsorted(bounds, draws, side="right")
        counts = np.broadcast_to(np.array(list(probabilities))[index], batch_size)
        source = prepend_self(draw_partners(batch_size, counts.max() - 1, rng))
        unused = np.arange(source.shape[1]) >= counts[:, None]
        source = np.where(unused, np.arange(batch_size)[:, None], source)
        if self.mix_beta is None:
            return Plan(source, (~unused).astype(np.float32))
        return Plan(source, draw_dirichlet_gains(counts, value_at(self.mix_beta, progress), rng))


class Mixup2(Operator):
    """Blend pairs of examples convexly: gain lambda for the example, 1 - lambda for its partner.

    Source: the 2nd place of BirdCLEF 2023, after Zhang et al. 2018, arXiv:1710.09412. Departures:
    an example is never its own partner; one lambda per example by default, where Zhang et al. draw
    one per batch.

    Args:
        mix_beta: Concentration b of lambda ~ Beta(b, b), above 0.
        mixup2_prob: Probability of mixing, in [0, 1].
        lambda_per: Whether lambda is drawn for each ``sample`` (example) or once for the ``batch``.
        own_is_larger: Whether to use max(lambda, 1 - lambda).
        min_lambda: Lower bound on lambda, in [0, 1).
        fixed_lambda: Constant lambda in (0, 1) instead of a random one.
        label_rule: How targets are joined.
        options: Options of ``Operator``.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(
        self,
        mix_beta: ScheduledFloat,
        mixup2_prob: ScheduledFloat,
        *,
        lambda_per: str = "sample",
        own_is_larger: bool = False,
        min_lambda: float = 0.0,
        fixed_lambda: float | None = None,
        label_rule: LabelRule = CONVEX,
        **options: Unpack[OperatorOptions],
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

    def draw_full_plan(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw partners and lambdas; see ``Operator.draw_full_plan``."""
        source = prepend_self(draw_partners(batch_size, 1, rng))
        if self.fixed_lambda is not None:
            lam = np.array([self.fixed_lambda])
        else:
            beta = value_at(self.mix_beta, progress)
            lam = rng.beta(beta, beta, size=1 if self.lambda_per == "batch" else batch_size)
        if self.own_is_larger:
            lam = np.maximum(lam, 1 - lam)
        lam = np.maximum(lam, self.min_lambda)
        return Plan(source, lambda_to_gains(np.broadcast_to(lam, batch_size)))


class CutMix(Operator):
    """Replace a box of each example by the same box of its partner.

    Source: Yun et al. 2019, arXiv:1905.04899. Departures: an example is never its own partner; a
    box lies wholly inside the example, so that its area is the one drawn; one box per example.
    Label shares are areas on the tensor's own grid; strong targets are joined frame by frame.

    Args:
        cutmix_prob: Probability of mixing, in [0, 1].
        cutmix_beta: Concentration b, above 0, of lambda ~ Beta(b, b), the area that the example
            keeps.
        axis: ``time`` (a time span), ``frequency`` (a frequency band, of spectrograms) or ``box``.
        label_rule: How targets are joined.
        options: Options of ``Operator``.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(
        self,
        cutmix_prob: ScheduledFloat,
        cutmix_beta: ScheduledFloat = 1.0,
        *,
        axis: str = "time",
        label_rule: LabelRule = CONVEX,
        **options: Unpack[OperatorOptions],
    ) -> None:
        check_probability("cutmix_prob", cutmix_prob)
        check_concentration("cutmix_beta", cutmix_beta)
        check_choice("axis", axis, AXES)
        super().__init__(cutmix_prob, label_rule=label_rule, **options)
        self.cutmix_beta = cutmix_beta
        self.axis = axis

    def draw_full_plan(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw partners and boxes; see ``Operator.draw_full_plan``."""
        source = prepend_self(draw_partners(batch_size, 1, rng))
        beta = value_at(self.cutmix_beta, progress)
        boxes = draw_boxes_of_area(1 - rng.beta(beta, beta, size=batch_size), self.axis, rng)
        return Plan(source, np.ones(source.shape, np.float32), boxes)


class Inject(Operator):
    """Add an example of the mix pool to examples of the batch: background noise or soundscapes.

    Source: the soundscape and noise mixes of BirdCLEF 2024 (2nd place) and 2026 (1st place).

    Args:
        inject_prob: Probability of mixing, in [0, 1].
        gain: Range of the pool example's linear gain, drawn uniformly.
        snr_db: Replaces ``gain``: range of the example's level minus the pool example's level
            after its gain, in dB, drawn uniformly. It needs levels.
        convex: Whether the example itself gets gain 1 - gain, as in a blend.
        label_rule: How targets are joined; its ``label_cap`` limits the labels from the pool.
        options: Options of ``Operator``; ``scope`` is ``sample`` unless given.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(
        self,
        inject_prob: ScheduledFloat,
        *,
        gain: tuple[float, float] = (1.0, 1.0),
        snr_db: tuple[float, float] | None = None,
        convex: bool = False,
        label_rule: LabelRule = MAX,
        **options: Unpack[OperatorOptions],
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
    def min_batch_size(self) -> int:
        """One: the other source comes from the pool."""
        return 1

    def draw_full_plan(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw pool examples and their gains; see ``Operator.draw_full_plan``.

        Raises:
            ValueError: If there is no pool.
        """
        if pool_size == 0:
            raise ValueError("there is no pool to inject from; pass pool=Examples(x, target)")
        source = prepend_self(draw_from_pool(batch_size, pool_size, rng)[:, None])
        if self.snr_db is not None:
            gain = 10 ** (-rng.uniform(*self.snr_db, size=batch_size) / 20)
        else:
            gain = rng.uniform(*self.gain, size=batch_size)
        if self.convex:
            return Plan(source, lambda_to_gains(1 - gain))
        gains = np.stack([np.ones(batch_size), gain], axis=1).astype(np.float32)
        return Plan(source, gains, matched=self.snr_db is not None)

"""The operators: tensors in, mixed tensors out. They know no batch type, trainer or configuration.

Shapes: B batch, C classes; x is [B, ...], a waveform batch or a mel batch.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from birdmix.mix.apply import apply
from birdmix.mix.draw import convex_plan, sum_plan
from birdmix.mix.label_rules import CONVEX, UNION, LabelRule, join_known, join_weight
from birdmix.mix.plan import Plan
from birdmix.mix.settings import check_concentration, check_probability


class Mixed(NamedTuple):
    """What an operator returns, always all of it.

    Attributes:
        x: Mixed inputs, shaped as given.
        target: Mixed targets, [B, C].
        weight: Mixed sample weights [B], or None if none were given.
        known: Mixed known mask, bool [B, C], or None if none was given.
        plan: The plan that was applied.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None
    known: Tensor | None
    plan: Plan


class MixupOperator(nn.Module, ABC):
    """Draw a plan, apply it, join the labels. In eval mode the identity, without a copy.

    Attributes:
        label_rule: How targets are joined.
    """

    label_rule: LabelRule

    @abstractmethod
    def draw(self, batch_size: int, rng: np.random.Generator) -> Plan:
        """Draw the plan of one batch."""

    def forward(
        self,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        known: Tensor | None = None,
        *,
        rng: np.random.Generator,
    ) -> Mixed:
        """Mix a batch.

        Args:
            x: Inputs [B, ...], floating.
            target: Soft targets in [0, 1], floating, [B, C].
            weight: Sample weights [B].
            known: Which labels were annotated, bool [B, C].
            rng: Source of all randomness of this call.

        Raises:
            ValueError: If the batch is too small for the partners drawn or tensors do not fit.
        """
        _check(x, target, weight, known)
        plan = self.draw(len(x), rng) if self.training else Plan.identity(len(x))
        if plan.is_identity:
            return Mixed(x, target, weight, known, plan)
        return Mixed(
            x=apply(plan, x),
            target=self.label_rule.join(plan, target),
            weight=None if weight is None else join_weight(plan, weight),
            known=None if known is None else join_known(plan, known, target),
            plan=plan,
        )


class Mixup(MixupOperator):
    """Sum two or three samples of a batch; one gate per batch.

    Source: the 2nd place of BirdCLEF 2023. Departures: partners are distinct and never the sample
    itself; ``mix_beta``, which that code stores and never reads, draws gains here.

    Args:
        mixup_prob: Probability that a batch is mixed.
        mixup_double: Given that, the probability of two sources; otherwise three.
        mix_beta: None sums at gain 1; a number draws the gains from a symmetric Dirichlet
            distribution with this concentration.
        label_rule: How targets are joined.
    """

    def __init__(
        self,
        mixup_prob: float,
        mixup_double: float,
        mix_beta: float | None = None,
        *,
        label_rule: LabelRule = UNION,
    ) -> None:
        super().__init__()
        check_probability("mixup_prob", mixup_prob)
        check_probability("mixup_double", mixup_double)
        if mix_beta is not None:
            check_concentration("mix_beta", mix_beta)
        self.mixup_prob = mixup_prob
        self.mixup_double = mixup_double
        self.mix_beta = mix_beta
        self.label_rule = label_rule

    def draw(self, batch_size: int, rng: np.random.Generator) -> Plan:
        """Draw the gate, the number of sources, the partners and their gains."""
        if rng.random() >= self.mixup_prob:
            return Plan.identity(batch_size)
        num_sources = 2 if rng.random() < self.mixup_double else 3
        return sum_plan(batch_size, num_sources, self.mix_beta, rng)


class Mixup2(MixupOperator):
    """Blend pairs of samples convexly; one gate per batch, one lambda per sample.

    Source: the 2nd place of BirdCLEF 2023, after Zhang et al. 2018, arXiv:1710.09412. Departure:
    a sample is never its own partner.

    Args:
        mix_beta: Concentration b of lambda ~ Beta(b, b).
        mixup2_prob: Probability that a batch is mixed.
        label_rule: How targets are joined.
    """

    def __init__(
        self, mix_beta: float, mixup2_prob: float, *, label_rule: LabelRule = CONVEX
    ) -> None:
        super().__init__()
        check_concentration("mix_beta", mix_beta)
        check_probability("mixup2_prob", mixup2_prob)
        self.mix_beta = mix_beta
        self.mixup2_prob = mixup2_prob
        self.label_rule = label_rule

    def draw(self, batch_size: int, rng: np.random.Generator) -> Plan:
        """Draw the gate, the partners and their lambdas."""
        if rng.random() >= self.mixup2_prob:
            return Plan.identity(batch_size)
        return convex_plan(batch_size, self.mix_beta, rng)


def _check(x: Tensor, target: Tensor, weight: Tensor | None, known: Tensor | None) -> None:
    if not (x.is_floating_point() and target.is_floating_point()):
        raise ValueError(
            f"mixing needs floating inputs and targets, got {x.dtype} and {target.dtype}; "
            "one-hot encode class indices and call .float()"
        )
    for name, tensor in (("target", target), ("weight", weight), ("known", known)):
        if tensor is not None and len(tensor) != len(x):
            raise ValueError(f"{name} holds {len(tensor)} samples, the input {len(x)}")

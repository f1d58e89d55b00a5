"""Combinations of mix operators: Chain applies several in order, OneOf a random one per batch.

Shapes: B batch, P mix pool.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from birdmix.mix.base_operator import Operator
from birdmix.mix.examples import Examples, MixResult
from birdmix.mix.mix_plan import Plan
from birdmix.mix.random_draws import check_rng


class Chain(nn.Module):
    """Apply several operators in order; the plan of the result is the tuple of their plans.

    Args:
        operators: Operators in order. All get the same mix pool; each gets the levels after the
            one before.
    """

    def __init__(self, *operators: "Operator | OneOf") -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)

    def forward(
        self,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        known: Tensor | None = None,
        frames: Tensor | None = None,
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: Examples | None = None,
        level: Tensor | None = None,
        frames_known: Tensor | None = None,
    ) -> MixResult:
        """Mix a batch; arguments, result and errors are those of ``Operator.forward``."""
        plans: list[Plan] = []
        mixed = MixResult(x, target, weight, known, frames, (), level, frames_known)
        for operator in self.operators:
            mixed = operator(
                *mixed[:5],
                rng=rng,
                progress=progress,
                pool=pool,
                level=mixed.level,
                frames_known=mixed.frames_known,
            )
            plans.append(mixed.plan)
        return mixed._replace(plan=tuple(plans))


class OneOf(nn.Module):
    """Apply one of several operators, chosen at random for each batch.

    Args:
        operators: Operators to choose from.
        weights: Relative frequency of each, 0 or more; None is equal frequencies.

    Raises:
        ValueError: If there is not one weight of 0 or more for each operator, or all are 0.
    """

    def __init__(self, *operators: Operator, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if weights is None:
            weights = [1.0] * len(operators)
        if len(weights) != len(operators) or min(weights, default=-1) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"weights={list(weights)} for {len(operators)} operators; give each one a weight "
                "of 0 or more, not all 0"
            )
        self.operators = nn.ModuleList(operators)
        self.bounds = np.cumsum(weights) / np.sum(weights)

    def forward(
        self,
        x: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        known: Tensor | None = None,
        frames: Tensor | None = None,
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: Examples | None = None,
        level: Tensor | None = None,
        frames_known: Tensor | None = None,
    ) -> MixResult:
        """Mix a batch; arguments, result and errors are those of ``Operator.forward``."""
        check_rng(rng)
        chosen = self.operators[int(np.searchsorted(self.bounds[:-1], rng.random(), side="right"))]
        return chosen(
            x,
            target,
            weight,
            known,
            frames,
            rng=rng,
            progress=progress,
            pool=pool,
            level=level,
            frames_known=frames_known,
        )

"""Operators made of operators.

Shapes: B batch, P pool.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from birdmix.mix.draw import check_rng
from birdmix.mix.operator import Operator
from birdmix.mix.plan import Plan
from birdmix.mix.samples import Mixed, Samples


class Chain(nn.Module):
    """One operator after the other; the plan of the result is a tuple, one for each.

    Args:
        operators: In order. Each takes the same pool, and levels follow what was mixed.
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
        pool: Samples | None = None,
        level: Tensor | None = None,
        frames_known: Tensor | None = None,
    ) -> Mixed:
        """Mix a batch; arguments and result as those of ``Operator.forward``."""
        plans: list[Plan] = []
        mixed = Mixed(x, target, weight, known, frames, (), level, frames_known)
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
    """One of several operators for each batch.

    Args:
        operators: To choose from.
        weights: How often each is chosen, relative to the others; None is equally often.
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
        pool: Samples | None = None,
        level: Tensor | None = None,
        frames_known: Tensor | None = None,
    ) -> Mixed:
        """Mix a batch; arguments and result as those of ``Operator.forward``."""
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

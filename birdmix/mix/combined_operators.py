"""Combinations of mix operators: Chain applies several in order, OneOf a random one per batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from birdmix.mix.base_operator import Mix, Operator, context_of
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.mix_plan import Plan
from birdmix.mix.random_draws import check_rng

if TYPE_CHECKING:
    from birdmix.mix.examples import Examples, MixResult


class Chain(Mix):
    """Apply several operators in order; the plan of the result is the tuple of their plans.

    Args:
        operators: Operators in order. All get the same mix pool; each gets the levels after the
            one before.
    """

    def __init__(self, *operators: "Operator | OneOf") -> None:
        self.operators = operators

    def mix(
        self,
        examples: "Examples",
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: "Examples | None" = None,
        context: DrawContext | None = None,
    ) -> "MixResult[tuple[Plan, ...]]":
        """Mix the examples of a batch; see ``Mix.mix``."""
        from birdmix.mix.examples import MixResult

        plans: list[Plan] = []
        context = context or context_of(examples, pool)
        for operator in self.operators:
            mixed = operator.mix(examples, rng=rng, progress=progress, pool=pool, context=context)
            examples = mixed.examples
            context = mixed.context
            plans.append(mixed.plan)
        return MixResult(examples, tuple(plans), context)


class OneOf(Mix):
    """Apply one of several operators, chosen at random for each batch.

    Args:
        operators: Operators to choose from.
        weights: Relative frequency of each, 0 or more; None is equal frequencies.

    Raises:
        ValueError: If there is not one weight of 0 or more for each operator, or all are 0; or if
            an injector has a group.
    """

    def __init__(self, *operators: Operator, weights: Sequence[float] | None = None) -> None:
        if weights is None:
            weights = [1.0] * len(operators)
        if len(weights) != len(operators) or min(weights, default=-1) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"weights={list(weights)} for {len(operators)} operators; give each one a weight "
                "of 0 or more, not all 0"
            )
        if any(getattr(operator, "group", None) is not None for operator in operators):
            raise ValueError(
                "OneOf applies one operator to a batch, so its injectors need no group; set "
                "group=None"
            )
        self.operators = operators
        self.bounds = np.cumsum(weights) / np.sum(weights)

    def mix(
        self,
        examples: "Examples",
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: "Examples | None" = None,
        context: DrawContext | None = None,
    ) -> "MixResult[Plan]":
        """Mix the examples of a batch by one of the operators; see ``Mix.mix``."""
        check_rng(rng)
        chosen = self.operators[int(np.searchsorted(self.bounds[:-1], rng.random(), side="right"))]
        return chosen.mix(examples, rng=rng, progress=progress, pool=pool, context=context)

"""A mix operator as a torch module, which follows the mode of the model that it is part of."""

from typing import Any

import numpy as np
from torch import nn

from birdmix.mix.base_operator import Mix, context_of
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.examples import Examples, MixResult
from birdmix.mix.mix_examples import return_unmixed
from birdmix.mix.mix_plan import Plan


class MixLayer(nn.Module, Mix):
    """Mixes batches in training mode; in evaluation mode it returns them unmixed.

    Args:
        operator: An operator, or a combination of several.
    """

    def __init__(self, operator: Mix) -> None:
        super().__init__()
        self.operator = operator

    forward = Mix.__call__

    def mix(
        self,
        examples: Examples,
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: Examples | None = None,
        context: DrawContext | None = None,
    ) -> MixResult[Any]:
        """Mix the examples of a batch; see ``Mix.mix``."""
        if self.training:
            return self.operator.mix(
                examples, rng=rng, progress=progress, pool=pool, context=context
            )
        examples = examples.check_and_convert()
        plan = Plan.identity(len(examples.x))
        return return_unmixed(examples, plan, context or context_of(examples, pool))

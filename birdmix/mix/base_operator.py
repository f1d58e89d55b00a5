"""Base classes of mix operators, and of combinations of them.

An operator draws plans; it depends on no batch type, trainer or configuration. Subclasses
(``operators``) differ in how they draw and in their default label rule. What needs torch is
imported when it is called, so operators and their settings are made and checked without it.

Shapes: B batch, P mix pool, C classes, F' label frames, L time intervals; x is [B, ...].
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.controls import CONTROLS, control_plan
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.label_rules import OWN, RULES, LabelRule
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, schedule_endpoints, value_at
from birdmix.mix.random_draws import check_batch_size, check_rng
from birdmix.mix.shared_options import ScalingOptions, ScopeOption

if TYPE_CHECKING:
    from torch import Tensor

    from birdmix.mix.examples import Examples, MixResult
    from birdmix.mix.mix_examples import MixDetails


class Mix(ABC):
    """Base of everything that mixes a batch: operators, and combinations of them."""

    @abstractmethod
    def mix(
        self,
        examples: "Examples",
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: "Examples | None" = None,
        context: DrawContext | None = None,
    ) -> "MixResult[Any]":
        """Mix the examples of a batch.

        Weights, masks and levels of other types are converted (``Examples.check_and_convert``).
        Under the transforms of ``torch.func`` one plan is drawn for the whole transform. Gradients
        and tangents flow through x and target; gains and shares that are measured from x are
        constants.

        Args:
            examples: The batch.
            rng: Source of all randomness of this call.
            progress: Fraction of the run that is done, in [0, 1], for schedules.
            pool: Mix pool: further examples to mix from, on the same device.
            context: What the host knows about the examples; None is the sizes of batch and pool.

        Returns:
            The mixed batch and its plan.

        Raises:
            ValueError: If shapes, types or devices do not agree, targets lie outside [0, 1], or
                the batch is too small.
        """

    def __call__(
        self,
        x: "Tensor",
        target: "Tensor",
        weight: "Tensor | None" = None,
        known: "Tensor | None" = None,
        frames: "Tensor | None" = None,
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: "Examples | None" = None,
        level: "Tensor | None" = None,
        frames_known: "Tensor | None" = None,
        context: DrawContext | None = None,
    ) -> "MixResult[Any]":
        """Mix a batch of tensors: those of ``Examples``; all else as ``mix``."""
        from birdmix.mix.examples import Examples

        examples = Examples(x, target, weight, known, frames, level, frames_known)
        return self.mix(examples, rng=rng, progress=progress, pool=pool, context=context)


@dataclass(kw_only=True)
class Operator(ScopeOption, ScalingOptions, Mix):
    """A mix operator: it draws plans, by which examples are mixed.

    Attributes:
        label_rule: How targets are joined, in place of the rule that the settings name.
        linear: Whether the level of x is that of the sound, so that levels can be measured from x.
            None is yes for waveforms [B, T] and no for all other shapes, which then need ``level``
            if the label rule or ``match_level`` needs levels.
        sample_rate: Hz, of waveforms; needed by match_level=loudness.
        control: Control of a comparison that ``mix`` applies instead of the mix: no_mixing,
            inputs_only or resampling; see ``controls``. None is the mix.
    """

    #: The settings with the probability of mixing and with the name of the label rule.
    probability_setting: ClassVar[str] = "prob"
    rule_setting: ClassVar[str] = "rule"

    label_rule: LabelRule | None = None
    linear: bool | None = None
    sample_rate: int | None = None
    control: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control is not None:
            check_choice("control", self.control, CONTROLS)
        if not isinstance(self.label_rule, LabelRule | None):
            name = self.rule_setting
            raise ValueError(
                f"label_rule={self.label_rule!r}: pass a LabelRule, or a name as {name}"
            )

    @property
    def probability(self) -> ScheduledFloat:
        """Probability of mixing, in [0, 1], of a batch or of an example (``scope``)."""
        return getattr(self, self.probability_setting)

    @property
    def effective_rule(self) -> LabelRule:
        """How targets are joined: ``label_rule`` if given, otherwise the rule that is named."""
        if self.control == "inputs_only":
            return OWN
        if self.label_rule is not None:
            return self.label_rule
        return RULES[getattr(self, self.rule_setting)]

    @property
    def is_enabled(self) -> bool:
        """Whether the probability is above 0 at the start or the end of its schedule."""
        return max(schedule_endpoints(self.probability)) > 0

    @property
    def needs_levels(self) -> bool:
        """Whether the mix depends on the levels of its sources."""
        return self.effective_rule.needs_levels or self.match_level == "rms"

    def pools_in(self, names: Collection[str]) -> set[str]:
        """Return the mix pools that are drawn from, of all pools of a batch; none by default."""
        return set()

    @property
    def min_pool_size(self) -> int:
        """Smallest size of a mix pool that is drawn from: the most examples of it in one mix."""
        return 1

    @property
    def min_batch_size(self) -> int:
        """Smallest batch that can be mixed: the most examples of it in one mix; 2 by default."""
        return 2

    @abstractmethod
    def draw_full_plan(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw a plan in which every example is mixed; ``draw`` then restricts it.

        Args:
            context: Sizes of batch and pools, at least ``min_batch_size`` examples, and what is
                known about the examples.
            rng: Source of randomness.
            progress: Fraction of the run that is done, in [0, 1].
        """

    def draw(
        self, context: DrawContext, rng: np.random.Generator, *, progress: float = 0.0
    ) -> Plan:
        """Draw the plan of one batch, which examples are mixed included, without the batch's data.

        Args:
            context: Sizes of batch and pools, and what is known about the examples; the plan of an
                empty batch mixes nothing.
            rng: Source of randomness.
            progress: Fraction of the run that is done, in [0, 1], for schedules.

        Raises:
            ValueError: If the batch is not empty and smaller than ``min_batch_size``.
        """
        check_rng(rng)
        if not 0 <= progress <= 1:
            raise ValueError(f"progress={progress}: it lies in [0, 1]")
        batch_size = context.batch_size
        if value_at(self.probability, progress) == 0 or batch_size == 0:
            return Plan.identity(batch_size)
        check_batch_size(batch_size, self.min_batch_size)
        mixed = self.draw_mixed(context, rng, progress)
        if not mixed.any():
            return Plan.identity(batch_size)
        plan = self.draw_full_plan(context, rng, progress)
        plan = plan.restrict_to(np.broadcast_to(mixed, batch_size))
        if plan.num_unfit:
            warnings.warn(
                "mix.partners: for some examples too few partners fit, and others were drawn for "
                "them (mix_unfit_partners in metrics.csv); larger batches have more to choose from",
                stacklevel=2,
            )
        return plan

    def may_mix(self, context: DrawContext, rng: np.random.Generator, progress: float) -> bool:
        """Return whether ``draw`` with this generator mixes any example, drawing as little of it.

        Args:
            context: Sizes of batch and pools.
            rng: Source of randomness, as ``draw`` would get it.
            progress: Fraction of the run that is done, in [0, 1].
        """
        if value_at(self.probability, progress) == 0 or context.batch_size == 0:
            return False
        if self.control == "no_mixing":
            return False
        return bool(self.draw_mixed(context, rng, progress).any())

    def draw_mixed(
        self, context: DrawContext, rng: np.random.Generator, progress: float
    ) -> np.ndarray:
        """Draw which examples are mixed: bool, [B] or, with scope=batch, [1]."""
        num_draws = 1 if self.scope == "batch" else context.batch_size
        return rng.random(num_draws) < value_at(self.probability, progress)

    def context_after(self, context: DrawContext, plan: Plan, progress: float) -> DrawContext:
        """Return what the host knows about the examples after a mix by a plan."""
        return context.after(plan)

    def mix(
        self,
        examples: "Examples",
        *,
        rng: np.random.Generator,
        progress: float = 0.0,
        pool: "Examples | None" = None,
        context: DrawContext | None = None,
    ) -> "MixResult[Plan]":
        """Draw a plan and mix the examples by it; see ``Mix.mix``."""
        from birdmix.mix.mix_examples import check_examples

        examples = check_examples(examples, pool)
        context = context or context_of(examples, pool)
        plan = self.draw(context, rng, progress=progress)
        # For a control as for its mix, so that later operators draw the same partners.
        after = self.context_after(context, plan, progress)
        return self._mix_by_plan(control_plan(self.control, plan, rng), examples, pool, after)

    def replay(
        self, plan: Plan, examples: "Examples", pool: "Examples | None" = None
    ) -> "MixResult[Plan]":
        """Mix examples by a given plan, with this operator's label rule and options.

        Args:
            plan: Plan of any operator, for this batch and pool.
            examples: The batch.
            pool: The mix pool that the plan was drawn for.

        Returns:
            The mixed batch and its plan.

        Raises:
            ValueError: If the plan was drawn for another batch or pool.
        """
        from birdmix.mix.mix_examples import check_examples, check_type

        check_type("plan", plan, Plan)
        examples = check_examples(examples, pool)
        return self._mix_by_plan(plan, examples, pool, context_of(examples, pool))

    def describe(
        self, plan: Plan, examples: "Examples", pool: "Examples | None" = None
    ) -> "MixDetails":
        """Return what ``replay`` with the same arguments does: gains, shifts, parts, label shares.

        Args:
            plan: Plan of any operator, for this batch and pool.
            examples: The batch, before the mix.
            pool: The mix pool that the plan was drawn for.

        Raises:
            ValueError: If the plan was drawn for another batch or pool.
        """
        from birdmix.mix.mix_examples import check_examples, check_type, describe_mix

        check_type("plan", plan, Plan)
        return describe_mix(
            plan,
            check_examples(examples, pool),
            pool,
            rule=self.effective_rule,
            post=self.post,
            linear=self.linear,
            sample_rate=self.sample_rate,
        )

    def _mix_by_plan(
        self, plan: Plan, examples: "Examples", pool: "Examples | None", context: DrawContext
    ) -> "MixResult[Plan]":
        from birdmix.mix.mix_examples import mix_by_plan

        return mix_by_plan(
            plan,
            examples,
            pool,
            rule=self.effective_rule,
            post=self.post,
            linear=self.linear,
            sample_rate=self.sample_rate,
            context=context,
        )


def context_of(examples: "Examples", pool: "Examples | None") -> DrawContext:
    """Return a context with nothing but the sizes of a batch and its mix pool."""
    return DrawContext(len(examples.x), {} if pool is None else {"pool": len(pool.x)})

"""Base class of all mix operators: draw a plan, resolve it, apply it, join the labels.

An operator takes tensors and returns tensors; it depends on no batch type, trainer or
configuration. Subclasses (``operators``) differ in how they draw and in their default label rule.

Shapes: B batch, P mix pool, C classes, F' label frames, L time intervals; x is [B, ...].
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TypedDict

import numpy as np
from torch import Tensor, nn

from birdmix.messages import check_choice
from birdmix.mix.apply_plan import apply_and_return_post_gain, check_plan
from birdmix.mix.examples import Examples, MixResult
from birdmix.mix.label_rules import LabelRule, join_sample_weights
from birdmix.mix.mix_plan import Plan
from birdmix.mix.mix_schedule import ScheduledFloat, schedule_endpoints, value_at
from birdmix.mix.parameter_checks import POST_NAMES, SCOPES
from birdmix.mix.random_draws import check_batch_size, check_rng
from birdmix.mix.resolve_plan import resolve_plan
from birdmix.mix.sound_levels import is_linear_input, mixed_level_db


class OperatorOptions(TypedDict, total=False):
    """Options that every operator has; described at ``Operator``."""

    scope: str
    match_rms: bool
    post: str
    linear: bool | None


class Operator(nn.Module, ABC):
    """A mix operator. In eval mode it is the identity and copies nothing.

    Args:
        prob: Probability of mixing, in [0, 1].
        label_rule: How targets are joined.
        scope: Whether one random decision is made for the whole ``batch``, or one for each
            ``sample`` (example).
        match_rms: Whether partners are scaled to the example's own RMS before the gains. Where the
            level of x is not that of the sound, as on normalised spectrograms, x is not scaled and
            only label shares change.
        post: Scaling of mixed examples: ``none``, ``peak_guard`` (a peak above 1 is scaled to 1),
            ``peak_normalise`` (peak 1) or ``standardise`` (mean 0, deviation 1).
        linear: Whether the level of x is that of the sound, so that levels can be measured from x.
            None is yes for waveforms [B, T] and no for all other shapes, which then need ``level``
            if the label rule or ``match_rms`` needs levels.

    Raises:
        ValueError: If an option has no such choice.
    """

    def __init__(
        self,
        prob: ScheduledFloat,
        *,
        label_rule: LabelRule,
        scope: str = "batch",
        match_rms: bool = False,
        post: str = "none",
        linear: bool | None = None,
    ) -> None:
        super().__init__()
        check_choice("scope", scope, SCOPES)
        check_choice("post", post, POST_NAMES)
        self.prob = prob
        self.label_rule = label_rule
        self.scope = scope
        self.match_rms = match_rms
        self.post = post
        self.linear = linear

    @property
    def is_enabled(self) -> bool:
        """Whether the probability is above 0 at the start or the end of its schedule."""
        return max(schedule_endpoints(self.prob)) > 0

    @property
    def needs_levels(self) -> bool:
        """Whether the mix depends on the levels of its sources."""
        return self.label_rule.needs_levels or self.match_rms

    @property
    def min_batch_size(self) -> int:
        """Smallest batch that can be mixed: the most examples of it in one mix; 2 by default."""
        return 2

    @abstractmethod
    def draw_full_plan(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw a plan in which every example is mixed; ``draw`` then restricts it.

        Args:
            batch_size: Number of examples B, at least ``min_batch_size``.
            pool_size: Number of examples P of the mix pool, 0 without one.
            rng: Source of randomness.
            progress: Fraction of the run that is done, in [0, 1].
        """

    def draw(
        self,
        batch_size: int,
        rng: np.random.Generator,
        *,
        progress: float = 0.0,
        pool_size: int = 0,
    ) -> Plan:
        """Draw the plan of one batch, which examples are mixed included, without the batch's data.

        Args:
            batch_size: Number of examples B; the plan of an empty batch mixes nothing.
            rng: Source of randomness.
            progress: Fraction of the run that is done, in [0, 1], for schedules.
            pool_size: Number of examples P of the mix pool.

        Raises:
            ValueError: If the batch is not empty and smaller than ``min_batch_size``.
        """
        check_rng(rng)
        if not 0 <= progress <= 1:
            raise ValueError(f"progress={progress}: it lies in [0, 1]")
        prob = value_at(self.prob, progress)
        if prob == 0 or batch_size == 0:
            return Plan.identity(batch_size)
        check_batch_size(batch_size, self.min_batch_size)
        mixed = rng.random(1 if self.scope == "batch" else batch_size) < prob
        if not mixed.any():
            return Plan.identity(batch_size)
        plan = self.draw_full_plan(batch_size, pool_size, rng, progress)
        if self.match_rms:
            plan = replace(plan, matched=True)
        return plan.restrict_to(np.broadcast_to(mixed, batch_size))

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
        """Mix a batch.

        Weights, masks and levels of other types are converted (``Examples.check_and_convert``).
        Under the transforms of ``torch.func`` one plan is drawn for the whole transform. Gradients
        and tangents flow through x and target; gains and shares that are measured from x are
        constants.

        Args:
            x: Inputs [B, ...], floating: [B, T], [B, C, T], [B, M, F], [B, C, M, F], feature maps.
            target: Soft targets in [0, 1], floating or bool, [B, C].
            weight: Sample weights [B]; None is 1 each.
            known: Which labels were annotated, bool (or 0 and 1) [B, C]; None is all.
            frames: Strong targets in [0, 1], [B, C, F'].
            rng: Source of all randomness of this call.
            progress: Fraction of the run that is done, in [0, 1], for schedules.
            pool: Mix pool: further examples to mix from, on the same device.
            level: RMS of the sound before normalisation, in dB, [B], or of L time intervals,
                [B, L].
            frames_known: Which strong targets were annotated, bool [B, C, F'].

        Returns:
            The mixed batch and its plan.

        Raises:
            ValueError: If shapes, types or devices do not agree, targets lie outside [0, 1], or
                the batch is too small.
        """
        examples = Examples(x, target, weight, known, frames, level, frames_known)
        if not self.training:
            return _return_unmixed(examples.check_and_convert(), Plan.identity(len(x)))
        _check_type("pool", pool, Examples, type(None))
        examples = examples.check_and_convert()
        pool_size = 0 if pool is None else len(pool.x)
        plan = self.draw(len(x), rng, progress=progress, pool_size=pool_size)
        return self._mix(plan, examples, pool)

    def replay(self, plan: Plan, examples: Examples, pool: Examples | None = None) -> MixResult:
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
        _check_type("plan", plan, Plan)
        _check_type("examples", examples, Examples)
        _check_type("pool", pool, Examples, type(None))
        return self._mix(plan, examples.check_and_convert(), pool)

    def _mix(self, plan: Plan, examples: Examples, pool: Examples | None) -> MixResult:
        """Mix validated examples by a plan."""
        if plan.source.max(initial=-1) < len(examples.x):
            pool = None  # the plan draws nothing from the pool, which may then have any shape
        if pool is not None:
            pool = pool.check_and_convert("pool ")
        pool_x = None if pool is None else pool.x
        check_plan(plan, examples.x, pool_x)
        if plan.is_identity:
            return _return_unmixed(examples, plan)
        sources = examples.append_pool_except_x(pool)
        resolved = resolve_plan(plan, sources, pool_x, self.label_rule, self.linear)
        source, share, rule = resolved.source, resolved.share, self.label_rule
        gain = resolved.gain if plan.matched else None
        x, post_gain = apply_and_return_post_gain(
            plan, examples.x, pool_x, gain=gain, post=self.post
        )
        if not is_linear_input(x, self.linear):
            post_gain = None  # scaling a spectrogram does not change the level of its sound
        frame_share, frames_known = resolved.frame_share, sources.frame_known_mask()
        return MixResult(
            x=x,
            target=rule.join_targets(share, source, sources.target),
            weight=None
            if sources.weight is None
            else join_sample_weights(resolved.part, source, sources.weight),
            known=None
            if sources.known is None
            else rule.join_known(share, source, sources.known, sources.target),
            frames=None
            if frame_share is None or sources.frames is None
            else rule.join_targets(frame_share, source, sources.frames),
            plan=plan,
            level=mixed_level_db(
                plan, examples.level, None if pool is None else pool.level, post_gain=post_gain
            ),
            frames_known=None
            if frame_share is None or sources.frames is None or frames_known is None
            else rule.join_known(frame_share, source, frames_known, sources.frames),
        )


def _check_type(name: str, value: object, *types: type) -> None:
    """Raise ValueError if an argument has none of the types; the first one is named."""
    if not isinstance(value, types):
        raise ValueError(
            f"{name} is a {type(value).__name__}; pass a birdmix.mix.{types[0].__name__}"
        )


def _return_unmixed(examples: Examples, plan: Plan) -> MixResult:
    """Return the examples themselves as the result of a plan that mixes nothing."""
    return MixResult(*examples[:5], plan, examples.level, examples.frame_known_mask())

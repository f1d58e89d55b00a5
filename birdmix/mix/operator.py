"""What every operator is: tensors in, mixed tensors out, by a plan that it draws.

Operators differ only in how they draw, and in their default label rule. They know no batch type,
trainer or configuration.

Shapes: B batch, P pool, C classes, F' label frames; x is [B, ...].
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TypedDict

import numpy as np
from torch import Tensor, nn

from birdmix.mix.apply import apply_and_finish, check_plan
from birdmix.mix.draw import check_batch_size, check_rng
from birdmix.mix.label_rules import LabelRule, joined_weight
from birdmix.mix.levels import is_linear, mixed_level
from birdmix.mix.names import POST_NAMES, SCOPES
from birdmix.mix.plan import Plan
from birdmix.mix.resolve import resolve
from birdmix.mix.samples import Mixed, Samples
from birdmix.mix.schedule import Scheduled, value_at, values
from birdmix.suggest import check_choice


class Options(TypedDict, total=False):
    """What every operator can be told; described at ``Operator``."""

    scope: str
    match_rms: bool
    post: str
    linear: bool | None


class Operator(nn.Module, ABC):
    """Draw a plan, resolve it, apply it, join the labels. In eval mode the identity, uncopied.

    Args:
        prob: Probability that it fires.
        label_rule: How targets are joined.
        scope: Whether one gate stands before the whole ``batch``, or one before each ``sample``.
        match_rms: Bring partners to the sample's own RMS before the gains. Where x is not linear
            only labels see it: normalised spectrograms are alike in loudness already.
        post: What is done to a mixed sample: ``none``, ``peak_guard`` (turned down where it exceeds
            1), ``peak_normalise`` or ``standardise``.
        linear: Whether the level of x is that of the sound, where a rule asks for levels. None
            says so of waveforms [B, T] only; others then need ``level``.
    """

    def __init__(
        self,
        prob: Scheduled,
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
    def can_fire(self) -> bool:
        """Whether it ever fires."""
        return max(values(self.prob)) > 0

    @property
    def needs_levels(self) -> bool:
        """Whether it goes by how loud sources are."""
        return self.label_rule.needs_levels or self.match_rms

    @property
    def num_batch_sources(self) -> int:
        """The most samples of the batch that one draw joins: pairs, unless an operator differs."""
        return 2

    @abstractmethod
    def draw_fired(
        self, batch_size: int, pool_size: int, rng: np.random.Generator, progress: float
    ) -> Plan:
        """Draw the plan in which every sample is mixed."""

    def draw(
        self,
        batch_size: int,
        rng: np.random.Generator,
        *,
        progress: float = 0.0,
        pool_size: int = 0,
    ) -> Plan:
        """Draw the gates, the sources and their gains: the plan of one batch, without its data.

        Args:
            batch_size: Samples B.
            rng: Source of randomness.
            progress: Share of the run that is done, in [0, 1].
            pool_size: Samples P of the pool.

        Raises:
            ValueError: If the batch is smaller than the most sources that may be drawn, but not
                empty: the plan of an empty batch mixes nothing.
        """
        check_rng(rng)
        if not 0 <= progress <= 1:
            raise ValueError(f"progress={progress}: the share of a run lies in [0, 1]")
        prob = value_at(self.prob, progress)
        if prob == 0 or batch_size == 0:
            return Plan.identity(batch_size)
        check_batch_size(batch_size, self.num_batch_sources)
        fires = rng.random(1 if self.scope == "batch" else batch_size) < prob
        if not fires.any():
            return Plan.identity(batch_size)
        plan = self.draw_fired(batch_size, pool_size, rng, progress)
        if self.match_rms:
            plan = replace(plan, matched=True)
        return plan.where(np.broadcast_to(fires, batch_size))

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
        """Mix a batch.

        Weights, masks and levels of another type are converted (``Samples.checked``). Under the
        transforms of ``torch.func`` one plan is drawn for all; gradients and tangents flow through
        x and target, not through what is measured of x: gains and shares count as constants.

        Args:
            x: Inputs [B, ...], floating: [B, T], [B, C, T], [B, M, F], [B, C, M, F], feature maps.
            target: Soft targets in [0, 1], floating or bool, [B, C].
            weight: Sample weights [B].
            known: Which labels were annotated, bool (or 0 and 1) [B, C].
            frames: Strong targets in [0, 1], [B, C, F'].
            rng: Source of all randomness of this call.
            progress: Share of the run that is done, in [0, 1], for schedules.
            pool: Further samples to mix from, on the same device.
            level: RMS in dB before normalisation, [B] or of L stretches of time [B, L].
            frames_known: Which strong targets were annotated, bool [B, C, F'].

        Raises:
            ValueError: If tensors do not fit together, hold no soft targets, or are too few.
        """
        samples = Samples(x, target, weight, known, frames, level, frames_known)
        if not self.training:
            return _unmixed(samples.checked(), Plan.identity(len(x)))
        _check_type("pool", pool, Samples, type(None))
        samples = samples.checked()
        pool_size = 0 if pool is None else len(pool.x)
        plan = self.draw(len(x), rng, progress=progress, pool_size=pool_size)
        return self._mixed(plan, samples, pool)

    def replay(self, plan: Plan, samples: Samples, pool: Samples | None = None) -> Mixed:
        """Mix samples by a plan that was drawn before, as ``forward`` does.

        Raises:
            ValueError: If the plan was drawn for another batch or pool.
        """
        _check_type("plan", plan, Plan)
        _check_type("samples", samples, Samples)
        _check_type("pool", pool, Samples, type(None))
        return self._mixed(plan, samples.checked(), pool)

    def _mixed(self, plan: Plan, samples: Samples, pool: Samples | None) -> Mixed:
        """Mix samples that were checked."""
        if plan.source.max(initial=-1) < len(samples.x):
            pool = None  # this plan takes nothing from it
        if pool is not None:
            pool = pool.checked("pool ")
        pool_x = None if pool is None else pool.x
        check_plan(plan, samples.x, pool_x)
        if plan.is_identity:
            return _unmixed(samples, plan)
        rows = samples.followed_by(pool)
        resolved = resolve(plan, rows, pool_x, self.label_rule, self.linear)
        source, share, rule = resolved.source, resolved.share, self.label_rule
        gain = resolved.gain if plan.matched else None
        x, post_gain = apply_and_finish(plan, samples.x, pool_x, gain=gain, post=self.post)
        if not is_linear(x, self.linear):
            post_gain = None  # of what the network sees; the sound stays as loud
        frame_share, frames_known = resolved.frame_share, rows.known_in_frames()
        return Mixed(
            x=x,
            target=rule.joined(share, source, rows.target),
            weight=None
            if rows.weight is None
            else joined_weight(resolved.part, source, rows.weight),
            known=None
            if rows.known is None
            else rule.joined_known(share, source, rows.known, rows.target),
            frames=None
            if frame_share is None or rows.frames is None
            else rule.joined(frame_share, source, rows.frames),
            plan=plan,
            level=mixed_level(
                plan, samples.level, None if pool is None else pool.level, post_gain=post_gain
            ),
            frames_known=None
            if frame_share is None or rows.frames is None or frames_known is None
            else rule.joined_known(frame_share, source, frames_known, rows.frames),
        )


def _check_type(name: str, given: object, *types: type) -> None:
    if not isinstance(given, types):
        raise ValueError(
            f"{name} is a {type(given).__name__}; pass a birdmix.mix.{types[0].__name__}"
        )


def _unmixed(samples: Samples, plan: Plan) -> Mixed:
    return Mixed(*samples[:5], plan, samples.level, samples.known_in_frames())

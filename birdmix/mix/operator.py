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

from birdmix.mix.apply import apply, check_plan
from birdmix.mix.draw import check_batch_size
from birdmix.mix.label_rules import LabelRule, joined_known, joined_weight
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
            ValueError: If the batch is smaller than the most sources that may be drawn.
        """
        prob = value_at(self.prob, progress)
        if prob == 0:
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
    ) -> Mixed:
        """Mix a batch.

        Args:
            x: Inputs [B, ...], floating: [B, T], [B, C, T], [B, M, F], [B, C, M, F], feature maps.
            target: Soft targets in [0, 1], floating, [B, C].
            weight: Sample weights [B].
            known: Which labels were annotated, bool [B, C].
            frames: Strong targets in [0, 1], [B, C, F'].
            rng: Source of all randomness of this call.
            progress: Share of the run that is done, in [0, 1], for schedules.
            pool: Further samples to mix from, on the same device.
            level: RMS in dB before normalisation, [B] or of L stretches of time [B, L].

        Raises:
            ValueError: If tensors do not fit together, hold no soft targets, or are too few.
        """
        samples = Samples(x, target, weight, known, frames, level)
        samples.check()
        if not self.training:
            return _unmixed(samples, Plan.identity(len(x)))
        pool_size = 0 if pool is None else len(pool.x)
        return self.replay(
            self.draw(len(x), rng, progress=progress, pool_size=pool_size), samples, pool
        )

    def replay(self, plan: Plan, samples: Samples, pool: Samples | None = None) -> Mixed:
        """Mix samples by a plan that was drawn before, as ``forward`` does.

        Raises:
            ValueError: If the plan was drawn for another batch or pool.
        """
        if plan.source.max() < len(samples.x):
            pool = None  # this plan takes nothing from it
        if pool is not None:
            pool.check("pool ")
        pool_x = None if pool is None else pool.x
        check_plan(plan, samples.x, pool_x)
        if plan.is_identity:
            return _unmixed(samples, plan)
        rows = samples.followed_by(pool)
        resolved = resolve(plan, rows, pool_x, self.label_rule, self.linear)
        source, part, share = resolved.source, resolved.part, resolved.share
        gain = resolved.gain if plan.matched else None
        known, frames = rows.known, rows.frames
        return Mixed(
            x=apply(plan, samples.x, pool_x, gain=gain, post=self.post),
            target=self.label_rule.joined(share, source, rows.target),
            weight=None if rows.weight is None else joined_weight(part, source, rows.weight),
            known=None if known is None else joined_known(part, share, source, known, rows.target),
            frames=None
            if frames is None or resolved.frame_share is None
            else self.label_rule.joined(resolved.frame_share, source, frames),
            plan=plan,
        )


def _unmixed(samples: Samples, plan: Plan) -> Mixed:
    return Mixed(*samples[:5], plan=plan)

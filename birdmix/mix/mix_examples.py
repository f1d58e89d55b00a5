"""Mixing of examples by a plan: inputs, targets, sample weights, masks and levels.

Shapes: B batch, P mix pool, S sources.
"""

from typing import NamedTuple

import numpy as np

from birdmix.mix.apply_plan import apply_resolved_plan, check_plan
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.examples import Examples, MixResult
from birdmix.mix.join_labels import join_labels
from birdmix.mix.label_rules import LabelRule
from birdmix.mix.mix_plan import Plan
from birdmix.mix.resolve_plan import ResolvedPlan, resolve_plan
from birdmix.mix.sound_levels import is_linear_input, mixed_level_db


def check_examples(examples: Examples, pool: Examples | None) -> Examples:
    """Return the examples as ``Examples.check_and_convert`` does; of the pool, check the type.

    Raises:
        ValueError: If a type, shape, device or value is wrong.
    """
    check_type("examples", examples, Examples)
    check_type("pool", pool, Examples, type(None))
    return examples.check_and_convert()


def check_type(name: str, value: object, *types: type) -> None:
    """Raise ValueError if an argument has none of the types; the first one is named."""
    if not isinstance(value, types):
        raise ValueError(
            f"{name} is a {type(value).__name__}; pass a birdmix.mix.{types[0].__name__}"
        )


class MixDetails(NamedTuple):
    """What a plan does to given examples: numbers on the host, 0 in unused slots.

    Attributes:
        source: Index of each source in the batch followed by the pool, int64 [B, S].
        gain: Factor that each source's sound has in the mix, level matching and ``post`` included,
            float32 [B, S].
        offset: Shift of each source, later and around the end, in cells of the last axis, int64
            [B, S].
        part: Part of the mix that each source is, float32 [B, S], adding up to 1.
        share: Share of its label that each source contributes, limits of the sum of its labels
            included, float32 [B, S].
    """

    source: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    part: np.ndarray
    share: np.ndarray


def mix_by_plan(
    plan: Plan,
    examples: Examples,
    pool: Examples | None,
    *,
    rule: LabelRule,
    post: str,
    linear: bool | None,
    sample_rate: int | None,
    context: DrawContext,
) -> MixResult[Plan]:
    """Mix examples by a plan.

    Args:
        plan: The plan.
        examples: The batch, checked.
        pool: The mix pool; it may have any shape if the plan draws nothing from it.
        rule: How targets are joined.
        post: Scaling of mixed examples, a name in ``post_scaling.POSTS``.
        linear: Whether the level of x is that of the sound; None is yes for [B, T] only.
        sample_rate: Hz, of waveforms; needed if the plan matches loudness.
        context: What the host knows about the examples, after this mix.

    Raises:
        ValueError: If the plan was drawn for another batch or pool.
    """
    pool = _check_plan_and_pool(plan, examples, pool)
    pool_x = None if pool is None else pool.x
    if plan.is_identity:
        return return_unmixed(examples, plan, context)
    sources = examples.append_pool_except_x(pool)
    resolved = resolve_plan(plan, sources, pool_x, rule, linear, sample_rate)
    x, post_gain = apply_resolved_plan(plan, resolved.applied, examples.x, pool_x, post)
    if not is_linear_input(x, linear):
        post_gain = None  # scaling a spectrogram does not change the level of its sound
    labels = join_labels(rule, resolved, sources)
    level = mixed_level_db(
        plan,
        examples.level,
        None if pool is None else pool.level,
        gain=resolved.sound_gain,
        post_gain=post_gain,
        shift=resolved.shift,
        source=resolved.applied.source,
    )
    mixed = Examples(x=x, level=level, **labels._asdict())
    return MixResult(mixed, plan, context)


def describe_mix(
    plan: Plan,
    examples: Examples,
    pool: Examples | None,
    *,
    rule: LabelRule,
    post: str,
    linear: bool | None,
    sample_rate: int | None,
) -> MixDetails:
    """Return the gains, shifts, parts and shares of ``mix_by_plan`` with the same arguments.

    Raises:
        ValueError: If the plan was drawn for another batch or pool.
    """
    pool = _check_plan_and_pool(plan, examples, pool)
    pool_x = None if pool is None else pool.x
    sources = examples.append_pool_except_x(pool)
    resolved = resolve_plan(plan, sources, pool_x, rule, linear, sample_rate)
    _, post_gain = apply_resolved_plan(plan, resolved.applied, examples.x, pool_x, post)
    gain, share, source = resolved.sound_gain, resolved.share, resolved.applied.source
    if post_gain is not None and is_linear_input(examples.x, linear):
        gain = gain * post_gain[:, None]
    factor = rule.label_factors(share, source, sources.target)
    if factor is not None:
        share = share * factor
    return _to_host(plan, resolved._replace(sound_gain=gain, share=share))


def _to_host(plan: Plan, resolved: ResolvedPlan) -> MixDetails:
    offset = resolved.applied.offset
    return MixDetails(
        source=plan.source,
        gain=resolved.sound_gain.float().cpu().numpy(),
        offset=np.zeros_like(plan.source) if offset is None else offset.cpu().numpy(),
        part=resolved.part.float().cpu().numpy(),
        share=resolved.share.float().cpu().numpy(),
    )


def _check_plan_and_pool(plan: Plan, examples: Examples, pool: Examples | None) -> Examples | None:
    """Check that a plan fits; return the pool, converted, or None if nothing is drawn from it."""
    if plan.source.max(initial=-1) < len(examples.x):
        pool = None
    if pool is not None:
        pool = pool.check_and_convert("pool ")
    check_plan(plan, examples.x, None if pool is None else pool.x)
    return pool


def return_unmixed(examples: Examples, plan: Plan, context: DrawContext) -> MixResult[Plan]:
    """Return the examples themselves as the result of a plan that mixes nothing."""
    frames_known = examples.frame_known_mask()
    if frames_known is not examples.frames_known:
        examples = examples._replace(frames_known=frames_known)
    return MixResult(examples, plan, context)

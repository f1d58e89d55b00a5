"""Mixing of examples by a plan: inputs, targets, sample weights, masks and levels.

Shapes: B batch, P mix pool.
"""

from birdmix.mix.apply_plan import apply_and_return_post_gain, check_plan
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.examples import Examples, MixResult
from birdmix.mix.label_rules import LabelRule, join_sample_weights
from birdmix.mix.mix_plan import Plan
from birdmix.mix.resolve_plan import resolve_plan
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
    if plan.source.max(initial=-1) < len(examples.x):
        pool = None
    if pool is not None:
        pool = pool.check_and_convert("pool ")
    pool_x = None if pool is None else pool.x
    check_plan(plan, examples.x, pool_x)
    if plan.is_identity:
        return return_unmixed(examples, plan, context)
    sources = examples.append_pool_except_x(pool)
    resolved = resolve_plan(plan, sources, pool_x, rule, linear, sample_rate)
    source, share, frame_share = resolved.source, resolved.share, resolved.frame_share
    shift = resolved.shift
    factor = rule.label_factors(share, source, sources.target)
    factors = rule.label_factors_of_bounds(share, source, sources.target, sources.known)
    x, post_gain = apply_and_return_post_gain(
        plan,
        examples.x,
        pool_x,
        gain=resolved.gain if plan.gains_depend_on_data else None,
        shift=shift,
        post=post,
    )
    if not is_linear_input(x, linear):
        post_gain = None  # scaling a spectrogram does not change the level of its sound
    frames, frames_known = sources.frames, sources.frame_known_mask()
    mixed = Examples(
        x=x,
        target=rule.join_targets(share, source, sources.target, factor=factor),
        weight=None
        if sources.weight is None
        else join_sample_weights(resolved.part, source, sources.weight),
        known=None
        if sources.known is None
        else rule.join_known(share, source, sources.known, sources.target, factors=factors),
        frames=None
        if frame_share is None or frames is None
        else rule.join_targets(frame_share, source, frames, shift=shift, factor=factor),
        level=mixed_level_db(
            plan,
            examples.level,
            None if pool is None else pool.level,
            gain=resolved.sound_gain,
            post_gain=post_gain,
            shift=shift,
        ),
        frames_known=None
        if frame_share is None or frames is None or frames_known is None
        else rule.join_known(
            frame_share, source, frames_known, frames, shift=shift, factors=factors
        ),
    )
    return MixResult(mixed, plan, context)


def return_unmixed(examples: Examples, plan: Plan, context: DrawContext) -> MixResult[Plan]:
    """Return the examples themselves as the result of a plan that mixes nothing."""
    frames_known = examples.frame_known_mask()
    if frames_known is not examples.frames_known:
        examples = examples._replace(frames_known=frames_known)
    return MixResult(examples, plan, context)

"""Data-dependent quantities of a mix plan: levels, applied gains and label shares.

They are computed on the device of the data, without waiting for it. Levels decide three things:
the gain that matches a partner to the example's own level, the shares of the amplitude rule, and
which sources are audible. Envelopes decide where loud parts meet. If nothing is needed, no data are
read.

Shapes: B batch, S sources, F' label frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.mix.examples import Examples
from birdmix.mix.label_rules import LabelRule
from birdmix.mix.mix_plan import Plan
from birdmix.mix.sound_levels import (
    is_linear_input,
    level_matching_gains,
    source_coverage_per_frame,
    source_loudness,
    source_rms,
    to_unit_power,
)
from birdmix.mix.tensor_access import array_to_device
from birdmix.mix.time_shifts import resolve_shifts


class ResolvedPlan(NamedTuple):
    """A plan's numbers for given data, on the device of the data.

    Attributes:
        source: Index of each source in the batch followed by the pool, int64 [B, S].
        gain: Factor that each source is multiplied by, float32 [B, S].
        sound_gain: Factor of its sound; another where x is no sound, so that it is not matched.
        shift: Shift in time of each source as a fraction of its length, float32 [B, S]; None for
            none.
        part: Part of the mix that each source is, float32 [B, S], adding up to 1.
        share: Share of its label that each source contributes, without limits of the sum of its
            labels, float32 [B, S].
        frame_share: The same per label frame, [B, S, F'], or [B, S, 1] if all frames are alike;
            None without strong targets.
    """

    source: Tensor
    gain: Tensor
    sound_gain: Tensor
    shift: Tensor | None
    part: Tensor
    share: Tensor
    frame_share: Tensor | None


def resolve_plan(
    plan: Plan,
    sources: Examples,
    pool: Tensor | None,
    rule: LabelRule,
    linear: bool | None = None,
    sample_rate: int | None = None,
) -> ResolvedPlan:
    """Compute what a plan leaves open: levels, applied gains and label shares.

    All results are constants for autograd.

    Args:
        plan: Plan for this batch and pool.
        sources: The batch, in all fields but ``x`` followed by the pool
            (``Examples.append_pool_except_x``).
        pool: ``x`` of the pool, if the plan draws from it.
        rule: Label rule by which targets will be joined.
        linear: Whether the level of ``x`` is that of the sound; None is yes for waveforms [B, T]
            and no for all other shapes.
        sample_rate: Hz, of the waveforms; needed if the plan matches loudness.

    Raises:
        ValueError: If levels are needed, not given, and not measurable from ``x``.
    """
    x, pool = sources.x.detach(), None if pool is None else pool.detach()
    device = x.device
    source, gain = array_to_device(plan.source, device), array_to_device(plan.gain, device)
    part = array_to_device(plan.source_fractions(tuple(x.shape)), device)
    is_linear = is_linear_input(x, linear)
    match, rms = torch.ones_like(gain), torch.ones_like(gain)  # unless they are measured below
    if plan.match == "rms" or rule.needs_levels:
        level = None if sources.level is None else sources.level.detach()
        rms = source_rms(plan, x, level, pool, linear)
    if plan.match == "rms":
        match = level_matching_gains(rms)
    elif plan.match == "loudness":
        if sample_rate is None:
            raise ValueError("match_level=loudness needs the operator's sample_rate, in Hz")
        match = level_matching_gains(source_loudness(plan, x, pool, sample_rate))
    rms = rms * match
    sound_gain = torch.where(gain > 0, gain * match, 0)
    applied_gain = sound_gain if is_linear else gain
    if plan.unit_power:
        sound_gain, applied_gain = to_unit_power(sound_gain), to_unit_power(applied_gain)
    share = rule.compute_shares(part, gain, rms)
    frame_share = None
    if sources.frames is not None:
        frame_part = part[..., None]
        if plan.boxes is not None:
            frame_part = source_coverage_per_frame(plan, sources.frames.shape[2], device)
        frame_share = rule.compute_shares(frame_part, gain[..., None], rms[..., None])
        # A source that is inaudible in the whole example is so in every frame.
        frame_share = frame_share * (share > 0)[..., None]
    shift = resolve_shifts(plan, x, pool, is_linear)
    return ResolvedPlan(source, applied_gain, sound_gain, shift, part, share, frame_share)

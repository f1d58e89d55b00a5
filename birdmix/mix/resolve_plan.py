"""Data-dependent quantities of a mix plan: levels, applied gains and label shares.

They are computed on the device of the data, without waiting for it. Levels decide three things:
the gain that matches a partner to the example's own RMS, the shares of the amplitude rule, and
which sources are audible. If none is needed, no data are read.

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
    rms_matching_gains,
    source_coverage_per_frame,
    source_rms,
)
from birdmix.mix.tensor_access import array_to_device


class ResolvedPlan(NamedTuple):
    """A plan's numbers for given data, on the device of the data.

    Attributes:
        source: Index of each source in the batch followed by the pool, int64 [B, S].
        gain: Factor that each source is multiplied by, float32 [B, S].
        part: Part of the mix that each source is, float32 [B, S], adding up to 1.
        share: Share of its label that each source contributes, float32 [B, S].
        frame_share: The same per label frame, [B, S, F'], or [B, S, 1] if all frames are alike;
            None without strong targets.
    """

    source: Tensor
    gain: Tensor
    part: Tensor
    share: Tensor
    frame_share: Tensor | None


def resolve_plan(
    plan: Plan,
    sources: Examples,
    pool: Tensor | None,
    rule: LabelRule,
    linear: bool | None = None,
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

    Raises:
        ValueError: If levels are needed, not given, and not measurable from ``x``.
    """
    x, pool = sources.x.detach(), None if pool is None else pool.detach()
    device = x.device
    source, gain = array_to_device(plan.source, device), array_to_device(plan.gain, device)
    part = array_to_device(plan.source_fractions(tuple(x.shape)), device)
    applied_gain, rms = gain, torch.ones_like(gain)  # the RMS is unused unless measured below
    if plan.matched or rule.needs_levels:
        level = None if sources.level is None else sources.level.detach()
        rms = source_rms(plan, x, level, pool, linear)
    if plan.matched:
        match = rms_matching_gains(rms)
        rms = rms * match
        if is_linear_input(x, linear):
            applied_gain = gain * match
    uncapped_share = rule.compute_shares(part, gain, rms)
    share = rule.cap_shares_by_label_sum(uncapped_share, source, sources.target.detach())
    frame_share = None
    if sources.frames is not None:
        frame_part = part[..., None]
        if plan.boxes is not None:
            frame_part = source_coverage_per_frame(plan, sources.frames.shape[2], device)
        frame_share = rule.compute_shares(frame_part, gain[..., None], rms[..., None])
        # A source that is inaudible or capped in the whole example is so in every frame.
        cap_ratio = torch.where(uncapped_share > 0, share / uncapped_share, 0)
        frame_share = frame_share * cap_ratio[..., None]
    return ResolvedPlan(source, applied_gain, part, share, frame_share)

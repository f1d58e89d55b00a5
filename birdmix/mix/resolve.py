"""Resolve a plan: what depends on the data, on the device they are on, without waiting for it.

Levels decide three things: how far partners are brought to the sample's own loudness, the shares
of the amplitude rule, and who can be heard at all. Where nothing asks for them, no data are read.

Shapes: B batch, S sources, F' label frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.mix.devices import to_device
from birdmix.mix.label_rules import LabelRule
from birdmix.mix.levels import frame_areas, is_linear, match_gain, source_rms
from birdmix.mix.plan import Plan
from birdmix.mix.samples import Samples


class Resolved(NamedTuple):
    """A plan's numbers for certain samples, on their device.

    Attributes:
        source: Row of each source in batch and pool, int64 [B, S].
        gain: What each source is multiplied with, float32 [B, S].
        part: What part of each sample its sources are, float32 [B, S], adding up to 1.
        share: How much of its label each source brings, float32 [B, S].
        frame_share: The same in each label frame, [B, S, F'], or [B, S, 1] where all are alike;
            None without strong targets.
    """

    source: Tensor
    gain: Tensor
    part: Tensor
    share: Tensor
    frame_share: Tensor | None


def resolve(
    plan: Plan,
    rows: Samples,
    pool: Tensor | None,
    rule: LabelRule,
    linear: bool | None = None,
) -> Resolved:
    """Turn a plan into numbers for these samples; nothing is differentiated through them.

    Args:
        plan: Plan for this batch and pool.
        rows: The batch, all but its ``x`` followed by the pool's (``Samples.followed_by``).
        pool: The pool's ``x``, where the plan draws from one.
        rule: How labels will be joined.
        linear: Whether the level of ``x`` is that of the sound; None says so of [B, T] only.

    Raises:
        ValueError: If a level is needed and cannot be told.
    """
    rows, pool = rows.detached(), None if pool is None else pool.detach()
    device = rows.x.device
    source, gain = to_device(plan.source, device), to_device(plan.gain, device)
    part = to_device(plan.parts(tuple(rows.x.shape)), device)
    applied, rms = gain, torch.ones_like(gain)  # levels that nothing asks for
    if plan.matched or rule.needs_levels:
        rms = source_rms(plan, rows, pool, linear)
    if plan.matched:
        match = match_gain(rms)
        rms = rms * match
        if is_linear(rows.x, linear):
            applied = gain * match
    full = rule.shares(part, gain, rms)
    share = rule.capped(full, source, rows.target)
    frame_share = None
    if rows.frames is not None:
        in_frames = part[..., None]
        if plan.boxes is not None:
            in_frames = frame_areas(plan, rows.frames.shape[2], device)
        frame_share = rule.shares(in_frames, gain[..., None], rms[..., None])
        # Whoever is inaudible or capped in the whole is so in every frame.
        frame_share = frame_share * torch.where(full > 0, share / full, 0)[..., None]
    return Resolved(source, applied, part, share, frame_share)

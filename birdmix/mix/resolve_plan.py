"""Data-dependent quantities of a mix plan: levels, applied gains and label shares.

Levels decide three things: the gain that matches a partner to the example's own level, the shares
of the amplitude rule, and which sources are audible. Envelopes decide where loud parts meet. They
are measured on the device of the data, without waiting for it. If nothing is measured, all is
computed on the host. In both cases the numbers of a plan travel to the device in one transfer.

Shapes: B batch, S sources, T last axis, F' label frames.
"""

from typing import Any, NamedTuple

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
from birdmix.mix.tensor_access import copy_to_device
from birdmix.mix.time_shifts import align_shifts, shift_offsets


class AppliedPlan(NamedTuple):
    """What is added to what: the numbers of a plan that its application to inputs reads.

    Attributes:
        source: Index of each source in the batch followed by the pool, int64 [B, S].
        gain: Factor that each source is multiplied by, float32 [B, S]; 0 for unused slots.
        offset: Shift in time of each source, in cells of the last axis, int64 [B, S]; None for
            none.
        box: Begin and end of each box in time and in mel, in cells, int64 [B, 4]; None for none.
    """

    source: Tensor
    gain: Tensor
    offset: Tensor | None
    box: Tensor | None

    @staticmethod
    def from_plan(plan: Plan, shape: tuple[int, ...], device: torch.device) -> "AppliedPlan":
        """Return the plan's own numbers on a device, in one transfer.

        Args:
            plan: A plan whose gains and shifts do not depend on data.
            shape: Shape of the inputs, [B, ..., T].
            device: Device of the inputs.
        """
        shift = None if plan.shift is None else torch.from_numpy(plan.shift)
        on_host = AppliedPlan(
            torch.from_numpy(plan.source),
            torch.from_numpy(plan.gain),
            None if shift is None else shift_offsets(shift, shape[-1]),
            _box_cells(plan, shape),
        )
        numbers: list[Any] = copy_to_device(on_host, device)
        return AppliedPlan(*numbers)


class ResolvedPlan(NamedTuple):
    """A plan's numbers for given data, on the device of the data.

    Attributes:
        applied: What its application to inputs reads.
        sound_gain: Factor of each source's sound, float32 [B, S]; another than the applied gain
            where x is no sound, so that it is not matched.
        shift: Shift in time of each source as a fraction of the length, float32 [B, S]; None for
            none.
        frame_offset: The same in label frames, int64 [B, S]; None without strong targets.
        part: Part of the mix that each source is, float32 [B, S], adding up to 1.
        share: Share of its label that each source contributes, without limits of the sum of its
            labels, float32 [B, S].
        frame_share: The same per label frame, [B, S, F'], or [B, S, 1] if all frames are alike;
            None without strong targets.
    """

    applied: AppliedPlan
    sound_gain: Tensor
    shift: Tensor | None
    frame_offset: Tensor | None
    part: Tensor
    share: Tensor
    frame_share: Tensor | None

    def to(self, device: torch.device) -> "ResolvedPlan":
        """Copy the numbers from the host to a device in one transfer."""
        applied, *others = self
        numbers: list[Any] = copy_to_device([*applied, *others], device)
        return ResolvedPlan(AppliedPlan(*numbers[: len(applied)]), *numbers[len(applied) :])


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
    num_frames = None if sources.frames is None else sources.frames.shape[2]
    frame_part = None
    if num_frames is not None and plan.boxes is not None:
        frame_part = source_coverage_per_frame(plan, num_frames, torch.device("cpu"))
    numbers: list[Any] = [
        torch.from_numpy(plan.source),
        torch.from_numpy(plan.gain),
        torch.from_numpy(plan.source_fractions(tuple(x.shape))),
        None if plan.shift is None else torch.from_numpy(plan.shift),
        _box_cells(plan, tuple(x.shape)),
        frame_part,
    ]
    measures = plan.match != "none" or plan.aligned or rule.needs_levels
    if measures:
        numbers = copy_to_device(numbers, x.device)
    source, gain, part, shift, box, frame_part = numbers
    is_linear = is_linear_input(x, linear)
    match, rms = torch.ones_like(gain), torch.ones_like(gain)  # unless they are measured below
    if plan.match == "rms" or rule.needs_levels:
        level = None if sources.level is None else sources.level.detach()
        rms = source_rms(plan, source, x, level, pool, linear)
    if plan.match == "rms":
        match = level_matching_gains(rms)
    elif plan.match == "loudness":
        if sample_rate is None:
            raise ValueError("match_level=loudness needs the operator's sample_rate, in Hz")
        match = level_matching_gains(source_loudness(source, x, pool, sample_rate))
    rms = rms * match
    sound_gain = gain if plan.match == "none" else torch.where(gain > 0, gain * match, 0)
    applied_gain = sound_gain if is_linear else gain
    if plan.unit_power:
        sound_gain, applied_gain = to_unit_power(sound_gain), to_unit_power(applied_gain)
    share = rule.compute_shares(part, gain, rms)
    frame_share = None
    if num_frames is not None:
        frame_part = part[..., None] if frame_part is None else frame_part
        frame_share = rule.compute_shares(frame_part, gain[..., None], rms[..., None])
        # A source that is inaudible in the whole example is so in every frame.
        frame_share = frame_share * (share > 0)[..., None]
    if plan.aligned:
        shift = align_shifts(source, x, pool, is_linear)
    offset = None if shift is None else shift_offsets(shift, x.shape[-1])
    frame_offset = None
    if shift is not None and num_frames is not None:
        frame_offset = shift_offsets(shift, num_frames)
    resolved = ResolvedPlan(
        applied=AppliedPlan(source, applied_gain, offset, box),
        sound_gain=sound_gain,
        shift=shift,
        frame_offset=frame_offset,
        part=part,
        share=share,
        frame_share=frame_share,
    )
    return resolved if measures else resolved.to(x.device)


def _box_cells(plan: Plan, shape: tuple[int, ...]) -> Tensor | None:
    """Return the boxes of a plan in cells of a tensor's grid, int64 [B, 4], on the host."""
    if plan.boxes is None:
        return None
    time, mel = (torch.from_numpy(bounds) for bounds in plan.boxes.bounds_in_cells(shape))
    return torch.cat([time, mel], dim=1)

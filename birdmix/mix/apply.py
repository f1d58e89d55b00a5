"""Apply a plan: the weighted sum of rows of a batch and its pool, never in place.

Shapes: B batch, P pool, S sources, M mel bins, T last axis; whatever lies between passes through.
"""

import numpy as np
import torch
from torch import Tensor

from birdmix.mix.devices import is_plain, to_device
from birdmix.mix.plan import Plan
from birdmix.mix.post import POSTS


def apply(
    plan: Plan,
    x: Tensor,
    pool: Tensor | None = None,
    *,
    gain: Tensor | None = None,
    post: str = "none",
) -> Tensor:
    """Return ``post(sum_s gain[b, s] * x[source[b, s]])``, shaped and typed as ``x``.

    Where the plan has boxes, the partner stands in its box and the sample around it. Samples that
    do not mix stay as they are, ``post`` included.

    Args:
        plan: Plan for this batch and pool.
        x: Floating tensor [B, ...].
        pool: Floating tensor [P, ...], of samples shaped and typed as those of ``x``.
        gain: Gains to use instead of the plan's, float32 [B, S], on the device of ``x``.
        post: What is done to a mixed sample: ``none``, ``peak_guard``, ``peak_normalise`` or
            ``standardise``.

    Raises:
        ValueError: If the plan was drawn for another batch or pool.
    """
    return apply_and_finish(plan, x, pool, gain=gain, post=post)[0]


def apply_and_finish(
    plan: Plan,
    x: Tensor,
    pool: Tensor | None = None,
    *,
    gain: Tensor | None = None,
    post: str = "none",
) -> tuple[Tensor, Tensor | None]:
    """Do what ``apply`` does, and return what post multiplied each sample with too.

    Returns:
        The mixed samples; and the factor of post, [B], or None where it is 1 for all.
    """
    check_plan(plan, x, pool)
    if plan.is_identity:
        return x, None
    if x.device.type == "cpu" and _are_plain(x, pool, gain):
        return _apply_rows(plan, x, pool, gain, post)
    return _apply_slots(plan, x, pool, gain, post)


def _are_plain(*tensors: Tensor | None) -> bool:
    return all(tensor is None or is_plain(tensor) for tensor in tensors)


def check_plan(plan: Plan, x: Tensor, pool: Tensor | None) -> None:
    """Refuse a plan that was drawn for another batch or pool with a ValueError."""
    if len(plan.source) != len(x):
        raise ValueError(
            f"the plan is for a batch of {len(plan.source)}, the tensor holds {len(x)}; "
            "draw a plan for this batch"
        )
    num_rows = len(x)
    if pool is not None:
        num_rows += len(pool)
        if pool.shape[1:] != x.shape[1:] or pool.dtype != x.dtype or pool.device != x.device:
            raise ValueError(
                f"the pool's samples are {list(pool.shape[1:])} {pool.dtype} on {pool.device}, "
                f"the batch's {list(x.shape[1:])} {x.dtype} on {x.device}; they must agree"
            )
    if plan.source.max(initial=-1) >= num_rows:
        raise ValueError(
            f"the plan takes row {plan.source.max()}, batch and pool hold {num_rows}; "
            "pass the pool that it was drawn for"
        )


def _apply_rows(
    plan: Plan, x: Tensor, pool: Tensor | None, gain: Tensor | None, post: str
) -> tuple[Tensor, Tensor | None]:
    """Row by row into one output: a row stays in the processor's cache while it is summed."""
    out = torch.empty_like(x)
    rows = x.unbind() if pool is None else x.unbind() + pool.unbind()
    gains = (plan.gain if gain is None else gain).tolist()
    boxes = None if plan.boxes is None else _boxes(plan, x)
    finish = POSTS[post]
    post_gain = None if finish is None else x.new_ones(len(x))
    samples = zip(out.unbind(), plan.source.tolist(), plan.used.tolist(), gains, strict=True)
    for number, (mixed, sources, used, row_gains) in enumerate(samples):
        terms = [
            (rows[source], row_gain)
            for source, is_used, row_gain in zip(sources, used, row_gains, strict=True)
            if is_used
        ]
        if len(terms) == 1:
            _sum_into(mixed, terms)
            continue
        if boxes is None:
            _sum_into(mixed, terms)
        else:
            own, (partner, partner_gain) = terms
            _sum_into(mixed, [own])
            torch.mul(partner[boxes[number]], partner_gain, out=mixed[boxes[number]])
        if finish is not None and post_gain is not None:
            offset, scale = finish(mixed[None])
            mixed.sub_(offset[0]).mul_(scale[0])
            post_gain[number] = scale[0]
    return out, post_gain


def _sum_into(out: Tensor, terms: list[tuple[Tensor, float]]) -> None:
    """Sum rows times their gains, the first two in one pass where that can be."""
    (row, gain), *others = terms
    if not others:
        torch.mul(row, gain, out=out) if gain != 1 else out.copy_(row)
        return
    second, second_gain = others[0]
    if gain == 1:
        torch.add(row, second, alpha=second_gain, out=out)
    elif gain + second_gain == 1:
        torch.lerp(row, second, second_gain, out=out)
    else:
        torch.mul(row, gain, out=out)
        out.add_(second, alpha=second_gain)
    for other, other_gain in others[1:]:
        out.add_(other, alpha=other_gain)


def _boxes(plan: Plan, x: Tensor) -> list[tuple]:
    """Return the cells of each sample's box."""
    assert plan.boxes is not None
    time, mel = plan.boxes.cells(tuple(x.shape))
    if x.dim() == 2:
        return [(slice(*t),) for t in time.tolist()]
    return [(..., slice(*m), slice(*t)) for m, t in zip(mel.tolist(), time.tolist(), strict=True)]


def _apply_slots(
    plan: Plan, x: Tensor, pool: Tensor | None, gain: Tensor | None, post: str
) -> tuple[Tensor, Tensor | None]:
    """Slot by slot for the whole batch: for accelerators, gradients and function transforms."""
    column = (-1, *[1] * (x.dim() - 1))
    in_place = _are_plain(x, pool, gain)
    gain = (to_device(plan.gain, x.device) if gain is None else gain).to(x.dtype)
    out = x * gain[:, 0].view(column)
    if not plan.used[:, 0].all():
        out = torch.where(to_device(plan.used[:, 0], x.device).view(column), out, 0)
    for slot in range(1, plan.source.shape[1]):
        inside = None if plan.boxes is None else _inside(plan, x)
        for rows, first in ((x, 0), (pool, len(x))):
            if rows is None:
                continue
            source = plan.source[:, slot] - first
            taken = plan.used[:, slot] & (source >= 0) & (source < len(rows))
            if not taken.any():
                continue
            at = to_device(taken.nonzero()[0], x.device)
            partner = rows[to_device(source[taken], x.device)] * gain[at, slot].view(column)
            if inside is None:
                add = out.index_add_ if in_place else out.index_add
                out = add(0, at, partner)
            else:
                out = out.index_copy(0, at, torch.where(inside[at], partner, out[at]))
    return _finished(plan, out, post)


def _inside(plan: Plan, x: Tensor) -> Tensor:
    """Return which cells lie in their sample's box: bool, fit to broadcast to ``x``."""
    assert plan.boxes is not None
    time, mel = plan.boxes.cells(tuple(x.shape))
    shape = (len(x), *[1] * (x.dim() - 2), -1)
    inside = _between(time, x.shape[-1], x.device).view(shape)
    if x.dim() == 2:
        return inside
    return inside & _between(mel, x.shape[-2], x.device).view(*shape[:-2], -1, 1)


def _between(bounds: np.ndarray, length: int, device: torch.device) -> Tensor:
    at = torch.arange(length, device=device)
    begin_end = to_device(bounds, device)
    return (at >= begin_end[:, :1]) & (at < begin_end[:, 1:])


def _finished(plan: Plan, out: Tensor, post: str) -> tuple[Tensor, Tensor | None]:
    finish = POSTS[post]
    if finish is None:
        return out, None
    column = (-1, *[1] * (out.dim() - 1))
    mixed = to_device(plan.num_sources > 1, out.device)
    offset, scale = finish(out)
    offset, scale = torch.where(mixed, offset, 0), torch.where(mixed, scale, 1)
    return (out - offset.view(column)) * scale.view(column), scale

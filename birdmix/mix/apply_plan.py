"""Apply a mix plan to inputs: the weighted sum of examples of a batch and its mix pool.

Nothing is changed in place.

Shapes: B batch, P mix pool, S sources, M mel bins, T last axis (samples or frames); axes between
the first and the last two are passed through.
"""

import numpy as np
import torch
from torch import Tensor

from birdmix.mix.mix_plan import Plan
from birdmix.mix.post_scaling import POSTS
from birdmix.mix.tensor_access import allows_in_place, array_to_device
from birdmix.mix.time_shifts import shift_in_time, shift_offsets


def apply_plan_to_inputs(
    plan: Plan,
    x: Tensor,
    pool: Tensor | None = None,
    *,
    gain: Tensor | None = None,
    shift: Tensor | None = None,
    post: str = "none",
) -> Tensor:
    """Return ``post(sum_s gain[b, s] * X[source[b, s]])``, X being the batch followed by the pool.

    If the plan has boxes, the partner fills its box and the example itself the rest. Examples
    without a mix are returned unchanged, without ``post``.

    Args:
        plan: Plan for this batch and pool.
        x: Floating tensor [B, ...].
        pool: Floating tensor [P, ...] with the example shape, dtype and device of ``x``.
        gain: Gains that replace the plan's, float32 [B, S], on the device of ``x``.
        shift: Shifts in time that replace the plan's, as fractions of the length, float32 [B, S].
        post: Scaling of mixed examples: ``none``, ``peak_guard``, ``peak_normalise`` or
            ``standardise``.

    Returns:
        Mixed inputs, with the shape and dtype of ``x``; ``x`` itself if the plan mixes nothing.

    Raises:
        ValueError: If the plan was drawn for another batch or pool.
    """
    return apply_and_return_post_gain(plan, x, pool, gain=gain, shift=shift, post=post)[0]


def apply_and_return_post_gain(
    plan: Plan,
    x: Tensor,
    pool: Tensor | None = None,
    *,
    gain: Tensor | None = None,
    shift: Tensor | None = None,
    post: str = "none",
) -> tuple[Tensor, Tensor | None]:
    """Apply a plan, and also return the factor by which ``post`` scaled each example.

    Arguments are those of ``apply_plan_to_inputs``.

    Returns:
        The mixed inputs, and the post factors [B], or None if all are 1.

    Raises:
        ValueError: If the plan was drawn for another batch or pool.
    """
    check_plan(plan, x, pool)
    if plan.is_identity:
        return x, None
    if shift is None and plan.shift is not None:
        shift = array_to_device(plan.shift, x.device)
    if x.device.type == "cpu" and _all_allow_in_place(x, pool, gain, shift):
        return _apply_by_example(plan, x, pool, gain, shift, post)
    return _apply_by_slot(plan, x, pool, gain, shift, post)


def _all_allow_in_place(*tensors: Tensor | None) -> bool:
    return all(tensor is None or allows_in_place(tensor) for tensor in tensors)


def check_plan(plan: Plan, x: Tensor, pool: Tensor | None) -> None:
    """Check that a plan fits a batch and its pool.

    Args:
        plan: The plan to check.
        x: Inputs [B, ...].
        pool: Inputs of the mix pool [P, ...].

    Raises:
        ValueError: If the plan was drawn for another batch or pool, or batch and pool differ in
            example shape, dtype or device.
    """
    if len(plan.source) != len(x):
        raise ValueError(
            f"the plan is for a batch of {len(plan.source)}, the tensor holds {len(x)} examples; "
            "draw a plan for this batch"
        )
    num_examples = len(x)
    if pool is not None:
        num_examples += len(pool)
        if pool.shape[1:] != x.shape[1:] or pool.dtype != x.dtype or pool.device != x.device:
            raise ValueError(
                f"the pool's examples are {list(pool.shape[1:])} {pool.dtype} on {pool.device}, "
                f"the batch's {list(x.shape[1:])} {x.dtype} on {x.device}; they must agree"
            )
    if plan.source.max(initial=-1) >= num_examples:
        raise ValueError(
            f"the plan has source index {plan.source.max()}, batch and pool hold {num_examples} "
            "examples; pass the pool that the plan was drawn for"
        )


def _apply_by_example(
    plan: Plan,
    x: Tensor,
    pool: Tensor | None,
    gain: Tensor | None,
    shift: Tensor | None,
    post: str,
) -> tuple[Tensor, Tensor | None]:
    """Mix one example after the other, on a CPU: it stays in the cache while it is summed."""
    out = torch.empty_like(x)
    inputs = x.unbind() if pool is None else x.unbind() + pool.unbind()
    gains = (plan.gain if gain is None else gain).tolist()
    if shift is None:
        offsets = np.zeros(plan.source.shape, int).tolist()
    else:
        offsets = shift_offsets(shift, x.shape[-1]).tolist()
    boxes = None if plan.boxes is None else _box_slices(plan, x)
    scaling = POSTS[post]
    post_gain = None if scaling is None else x.new_ones(len(x))
    slots = (plan.source.tolist(), plan.used_mask.tolist(), gains, offsets)
    for index, (mixed, *example_slots) in enumerate(zip(out.unbind(), *slots, strict=True)):
        terms = [
            (inputs[source].roll(offset, -1) if offset else inputs[source], source_gain)
            for source, is_used, source_gain, offset in zip(*example_slots, strict=True)
            if is_used
        ]
        if len(terms) == 1:
            _sum_into(mixed, terms)
            continue
        if boxes is None:
            _sum_into(mixed, terms)
        else:
            own_term, (partner, partner_gain) = terms
            _sum_into(mixed, [own_term])
            torch.mul(partner[boxes[index]], partner_gain, out=mixed[boxes[index]])
        if scaling is not None and post_gain is not None:
            offset, scale = scaling(mixed[None])
            mixed.sub_(offset[0]).mul_(scale[0])
            post_gain[index] = scale[0]
    return out, post_gain


def _sum_into(out: Tensor, terms: list[tuple[Tensor, float]]) -> None:
    """Write the sum of inputs times gains to ``out``; the first two in one pass if possible."""
    (first, gain), *others = terms
    if not others:
        torch.mul(first, gain, out=out) if gain != 1 else out.copy_(first)
        return
    second, second_gain = others[0]
    if gain == 1:
        torch.add(first, second, alpha=second_gain, out=out)
    elif gain + second_gain == 1:
        torch.lerp(first, second, second_gain, out=out)
    else:
        torch.mul(first, gain, out=out)
        out.add_(second, alpha=second_gain)
    for other, other_gain in others[1:]:
        out.add_(other, alpha=other_gain)


def _box_slices(plan: Plan, x: Tensor) -> list[tuple]:
    """Return each example's box as an index into its input."""
    assert plan.boxes is not None
    time, mel = plan.boxes.bounds_in_cells(tuple(x.shape))
    if x.dim() == 2:
        return [(slice(*t),) for t in time.tolist()]
    return [(..., slice(*m), slice(*t)) for m, t in zip(mel.tolist(), time.tolist(), strict=True)]


def _apply_by_slot(
    plan: Plan,
    x: Tensor,
    pool: Tensor | None,
    gain: Tensor | None,
    shift: Tensor | None,
    post: str,
) -> tuple[Tensor, Tensor | None]:
    """Mix the whole batch source by source: on accelerators, under autograd and torch.func."""
    column = (-1, *[1] * (x.dim() - 1))
    in_place = _all_allow_in_place(x, pool, gain)
    gain = (array_to_device(plan.gain, x.device) if gain is None else gain).to(x.dtype)
    out = x * gain[:, 0].view(column)
    if not plan.used_mask[:, 0].all():
        out = torch.where(array_to_device(plan.used_mask[:, 0], x.device).view(column), out, 0)
    for slot in range(1, plan.source.shape[1]):
        in_box = None if plan.boxes is None else _box_mask(plan, x)
        for inputs, first_index in ((x, 0), (pool, len(x))):
            if inputs is None:
                continue
            source = plan.source[:, slot] - first_index
            selected = plan.used_mask[:, slot] & (source >= 0) & (source < len(inputs))
            if not selected.any():
                continue
            indices = array_to_device(selected.nonzero()[0], x.device)
            partner = inputs[array_to_device(source[selected], x.device)]
            if shift is not None:
                partner = shift_in_time(partner, shift[indices, slot])
            partner = partner * gain[indices, slot].view(column)
            if in_box is None:
                add = out.index_add_ if in_place else out.index_add
                out = add(0, indices, partner)
            else:
                pasted = torch.where(in_box[indices], partner, out[indices])
                out = out.index_copy(0, indices, pasted)
    return _scale_mixed(plan, out, post)


def _box_mask(plan: Plan, x: Tensor) -> Tensor:
    """Return which cells lie in the box of their example: bool, broadcastable to ``x``."""
    assert plan.boxes is not None
    time, mel = plan.boxes.bounds_in_cells(tuple(x.shape))
    shape = (len(x), *[1] * (x.dim() - 2), -1)
    in_box = _range_mask(time, x.shape[-1], x.device).view(shape)
    if x.dim() == 2:
        return in_box
    return in_box & _range_mask(mel, x.shape[-2], x.device).view(*shape[:-2], -1, 1)


def _range_mask(bounds: np.ndarray, length: int, device: torch.device) -> Tensor:
    """Return which positions lie in [begin, end) of bounds [B, 2]: bool [B, length]."""
    positions = torch.arange(length, device=device)
    begin_end = array_to_device(bounds, device)
    return (positions >= begin_end[:, :1]) & (positions < begin_end[:, 1:])


def _scale_mixed(plan: Plan, out: Tensor, post: str) -> tuple[Tensor, Tensor | None]:
    """Apply ``post`` to the examples that were mixed; return its factor [B] too."""
    scaling = POSTS[post]
    if scaling is None:
        return out, None
    column = (-1, *[1] * (out.dim() - 1))
    mixed = array_to_device(plan.source_counts > 1, out.device)
    offset, scale = scaling(out)
    offset, scale = torch.where(mixed, offset, 0), torch.where(mixed, scale, 1)
    return (out - offset.view(column)) * scale.view(column), scale

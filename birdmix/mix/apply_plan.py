"""Apply a mix plan to inputs: the weighted sum of examples of a batch and its mix pool.

Nothing is changed in place.

Shapes: B batch, P mix pool, S sources, M mel bins, T last axis (samples or frames); axes between
the first and the last two are passed through.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from birdmix.mix.mix_plan import Plan
from birdmix.mix.post_scaling import POSTS
from birdmix.mix.resolve_plan import AppliedPlan
from birdmix.mix.tensor_access import (
    allows_in_place,
    array_to_device,
    can_use_kernels,
    have_one_dense_layout,
)
from birdmix.mix.time_shifts import shift_in_time

# Most cells of a block that is summed on a CPU: with its sources it fits into a core's cache.
_BLOCK_SIZE = 16_384


def apply_plan_to_inputs(
    plan: Plan, x: Tensor, pool: Tensor | None = None, *, post: str = "none"
) -> Tensor:
    """Return ``post(sum_s gain[b, s] * X[source[b, s]])``, X being the batch followed by the pool.

    If the plan has boxes, the partner fills its box and the example itself the rest. Examples
    without a mix are returned unchanged, without ``post``.

    Args:
        plan: Plan for this batch and pool; its own gains and shifts are applied.
        x: Floating tensor [B, ...].
        pool: Floating tensor [P, ...] with the example shape, dtype and device of ``x``.
        post: Scaling of mixed examples: ``none``, ``peak_guard``, ``peak_normalise`` or
            ``standardise``.

    Returns:
        Mixed inputs, with the shape and dtype of ``x``; ``x`` itself if the plan mixes nothing.

    Raises:
        ValueError: If the plan was drawn for another batch or pool.
    """
    check_plan(plan, x, pool)
    if plan.is_identity:
        return x
    applied = AppliedPlan.from_plan(plan, tuple(x.shape), x.device)
    return apply_resolved_plan(plan, applied, x, pool, post)[0]


def apply_resolved_plan(
    plan: Plan, applied: AppliedPlan, x: Tensor, pool: Tensor | None, post: str
) -> tuple[Tensor, Tensor | None]:
    """Apply a plan with given gains and shifts; return the factor of ``post``, too.

    One launch on a GPU where Triton runs (``kernels``), two with ``post``. On a CPU plain sums
    are computed side by side and other mixes one after the other; elsewhere and for autograd, the
    whole batch is mixed source by source.

    Args:
        plan: Plan for this batch and pool (``check_plan``) that mixes something.
        applied: Its numbers for these data, on the device of ``x``.
        x: Floating tensor [B, ...].
        pool: Floating tensor [P, ...].
        post: Scaling of mixed examples, a name in ``POSTS``.

    Returns:
        The mixed inputs, and the post factors [B], or None if all are 1.
    """
    tensors = (x, pool, *applied)
    if can_use_kernels(*tensors):
        from birdmix.mix.kernel_launches import launch_mix_inputs

        if not have_one_dense_layout(x, pool):
            x, pool = x.contiguous(), None if pool is None else pool.contiguous()
        return launch_mix_inputs(applied, x, pool, post)
    if x.device.type == "cpu" and _all_allow_in_place(*tensors):
        is_sum = pool is applied.offset is applied.box is None and post == "none"
        if is_sum and x.dtype == torch.float32 and have_one_dense_layout(x, None):
            return _sum_by_block(plan, applied, x), None
        return _apply_by_example(plan, applied, x, pool, post)
    return _apply_by_slot(plan, applied, x, pool, post)


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


def _sum_by_block(plan: Plan, applied: AppliedPlan, x: Tensor) -> Tensor:
    """Sum sources of a batch on a CPU, blocks of examples side by side, each by one thread.

    Threads that share each example would wait for each other after each of them: beside other work
    that takes several times as long. torch has such a sum: a bag of rows with weights.

    Args:
        plan: A plan without boxes, shifts and pool.
        applied: Its numbers.
        x: float32 [B, ...] with ``have_one_dense_layout``.
    """
    num_cells = x[0].numel()
    num_blocks = _count_blocks(num_cells)
    blocks = x.as_strided(
        (len(x) * num_blocks, num_cells // num_blocks), (num_cells // num_blocks, 1)
    )
    number = torch.arange(num_blocks)[:, None]
    used = torch.from_numpy(plan.used_mask)[:, None].expand(-1, num_blocks, -1)  # [B, blocks, S]
    source = applied.source[:, None] * num_blocks + number
    counts = used.sum(dim=2).flatten()
    mixed = embedding_bag(
        source[used],
        blocks,
        counts.cumsum(0) - counts,
        mode="sum",
        per_sample_weights=applied.gain[:, None].expand_as(used)[used],
    )
    return mixed.as_strided(x.shape, x.stride())


def _count_blocks(num_cells: int) -> int:
    """Return into how many equal blocks an example is split, so that a sum stays in the cache."""
    smallest = max(-(-num_cells // _BLOCK_SIZE), 1)
    return next((n for n in range(smallest, 8 * smallest) if num_cells % n == 0), 1)


def _apply_by_example(
    plan: Plan, applied: AppliedPlan, x: Tensor, pool: Tensor | None, post: str
) -> tuple[Tensor, Tensor | None]:
    """Mix one example after the other, on a CPU: it stays in the cache while it is summed."""
    out = torch.empty_like(x)
    inputs = x.unbind() if pool is None else x.unbind() + pool.unbind()
    offset = torch.zeros_like(applied.source) if applied.offset is None else applied.offset
    boxes = None if applied.box is None else _box_slices(applied.box, x.dim())
    scaling = POSTS[post]
    post_gain = None if scaling is None else x.new_ones(len(x))
    gains, offsets = applied.gain.tolist(), offset.tolist()
    slots = (plan.source.tolist(), gains, offsets)
    used = plan.used_mask.tolist()
    for index, (mixed, is_used, *example_slots) in enumerate(
        zip(out.unbind(), used, *slots, strict=True)
    ):
        terms = [
            (inputs[source].roll(offset, -1) if offset else inputs[source], source_gain)
            for is_slot_used, source, source_gain, offset in zip(
                is_used, *example_slots, strict=True
            )
            if is_slot_used
        ]
        if boxes is None or not is_used[1]:
            _sum_into(mixed, terms)
        else:
            partner, partner_gain = terms.pop()
            _sum_into(mixed, terms)
            torch.mul(partner[boxes[index]], partner_gain, out=mixed[boxes[index]])
        if is_used.count(True) < 2:
            continue
        if scaling is not None and post_gain is not None:
            offset, scale = scaling(mixed[None])
            mixed.sub_(offset[0]).mul_(scale[0])
            post_gain[index] = scale[0]
    return out, post_gain


def _sum_into(out: Tensor, terms: list[tuple[Tensor, float]]) -> None:
    """Write the sum of inputs times gains, 0 of none, the first two in one pass if possible."""
    if not terms:
        out.zero_()
        return
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


def _box_slices(box: Tensor, num_axes: int) -> list[tuple]:
    """Return each example's box [B, 4] as an index into its input."""
    bounds = [(slice(*each[:2]), slice(*each[2:])) for each in box.tolist()]
    return [(time,) if num_axes == 2 else (..., mel, time) for time, mel in bounds]


def _apply_by_slot(
    plan: Plan, applied: AppliedPlan, x: Tensor, pool: Tensor | None, post: str
) -> tuple[Tensor, Tensor | None]:
    """Mix the whole batch source by source: on accelerators, under autograd and torch.func."""
    column = (-1, *[1] * (x.dim() - 1))
    gain, offset = applied.gain.to(x.dtype), applied.offset
    in_place = _all_allow_in_place(x, pool, gain)
    in_box = None if applied.box is None else _box_mask(applied.box, x)
    out = x * gain[:, 0].view(column)
    if not plan.used_mask[:, 0].all():
        out = torch.where(array_to_device(plan.used_mask[:, 0], x.device).view(column), out, 0)
    for slot in range(1, plan.source.shape[1]):
        for inputs, first_index in ((x, 0), (pool, len(x))):
            if inputs is None:
                continue
            source = plan.source[:, slot] - first_index
            selected = plan.used_mask[:, slot] & (source >= 0) & (source < len(inputs))
            if not selected.any():
                continue
            indices = array_to_device(selected.nonzero()[0], x.device)
            partner = inputs[array_to_device(source[selected], x.device)]
            if offset is not None:
                partner = shift_in_time(partner, offset[indices, slot])
            partner = partner * gain[indices, slot].view(column)
            if in_box is None:
                add = out.index_add_ if in_place else out.index_add
                out = add(0, indices, partner)
            else:
                pasted = torch.where(in_box[indices], partner, out[indices])
                out = out.index_copy(0, indices, pasted)
    return _scale_mixed(plan, out, post)


def _box_mask(box: Tensor, x: Tensor) -> Tensor:
    """Return which cells lie in the box of their example: bool, broadcastable to ``x``."""
    shape = (len(x), *[1] * (x.dim() - 2), -1)
    in_box = _range_mask(box[:, :2], x.shape[-1]).view(shape)
    if x.dim() == 2:
        return in_box
    return in_box & _range_mask(box[:, 2:], x.shape[-2]).view(*shape[:-2], -1, 1)


def _range_mask(bounds: Tensor, length: int) -> Tensor:
    """Return which positions lie in [begin, end) of bounds [B, 2]: bool [B, length]."""
    positions = torch.arange(length, device=bounds.device)
    return (positions >= bounds[:, :1]) & (positions < bounds[:, 1:])


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

"""Launches of the kernels: blocks, outputs, and what the kernels do not read.

Shapes: B batch, P mix pool, N = B + P examples, S sources, C classes, F label frames.
"""

import torch
import triton
from torch import Tensor

from birdmix.mix.kernels import join_labels_kernel, mix_inputs_kernel, scale_kernel
from birdmix.mix.label_rules import LabelRule
from birdmix.mix.post_scaling import EPS, MIN_PEAKS
from birdmix.mix.resolve_plan import AppliedPlan

# Cells of an example, and labels, that one program computes.
_BLOCK_SIZE = 2048
_MAX_LABELS = 1024


def launch_mix_inputs(
    applied: AppliedPlan, x: Tensor, pool: Tensor | None, post: str
) -> tuple[Tensor, Tensor | None]:
    """Mix inputs in one launch, two with a scaling; see ``apply_plan.apply_resolved_plan``.

    Args:
        applied: The plan's numbers.
        x: Batch [B, ...] of at least two axes; ``x`` and ``pool`` have ``have_one_dense_layout``.
        pool: Mix pool [P, ...].
        post: Scaling of mixed examples, a name in ``POSTS``.

    Returns:
        The mixed inputs, and the post factors [B], or None if all are 1.
    """
    source, gain, offset, box = applied
    out = torch.empty_like(x)
    num_cells = x[0].numel() if len(x) else 0
    num_blocks = triton.cdiv(num_cells, _BLOCK_SIZE)
    if not len(x) or not num_blocks:
        return out, None if post == "none" else x.new_ones(len(x))
    statistic = "none" if post == "none" else "moments" if post == "standardise" else "peak"
    statistics = gain.new_empty((len(x), num_blocks, 2) if post != "none" else 1)
    has_mel = x.dim() > 2
    with torch.cuda.device_of(x):  # Triton launches on the current device
        mix_inputs_kernel[(len(x), num_blocks)](
            x,
            x if pool is None else pool,
            out,
            source,
            gain,
            source if offset is None else offset,
            source if box is None else box,
            statistics,
            len(x),
            num_cells,
            x.shape[-1],
            max(x.stride(-1), 1),
            x.shape[-2] if has_mel else 1,
            max(x.stride(-2), 1) if has_mel else 1,
            num_sources=source.shape[1],
            has_pool=pool is not None,
            has_shift=offset is not None,
            has_box=box is not None,
            statistic=statistic,
            block_size=_BLOCK_SIZE,
        )
        if post == "none":
            return out, None
        factor = gain.new_empty(len(x))
        scale_kernel[(len(x), num_blocks)](
            out,
            gain,
            statistics,
            factor,
            num_cells,
            num_blocks,
            MIN_PEAKS.get(post, 0.0),
            EPS,
            num_sources=source.shape[1],
            statistic=statistic,
            max_blocks=triton.next_power_of_2(num_blocks),
            block_size=_BLOCK_SIZE,
        )
    return out, factor.to(x.dtype)


def launch_join_labels(
    rule: LabelRule,
    source: Tensor,
    share: Tensor,
    target: Tensor,
    known: Tensor | None,
    factors: Tensor | None,
    *,
    offset: Tensor | None = None,
    part: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Join targets, a known mask and sample weights in one launch.

    Args:
        rule: How targets are joined.
        source: Indices in the batch followed by the pool, int64 [B, S].
        share: Shares, float32 [B, S], or [B, S, F] or [B, S, 1] for label frames.
        target: Targets of batch and pool, [N, C] or [N, C, F].
        known: Which of them are known, bool; None is all.
        factors: Factors of the shares, and smallest and largest ones for unknown labels, float32
            [3, B, S]; None is 1.
        offset: Shifts in time in label frames, int64 [B, S].
        part: Part of the mix that each source is, float32 [B, S]; needed with ``weight``.
        weight: Sample weights of batch and pool, [N].

    Returns:
        Joined targets, sample weights and known mask; None for what was not given.
    """
    batch_size, num_sources = source.shape
    shape = (batch_size, *target.shape[1:])
    joined = target.new_empty(shape)
    joined_known = None if known is None else known.new_empty(shape)
    joined_weight = None if weight is None else weight.new_empty(batch_size)
    num_cells = joined[0].numel() if batch_size else 0
    block_size = min(triton.next_power_of_2(max(num_cells, 1)), _MAX_LABELS)
    # At least one program an example: without classes there still are weights.
    grid = (batch_size, max(triton.cdiv(num_cells, block_size), 1))
    if not batch_size:
        return joined, joined_weight, joined_known
    with torch.cuda.device_of(target):
        join_labels_kernel[grid](
            target.contiguous(),
            target if known is None else known.contiguous().view(torch.uint8),
            target if weight is None else weight.contiguous(),
            source,
            share.contiguous(),
            share if part is None else part,
            share if factors is None else factors.contiguous(),
            source if offset is None else offset,
            joined,
            joined if joined_known is None else joined_known.view(torch.uint8),
            joined if joined_weight is None else joined_weight,
            num_cells,
            target.shape[2] if target.dim() == 3 else 1,
            share.shape[2] if share.dim() == 3 else 1,
            rule.tolerance,
            num_sources=num_sources,
            join=rule.join,
            has_known=known is not None,
            has_weight=weight is not None,
            has_factor=factors is not None,
            has_shift=offset is not None,
            block_size=block_size,
        )
    return joined, joined_weight, joined_known

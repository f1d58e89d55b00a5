"""Join of the labels of a mix's sources: targets, sample weights and known masks.

On a GPU where Triton runs, targets, known masks and weights are joined in one launch, and those of
label frames in another.

Shapes: B batch, P mix pool, N = B + P examples, S sources, C classes, F' label frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.mix.examples import Examples
from birdmix.mix.label_rules import LabelRule
from birdmix.mix.resolve_plan import ResolvedPlan
from birdmix.mix.tensor_access import can_use_kernels


class JoinedLabels(NamedTuple):
    """Labels of mixed examples; what the sources do not have is None.

    Attributes:
        target: Targets in [0, 1], [B, C].
        weight: Sample weights, [B]: the mean over sources, weighted by their parts of the mix.
        known: Which targets are known, bool [B, C].
        frames: Strong targets in [0, 1], [B, C, F'].
        frames_known: Which strong targets are known, bool [B, C, F'].
    """

    target: Tensor
    weight: Tensor | None = None
    known: Tensor | None = None
    frames: Tensor | None = None
    frames_known: Tensor | None = None


def join_labels(rule: LabelRule, resolved: ResolvedPlan, sources: Examples) -> JoinedLabels:
    """Join the labels of all sources of each example.

    Args:
        rule: How targets are joined.
        resolved: The plan's numbers.
        sources: The batch, in all fields but ``x`` followed by the pool.
    """
    source, share = resolved.applied.source, resolved.share
    target, weight, known = sources.target, sources.weight, sources.known
    frames, frames_known = sources.frames, sources.frame_known_mask()
    # Where the target is the example's own, so is its weight.
    weight_part = share if rule.share == "own" else resolved.part
    factor = rule.label_factors(share, source, target)
    bounds = rule.label_factors_of_bounds(share, source, target, known)
    if can_use_kernels(target, weight, known, frames, frames_known, source, share):
        factors = None if factor is None or bounds is None else torch.stack([factor, *bounds])
        sources = sources._replace(frames_known=frames_known)
        return _join_by_kernels(rule, resolved, sources, factors, weight_part)
    joined = JoinedLabels(
        rule.join_targets(share, source, target, factor=factor),
        None if weight is None else _join_sample_weights(weight_part, source, weight),
        None if known is None else rule.join_known(share, source, known, target, factors=bounds),
    )
    if frames is None or resolved.frame_share is None:
        return joined
    frame_share, offset = resolved.frame_share, resolved.frame_offset
    return joined._replace(
        frames=rule.join_targets(frame_share, source, frames, offset=offset, factor=factor),
        frames_known=None
        if frames_known is None
        else rule.join_known(
            frame_share, source, frames_known, frames, offset=offset, factors=bounds
        ),
    )


def _join_by_kernels(
    rule: LabelRule,
    resolved: ResolvedPlan,
    sources: Examples,
    factors: Tensor | None,
    weight_part: Tensor,
) -> JoinedLabels:
    """Join labels in one launch, or two with label frames.

    Args:
        rule: How targets are joined.
        resolved: The plan's numbers.
        sources: The batch, in all fields but ``x`` followed by the pool, with the known mask of its
            frames.
        factors: Factors of the shares, and their bounds (``LabelRule``), [3, B, S]; None is 1.
        weight_part: Part of each source in the mean of the sample weights, [B, S].
    """
    from birdmix.mix.kernel_launches import launch_join_labels

    source = resolved.applied.source
    target, weight, known = launch_join_labels(
        rule,
        source,
        resolved.share,
        sources.target,
        sources.known,
        factors,
        part=weight_part,
        weight=sources.weight,
    )
    joined = JoinedLabels(target, weight, known)
    if sources.frames is None or resolved.frame_share is None:
        return joined
    frames, _, frames_known = launch_join_labels(
        rule,
        source,
        resolved.frame_share,
        sources.frames,
        sources.frames_known,
        factors,
        offset=resolved.frame_offset,
    )
    return joined._replace(frames=frames, frames_known=frames_known)


def _join_sample_weights(part: Tensor, source: Tensor, weight: Tensor) -> Tensor:
    """Return the means of sample weights [N] over sources, weighted by their parts: [B]."""
    return (part.to(weight.dtype) * weight[source]).sum(dim=1)

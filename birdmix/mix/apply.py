"""Apply a plan to tensors: the weighted sum of a batch's rows, never in place.

Shapes: B batch, S sources; whatever follows B passes through.
"""

import torch
from torch import Tensor

from birdmix.mix.plan import Plan


def apply(plan: Plan, x: Tensor) -> Tensor:
    """Return ``sum_s gain[b, s] * x[source[b, s]]``, shaped and typed as ``x``.

    Args:
        plan: Plan for this batch size.
        x: Floating tensor [B, ...].

    Raises:
        ValueError: If the plan was drawn for another batch size.
    """
    if len(plan.source) != len(x):
        raise ValueError(
            f"the plan is for a batch of {len(plan.source)}, the tensor holds {len(x)}"
        )
    if plan.is_identity:
        return x
    return _apply_rows(plan, x) if x.device.type == "cpu" else _apply_slots(plan, x)


def _apply_rows(plan: Plan, x: Tensor) -> Tensor:
    """Row by row into one output: a row stays in the processor's cache while it is summed."""
    out = torch.empty_like(x)
    for row, (sources, gains) in enumerate(
        zip(plan.source.tolist(), plan.gain.tolist(), strict=True)
    ):
        used = [(source, gain) for source, gain in zip(sources, gains, strict=True) if gain != 0]
        (source, gain), *others = used
        if others and gain == 1:
            # out = x[own] + gain * x[first partner], in one pass
            second, second_gain = others.pop(0)
            torch.add(x[source], x[second], alpha=second_gain, out=out[row])
        else:
            torch.mul(x[source], gain, out=out[row])
        for source, gain in others:
            out[row].add_(x[source], alpha=gain)
    return out


def _apply_slots(plan: Plan, x: Tensor) -> Tensor:
    """Slot by slot for the whole batch, on an accelerator."""
    source = torch.from_numpy(plan.source).to(x.device, non_blocking=True)
    gain = torch.from_numpy(plan.gain).to(x.device, x.dtype, non_blocking=True)
    column = (-1, *[1] * (x.dim() - 1))
    out = torch.where(gain[:, 0].view(column) != 0, x * gain[:, 0].view(column), 0)
    for slot in range(1, source.shape[1]):
        rows = plan.used[:, slot].nonzero()[0]
        if len(rows):
            at = torch.from_numpy(rows).to(x.device, non_blocking=True)
            partner = x[source[at, slot]] * gain[at, slot].view(column)
            out.index_add_(0, at, partner)
    return out

"""What the label of a mix says: the join of its sources' targets.

Shapes: B batch, S sources, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from birdmix.mix.apply import apply
from birdmix.mix.plan import Plan


@dataclass(frozen=True)
class LabelRule:
    """How targets are joined. A value: rules compare equal by what they do.

    Attributes:
        full_shares: Every source claims its whole label, however quiet it is; otherwise its share
            is its gain.
        clamp: The sum is limited to 1.
    """

    full_shares: bool
    clamp: bool

    def join(self, plan: Plan, target: Tensor) -> Tensor:
        """Return the mixed targets, [B, C]."""
        if self.full_shares:
            plan = Plan(plan.source, plan.used.astype("float32"))
        mixed = apply(plan, target)
        return mixed.clamp(max=1) if self.clamp else mixed


#: Shares are gains: the target of Zhang et al.'s mixup.
CONVEX = LabelRule(full_shares=False, clamp=False)

#: A bird that can be heard is there: the clamped sum of the targets.
UNION = LabelRule(full_shares=True, clamp=True)


def join_weight(plan: Plan, weight: Tensor) -> Tensor:
    """Return the gain-weighted mean of the sources' sample weights, [B]."""
    total = plan.gain.sum(axis=1, keepdims=True)
    return apply(Plan(plan.source, plan.gain / total), weight)


def join_known(plan: Plan, known: Tensor, target: Tensor) -> Tensor:
    """Return which labels of the mix are known, bool [B, C].

    A class is known where it is known in every source, and where one source surely holds it: then
    the mix holds it too, whatever was left unannotated in the others.
    """
    used = Plan(plan.source, plan.used.astype("float32"))
    unknown = apply(used, (~known).to(torch.float32))
    sure = apply(used, (known & (target > 0)).to(torch.float32))
    return (unknown == 0) | (sure > 0)

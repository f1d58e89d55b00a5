"""Mixing multi-label samples of a batch: one small algebra, usable alone.

    x'      = sum_s gain[b, s] * X[source[b, s]]
    target' = join_s  share[b, s] * Y[source[b, s]]
    weight' = sum_s gain[b, s] * w[source[b, s]] / sum_s gain[b, s]
    known'  = known in all sources, or positive in one

Every operator is the same three steps:

draw    a numpy generator makes a `Plan` on the host: sources and gains, no data (`draw`)
apply   the plan's weighted sum of rows, on the device the batch is on (`apply`)
join    a `LabelRule` makes the mixed targets from the same plan (`label_rules`)

Operators differ only in how they draw and in their default rule.

    from birdmix.mix import Mixup

    mixup = Mixup(mixup_prob=0.7, mixup_double=0.5)
    mixed = mixup(x, target, rng=numpy.random.default_rng(0))
    mixed.x, mixed.target, mixed.plan

Shapes: B batch, S sources of one sample (the sample itself is the first), C classes.
"""

from birdmix.mix.label_rules import CONVEX, UNION, LabelRule
from birdmix.mix.operators import Mixed, Mixup, Mixup2, MixupOperator
from birdmix.mix.plan import Plan
from birdmix.mix.settings import MixSettings

__all__ = [
    "CONVEX",
    "UNION",
    "LabelRule",
    "MixSettings",
    "Mixed",
    "Mixup",
    "Mixup2",
    "MixupOperator",
    "Plan",
]

"""Mixing multi-label samples of a batch: one small algebra, usable alone.

    x'      = post( sum_s gain[b, s] * X[source[b, s]] )         or the partner in its box
    target' = join_s  share[b, s] * Y[source[b, s]]              join: sum, max, noisy-or
    weight' = sum_s part[b, s] * w[source[b, s]]                 part: gain or area, over its sum
    known'  = where target' is about the same with the unknown labels as 0 and as 1
    level'  = 10 log10( post ** 2 * sum_s gain[b, s] ** 2 * power[source[b, s]] )     uncorrelated

X is the batch followed, virtually, by a pool. Every operator takes the same four steps:

draw      a numpy generator makes a `Plan` on the host: sources, gains, boxes; no data (`draw`)
resolve   what depends on the data: loudness, shares, audibility; on their device (`resolve`)
apply     the plan's weighted sum of rows; only what is mixed is ever read (`apply`)
join      a `LabelRule` makes the targets, clip by clip and frame by frame (`label_rules`)

Operators differ only in how they draw and in their default rule.

    from birdmix.mix import Mixup

    mixup = Mixup(mixup_prob=0.7, mixup_double=0.5)
    mixed = mixup(x, target, rng=numpy.random.default_rng(0))
    mixed.x, mixed.target, mixed.plan

Mix in the process that trains. In a ``collate_fn`` every worker holds a copy of one generator and
all draw the same mixes, each epoch again: make a generator for each batch there, by ``batch_rng``.

Shapes: B batch, P pool, S sources of one sample (the sample itself is the first), C classes.
"""

import lazy_loader

# On first use, by the names in __init__.pyi: settings are checked before torch is needed.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

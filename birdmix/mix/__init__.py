"""Mixing of multi-label examples within a batch. Usable without the rest of birdmix.

    x'      = post( sum_s gain[b, s] * X[source[b, s]] )        or a paste of one source into a box
    target' = join_s  share[b, s] * Y[source[b, s]]             join: sum, max or noisy-or
    weight' = sum_s part[b, s] * w[source[b, s]]                part: normalised gain or box area
    known'  = where target' differs little between all unknown labels set to 0 and set to 1
    level'  = 10 log10( post ** 2 * sum_s gain[b, s] ** 2 * power[source[b, s]] )    uncorrelated

X is the batch followed by the examples of a mix pool; the two are never concatenated in memory. x
may be waveforms, spectrograms or feature maps. An operator works in four steps:

draw      random sources, gains and boxes as a `Plan`, by numpy on the host, without the data
          (`random_draws`, `operators`)
resolve   quantities that depend on the data: levels, label shares, audibility; computed on the
          device of the data (`resolve_plan`, `sound_levels`)
apply     the weighted sum of the inputs, and its scaling, ``post``; only sources that the plan
          uses are read (`apply_plan`, `post_scaling`)
join      targets, per example and per label frame, by a `LabelRule` (`label_rules`, `join_labels`)

On a GPU, apply and join are one launch each of kernels in Triton (`kernels`), which torch's builds
for CUDA contain; scaling and label frames take one more each. Without Triton, elsewhere and for
autograd, torch does both.

Operators differ in how they draw and in their default label rule only.

    from birdmix.mix import Mixup

    mixup = Mixup(mixup_prob=0.7, mixup_double=0.5)
    mixed = mixup(x, target, rng=numpy.random.default_rng(0))
    mixed.x, mixed.target, mixed.plan

Call operators in the training process. In a ``collate_fn``, every worker process holds a copy of
the same generator, so all workers draw the same mixes, again in each epoch: create a generator per
batch there, with ``batch_rng``.

Shapes: B batch, P mix pool, S sources of an example (source 0 is the example itself), C classes.
"""

import lazy_loader

# Names are loaded on first use (__init__.pyi lists them): settings are checked without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

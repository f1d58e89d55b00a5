"""Losses on soft multi-label targets, with sample weights and known labels.

What holds for all of them, and is tested so: an unknown label has no gradient, a sample without
weight changes nothing, only ratios of weights count, logits are taken to float32, and a batch that
tells nothing costs nothing.

    terms      a term per sample and label, whose mean is taken: bce, focal; and that mean
    contrasts  labels or samples against each other: cross_entropy, soft_auc, two_way
    build      from settings to a loss of clips and frames
"""

from birdmix.model.losses.build import Loss, build_loss

__all__ = ["Loss", "build_loss"]

"""Losses on soft multi-label targets, with sample weights and known labels.

What holds for all of them, and is tested so: an unknown label has no gradient, a sample without
weight changes nothing, only ratios of weights count, logits are taken to float32, and a batch that
tells nothing costs nothing.

    terms      means over samples: bce, focal, asymmetric, cross_entropy
    contrasts  samples against each other: soft_auc, two_way
    build      from settings to a loss of clips and frames
"""

from birdmix.model.losses.build import Loss, build_loss

__all__ = ["Loss", "build_loss"]

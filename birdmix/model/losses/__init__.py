"""Losses on soft multi-label targets, with sample weights and masks of known labels.

Tested for all of them: an unknown label has no gradient, an example of weight 0 changes nothing,
only ratios of sample weights matter, logits are converted to float32, and the loss of a batch
without known labels or weights is 0.

    pointwise     means over examples
    pairwise      positives compared with negatives
    logit_loss    their base class, with class weights
    loss_factory  builds the loss of the settings, with frame logits
"""

from birdmix.model.losses.loss_factory import Loss, build_loss, check_frame_weight

__all__ = ["Loss", "build_loss", "check_frame_weight"]

"""Pairwise losses: positives compared with negatives, over examples or over classes.

They are not means over examples: with several processes, each compares the examples of its own
share of a batch only, and the mean over processes is not the loss of the whole batch.

Shapes: B batch, C classes.
"""

from torch import Tensor
from torch.nn import functional as F

from birdmix.model.losses.logit_loss import EPS, MASKED_LOGIT, LogitLoss, weighted_mean


class SoftAUC(LogitLoss):
    """Logistic loss of pairs of examples, for each class: a soft version of 1 - ROC-AUC.

    The weight of a pair is the difference of its targets times the product of its sample weights;
    the weight of a class is the largest weight of its pairs. Larger batches have more pairs. The
    loss only ranks examples: logits have no defined zero, so probabilities are not calibrated.
    Source: the logistic surrogate of AUC, Gao and Zhou 2012, arXiv:1208.0645; soft targets enter by
    their differences, as in solutions of BirdCLEF 2025. Memory grows with B^2 C.
    """

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``LogitLoss``."""
        logits, weights = logits.float(), _relative_weight(weight)[:, None] * known
        differences = (target[:, None] - target).clamp(min=0)
        pair_weight = differences * weights[:, None] * weights  # [B, B, C]
        pair_loss = F.softplus(logits - logits[:, None])
        total_weight = pair_weight.sum(dim=(0, 1)).clamp(min=EPS)
        per_class = (pair_weight * pair_loss).sum(dim=(0, 1)) / total_weight
        weight_of_class = pair_weight.amax(dim=(0, 1))
        if self.class_weight is not None:
            weight_of_class = weight_of_class * self.class_weight
        return weighted_mean(per_class, weight_of_class)


class TwoWay(LogitLoss):
    """Two-way loss: hardest positive against hardest negative, over classes and over examples.

    Source: Kobayashi 2023, "Two-way Multi-Label Loss" (CVPR). With targets of 0 and 1, equal
    weights and all labels known it equals timm's ``TwoWayLoss``, which thresholds soft targets at
    0.5 and supports neither weights nor unknown labels. Departure: in the sums of exponentials, a
    label with target y is a positive of weight y and a negative of weight 1 - y; in the contrasts
    over examples these are multiplied by the sample weight. The weight of a contrast is the
    largest product of target and sample weight in it.
    """

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``LogitLoss``."""
        logits, weight = logits.float(), _relative_weight(weight)[:, None]
        positive, negative = target * known, (1 - target) * known
        weighted_positive = positive * weight
        over_classes = self._contrast(logits, positive, negative, dim=1)
        over_examples = self._contrast(logits, weighted_positive, negative * weight, dim=0)
        return weighted_mean(over_classes, weighted_positive.amax(dim=1)) + weighted_mean(
            over_examples, weighted_positive.amax(dim=0)
        )

    def _contrast(self, logits: Tensor, positive: Tensor, negative: Tensor, dim: int) -> Tensor:
        """Return the loss of hardest positive against hardest negative along a dimension."""
        tp, tn = self.loss_parameters["tp"], self.loss_parameters["tn"]
        hard_positive = tp * _log_sum_exp(-logits / tp, positive, dim)
        hard_negative = tn * _log_sum_exp(logits / tn, negative, dim)
        return F.softplus(hard_positive + hard_negative)


def _relative_weight(weight: Tensor) -> Tensor:
    """Return sample weights divided by the largest, [B], so that only their ratios matter."""
    return weight / weight.amax().clamp(min=EPS)


def _log_sum_exp(values: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Return log(sum(weight * exp(values))); close to ``MASKED_LOGIT`` if all weights are 0."""
    weighted = values + weight.clamp(min=EPS**2).log()
    return weighted.masked_fill(weight <= 0, MASKED_LOGIT).logsumexp(dim=dim)

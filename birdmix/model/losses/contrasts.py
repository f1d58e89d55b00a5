"""Losses that hold samples against each other: the samples of a batch, or of a process's share.

They are no means over samples, so several processes do not add up to the loss of the whole batch.

Shapes: B batch, C classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from birdmix.model.losses.terms import EPS, NEVER, weighted_mean


class SoftAUC(nn.Module):
    """Logistic loss of the pairs of samples in the wrong order, for each class.

    A pair counts by the difference of its targets and the product of its weights, a class by its
    clearest pair. Larger batches have more pairs. It ranks samples, so logits have no zero and
    probabilities mean little.
    Source: the logistic surrogate of AUC, Gao and Zhou 2012, arXiv:1208.0645; for soft targets by
    their differences, as teams did in BirdCLEF 2025. Memory grows with B^2 C.

    Args:
        class_weight: What each class counts, [C]; None counts all alike.
    """

    class_weight: Tensor | None

    def __init__(self, class_weight: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weight", class_weight)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``MeanOfTerms``."""
        logits, counts = logits.float(), _of_largest(weight)[:, None] * known
        lead = (target[:, None] - target).clamp(min=0) * counts[:, None] * counts  # [B, B, C]
        wrong = F.softplus(logits - logits[:, None])
        per_class = (lead * wrong).sum(dim=(0, 1)) / lead.sum(dim=(0, 1)).clamp(min=EPS)
        clearest = lead.amax(dim=(0, 1))
        if self.class_weight is not None:
            clearest = clearest * self.class_weight
        return weighted_mean(per_class, clearest)


class TwoWay(nn.Module):
    """Hardest positive against hardest negative, across classes and across samples.

    Source: Kobayashi 2023, "Two-way Multi-Label Loss" (CVPR). For targets of 0 and 1, equal
    weights and nothing unknown it is timm's ``TwoWayLoss``, which cuts soft targets at 0.5 and
    takes neither weights nor unknown labels. Here a label with target y is a positive by y and a
    negative by 1 - y in the sums of exponentials, a sample takes part in its class by its weight,
    and each contrast counts by its clearest positive.

    Args:
        tp: Temperature of the positives.
        tn: Temperature of the negatives.
    """

    def __init__(self, tp: float = 4.0, tn: float = 1.0) -> None:
        super().__init__()
        self.tp, self.tn = tp, tn

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of ``MeanOfTerms``."""
        logits, weight = logits.float(), _of_largest(weight)[:, None]
        positive, negative = target * known, (1 - target) * known
        clearest = positive * weight
        classes = self._contrast(logits, positive, negative, dim=1)
        samples = self._contrast(logits, positive * weight, negative * weight, dim=0)
        return weighted_mean(classes, clearest.amax(dim=1)) + weighted_mean(
            samples, clearest.amax(dim=0)
        )

    def _contrast(self, logits: Tensor, positive: Tensor, negative: Tensor, dim: int) -> Tensor:
        hard_positive = self.tp * _log_sum_exp(-logits / self.tp, positive, dim)
        hard_negative = self.tn * _log_sum_exp(logits / self.tn, negative, dim)
        return F.softplus(hard_positive + hard_negative)


def _of_largest(weight: Tensor) -> Tensor:
    """Return weights as shares of the largest, [B]: only their ratios matter then."""
    return weight / weight.amax().clamp(min=EPS)


def _log_sum_exp(values: Tensor, share: Tensor, dim: int) -> Tensor:
    """Return log(sum(share * exp(values))); hardly anything where all shares are 0."""
    shared = values + share.clamp(min=EPS**2).log()
    return shared.masked_fill(share <= 0, NEVER).logsumexp(dim=dim)

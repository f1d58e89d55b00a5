"""Losses of the views of a batch: the mixed batch and, with ``mix.clean_weight``, the clean one."""

from typing import NamedTuple

from torch import Tensor


class ViewLoss(NamedTuple):
    """The loss of one view of a batch, or of one process's share of it.

    Attributes:
        loss: Weighted mean over the view's examples with known labels, a scalar.
        sum_of_weights: Sum of the weights of these examples, a scalar.
        view_weight: Weight of the view in the loss of the batch; those of its views add up to 1.
    """

    loss: Tensor
    sum_of_weights: Tensor
    view_weight: float

"""Stages: a new classifier begins with what another one has learned.

Shapes: C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.model.backbone import NUM_CHANNELS
from birdmix.model.classifier import Classifier
from birdmix.model.weights import backbone_of, fit
from birdmix.text import nfc

_PREFIX = "head."


class Taken(NamedTuple):
    """What a classifier took from the one before.

    Attributes:
        backbone: Tensors of the backbone.
        head: Whether the head was taken; not if it is of another kind.
        classes: Classes of the head that were known before.
        num_classes: Classes C.
    """

    backbone: int
    head: bool
    classes: int
    num_classes: int

    def __str__(self) -> str:
        took = f"took {self.backbone} tensors of the backbone"
        if not self.head:
            return f"{took}; the head is of another kind and starts anew"
        if self.classes == self.num_classes:
            return f"{took} and the whole head, of {self.num_classes} classes"
        new = self.num_classes - self.classes
        return (
            f"{took} and the head's rows of {self.classes} of {self.num_classes} classes; "
            f"{new} are new"
        )


def carry_over(
    classifier: Classifier, weights: dict[str, Tensor], own: Sequence[str], other: Sequence[str]
) -> Taken:
    """Give a fresh classifier the weights of another one.

    The backbone is taken whole. Layers of the head that have a row for each class take the rows of
    classes that both know, by their codes; the rows of new classes stay fresh. A head of another
    kind is not taken.

    Args:
        classifier: Fresh.
        weights: State of the other classifier.
        own: Codes of the classifier's classes, in order [C].
        other: Codes of the other one's classes, in order.

    Raises:
        ValueError: If the backbone is another one.
    """
    num_channels = NUM_CHANNELS[classifier.channels]
    count = fit(classifier.backbone, num_channels, backbone_of(weights), "the stage before")
    head = classifier.head
    before = {n.removeprefix(_PREFIX): w for n, w in weights.items() if n.startswith(_PREFIX)}
    state = head.state_dict()
    by_class = {name for name in state if name.split(".")[0] in head.per_class}
    if {name: _kind(name, each, by_class) for name, each in before.items()} != {
        name: _kind(name, each, by_class) for name, each in state.items()
    }:
        return Taken(count, False, 0, len(own))
    rows = {nfc(code): row for row, code in enumerate(other)}
    known = [column for column, code in enumerate(own) if nfc(code) in rows]
    taken = torch.tensor([rows[nfc(own[column])] for column in known], dtype=torch.long)
    for name, each in before.items():
        if name in by_class:
            state[name][known] = each[taken].to(state[name])
        else:
            state[name].copy_(each)
    return Taken(count, True, len(known), len(own))


def _kind(name: str, tensor: Tensor, by_class: set[str]) -> torch.Size:
    return tensor.shape[1:] if name in by_class else tensor.shape

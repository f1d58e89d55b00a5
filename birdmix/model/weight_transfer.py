"""Transfer of a trained classifier's weights to a new one, with classes matched by code.

Shapes: C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.model.classifier import Classifier
from birdmix.model.initial_weights import load_backbone_state_dict, select_backbone_weights
from birdmix.model.input_channels import INPUT_CHANNELS
from birdmix.text import nfc

_HEAD_PREFIX = "head."


class WeightTransfer(NamedTuple):
    """The weights that were transferred.

    Attributes:
        num_backbone_tensors: Number of tensors of the backbone.
        has_head: Whether the head was transferred; not if it is of another kind.
        num_common: Number of the new classifier's classes that the source has too.
        num_classes: Classes C.
    """

    num_backbone_tensors: int
    has_head: bool
    num_common: int
    num_classes: int

    def __str__(self) -> str:
        loaded = f"loaded {self.num_backbone_tensors} tensors of the backbone"
        if not self.has_head:
            return f"{loaded}; the head is of another kind and starts from random weights"
        if self.num_common == self.num_classes:
            return f"{loaded} and the whole head, {self.num_classes} classes"
        num_new = self.num_classes - self.num_common
        return (
            f"{loaded} and the head's weights of {self.num_common} of {self.num_classes} classes; "
            f"{num_new} are new"
        )


def transfer_weights(
    classifier: Classifier,
    weights: dict[str, Tensor],
    codes: Sequence[str],
    source_codes: Sequence[str],
) -> WeightTransfer:
    """Load another classifier's weights into a new classifier.

    The whole backbone is loaded. In layers of the head with a row for each class, the rows of
    classes that both have are loaded, matched by code; the rows of new classes stay as they are. A
    head of another kind is not loaded.

    Args:
        classifier: New classifier, changed in place.
        weights: State of the other classifier.
        codes: Codes of the new classifier's classes, in order [C].
        source_codes: Codes of the other classifier's classes, in order.

    Returns:
        The weights that were transferred.

    Raises:
        ValueError: If the backbones differ.
    """
    num_channels = INPUT_CHANNELS[classifier.channels].number
    count = load_backbone_state_dict(
        classifier.backbone,
        num_channels,
        select_backbone_weights(weights),
        "the initial classifier",
    )
    head = classifier.head
    source = {
        name.removeprefix(_HEAD_PREFIX): value
        for name, value in weights.items()
        if name.startswith(_HEAD_PREFIX)
    }
    state = head.state_dict()
    per_class = {name for name in state if name.split(".")[0] in head.class_layers}
    if {name: _shape_without_classes(name, value, per_class) for name, value in source.items()} != {
        name: _shape_without_classes(name, value, per_class) for name, value in state.items()
    }:
        return WeightTransfer(count, False, 0, len(codes))
    source_rows = {nfc(code): row for row, code in enumerate(source_codes)}
    common = [column for column, code in enumerate(codes) if nfc(code) in source_rows]
    rows = torch.tensor([source_rows[nfc(codes[column])] for column in common], dtype=torch.long)
    for name, value in source.items():
        if name in per_class:
            state[name][common] = value[rows].to(state[name])
        else:
            state[name].copy_(value)
    return WeightTransfer(count, True, len(common), len(codes))


def _shape_without_classes(name: str, tensor: Tensor, per_class: set[str]) -> torch.Size:
    """Return a tensor's shape, without its first dimension if that is the classes."""
    return tensor.shape[1:] if name in per_class else tensor.shape

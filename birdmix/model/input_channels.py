"""Input channels of the backbone, computed from log-mel spectrograms; imports without torch.

Shapes: B batch, M mel bins, F frames.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class InputChannels(NamedTuple):
    """Input channels: their number c, and how they are computed.

    Attributes:
        number: Number of channels c.
        compute: Maps log-mels [B, 1, M, F] to inputs [B, c, M, F].
    """

    number: int
    compute: Callable[["Tensor"], "Tensor"]


def _with_deltas(mel: "Tensor") -> "Tensor":
    from birdmix.frontend.deltas import append_deltas

    return append_deltas(mel)


#: The input channels, by ``model.channels``: the log-mel; the log-mel three times, for weights
#: trained on RGB images; the log-mel, its slope along time and the slope of that.
INPUT_CHANNELS = {
    "mono": InputChannels(1, lambda mel: mel),
    "repeated": InputChannels(3, lambda mel: mel.expand(-1, 3, -1, -1)),
    "deltas": InputChannels(3, _with_deltas),
}

"""What a classifier says of a batch.

Shapes: B batch, C classes, F' frames of the feature map.
"""

from typing import NamedTuple

from torch import Tensor


class Logits(NamedTuple):
    """Logits of clips, and of their frames where the head hears them one by one.

    Attributes:
        clip: [B, C].
        frames: [B, C, F'], evenly spaced over the clip; None from a head that only hears clips.
    """

    clip: Tensor
    frames: Tensor | None = None

    @property
    def frame_maximum(self) -> Tensor:
        """Each class where it is heard best, [B, C].

        Raises:
            ValueError: If the head only hears clips.
        """
        if self.frames is None:
            raise ValueError("this head hears clips only; model.head=sed hears their frames too")
        return self.frames.amax(dim=-1)

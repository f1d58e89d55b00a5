"""What a classifier says of a batch.

Shapes: B batch, C classes, F' frames of the feature map.
"""

from typing import NamedTuple

import torch
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

    def log_odds(self) -> "Logits":
        """Read the logits as those of a softmax; return each class's log-odds, as a sigmoid has."""
        return Logits(_log_odds(self.clip), None if self.frames is None else _log_odds(self.frames))


def _log_odds(logits: Tensor) -> Tensor:
    """Return z[c] - log sum exp(z[k]) over k != c, along dim 1.

    Where c has more than half of the sum, the others are added up apart: taking c from the sum
    would leave nothing of them.
    """
    logits = logits.float()
    best = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, best, -torch.inf).logsumexp(dim=1, keepdim=True)
    whole = logits.logsumexp(dim=1, keepdim=True)
    rest = whole + torch.log1p(-(logits - whole).exp().clamp(max=0.5))
    return logits - rest.scatter(1, best, others)

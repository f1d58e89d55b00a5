"""The output of a classifier: logits, and logits of frames where the head computes them.

Shapes: B batch, C classes, F' frames of the feature map.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class ClassifierOutput(NamedTuple):
    """Logits of whole inputs, and of their frames if the head computes frame logits.

    Attributes:
        logits: Logits, [B, C].
        frame_logits: Frame logits, [B, C, F'], evenly spaced over the input; None if the head has
            none.
    """

    logits: Tensor
    frame_logits: Tensor | None = None

    @property
    def max_frame_logits(self) -> Tensor:
        """Maximum over the frame logits, [B, C].

        Raises:
            ValueError: If the head computes no frame logits.
        """
        if self.frame_logits is None:
            raise ValueError("this head computes no frame logits; use model.head=sed")
        return self.frame_logits.amax(dim=-1)

    def split_in_halves(self) -> tuple["ClassifierOutput", "ClassifierOutput"]:
        """Split the output of a batch of an even size 2 B into those of two batches of B."""
        half = len(self.logits) // 2
        frames = self.frame_logits
        return (
            ClassifierOutput(self.logits[:half], None if frames is None else frames[:half]),
            ClassifierOutput(self.logits[half:], None if frames is None else frames[half:]),
        )

    def softmax_to_log_odds(self) -> "ClassifierOutput":
        """Convert logits of a softmax to log-odds of each class, which are logits of a sigmoid."""
        return ClassifierOutput(
            _log_odds(self.logits),
            None if self.frame_logits is None else _log_odds(self.frame_logits),
        )


def _log_odds(logits: Tensor) -> Tensor:
    """Return z[c] - log sum exp(z[k]) over k != c, along dim 1.

    Where class c has more than half of the sum, the sum of the others is computed directly:
    subtracting c from the whole sum would cancel all significant digits.
    """
    logits = logits.float()
    best = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, best, -torch.inf).logsumexp(dim=1, keepdim=True)
    total = logits.logsumexp(dim=1, keepdim=True)
    rest = total + torch.log1p(-(logits - total).exp().clamp(max=0.5))
    return logits - rest.scatter(1, best, others)

"""How near an exported network is to torch, and how near it has to be.

Shapes: W windows, C classes.
"""

from typing import NamedTuple

import numpy as np

from birdmix.inference.engine import Heard
from birdmix.windows import probability

#: Largest difference of a probability that float32 may make.
MAX_DIFFERENCE = 1e-4
#: Least correlation of ranks, and share of windows with the same best class, of coarser numbers:
#: who is first among 32 windows may then change in one of them.
MIN_RANK, MIN_TOP = 0.98, 0.96
#: Fewer windows than this have no ranks to speak of.
MIN_WINDOWS = 8


class Agreement(NamedTuple):
    """How near two networks are.

    Attributes:
        difference: Largest difference of a probability, of windows or their frames.
        rank: Spearman's correlation of a class's logits over the windows, mean over classes: what
            figures such as the macro ROC-AUC are made of.
        top: Share of windows whose most likely class is the same.
    """

    difference: float
    rank: float
    top: float

    def lacks(self, precision: str) -> str:
        """Return what is too far apart for a precision, in words; nothing if it is near enough."""
        if not np.isfinite(self.difference):
            return "it gives numbers that are not finite"
        if precision == "f32":
            worst = (
                f"probabilities differ by up to {self.difference:.1e} (limit {MAX_DIFFERENCE:g})"
            )
            return worst if self.difference > MAX_DIFFERENCE else ""
        if self.rank < MIN_RANK:
            return f"windows are ranked otherwise: agreement {self.rank:.3f} (limit {MIN_RANK})"
        if self.top < MIN_TOP:
            return f"the best class is the same in {self.top:.0%} of windows (limit {MIN_TOP:.0%})"
        return ""


def agreement(ours: Heard, theirs: Heard) -> Agreement:
    """Hold what an exported network says against what torch says of the same windows."""
    difference = max(
        float(np.abs(probability(a) - probability(b)).max())
        for a, b in zip(ours, theirs, strict=True)
        if a is not None and b is not None
    )
    top = float((ours.clip.argmax(axis=1) == theirs.clip.argmax(axis=1)).mean())
    return Agreement(difference, _rank_agreement(ours.clip, theirs.clip), top)


def _rank_agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return Spearman's correlation over rows, averaged over columns that are not all the same."""
    from scipy.stats import rankdata  # takes longer to import than an engine to open

    ours, theirs = (rankdata(each, axis=0) - (len(each) + 1) / 2 for each in (ours, theirs))
    size = np.sqrt((ours**2).sum(axis=0) * (theirs**2).sum(axis=0))
    ranked = (theirs != 0).any(axis=0)
    if not ranked.any():
        return 1.0
    product = (ours * theirs).sum(axis=0)[ranked]
    return float((product / np.maximum(size[ranked], 1e-12)).mean())

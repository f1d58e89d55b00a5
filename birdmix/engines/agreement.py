"""Agreement of an exported network with torch, and the limits that it must keep.

Shapes: W windows, C classes.
"""

from typing import NamedTuple

import numpy as np

from birdmix.engines.engine_interface import EngineOutput
from birdmix.windows import probability

#: Largest difference of a probability in float32.
MAX_DIFFERENCE = 1e-4
#: Least rank correlation, and least share of windows with the same best class, in lower precision:
#: the best class may change in one of 32 windows.
MIN_RANK, MIN_TOP = 0.98, 0.96
#: Fewest windows for which ranks are meaningful.
MIN_WINDOWS = 8


class Agreement(NamedTuple):
    """How close the outputs of two networks are.

    Attributes:
        difference: Largest difference of a probability, of windows or their frames.
        rank: Spearman's correlation of a class's logits over the windows, mean over classes;
            metrics such as the macro ROC-AUC depend on the ranks alone.
        top: Share of windows whose most likely class is the same.
    """

    difference: float
    rank: float
    top: float

    def describe_exceeded_limit(self, precision: str) -> str:
        """Return which limit of a precision is exceeded, in words; empty if none is."""
        if not np.isfinite(self.difference):
            return "it gives numbers that are not finite"
        if precision == "f32":
            message = (
                f"probabilities differ by up to {self.difference:.1e} (limit {MAX_DIFFERENCE:g})"
            )
            return message if self.difference > MAX_DIFFERENCE else ""
        if self.rank < MIN_RANK:
            return f"windows are ranked differently: agreement {self.rank:.3f} (limit {MIN_RANK})"
        if self.top < MIN_TOP:
            return f"the best class is the same in {self.top:.0%} of windows (limit {MIN_TOP:.0%})"
        return ""


def measure_agreement(exported: EngineOutput, reference: EngineOutput) -> Agreement:
    """Compare the output of an exported network with that of torch for the same windows."""
    difference = max(
        float(np.abs(probability(a) - probability(b)).max())
        for a, b in zip(exported, reference, strict=True)
        if a is not None and b is not None
    )
    same_top = exported.logits.argmax(axis=1) == reference.logits.argmax(axis=1)
    rank = _rank_correlation(exported.logits, reference.logits)
    return Agreement(difference, rank, float(same_top.mean()))


def _rank_correlation(exported: np.ndarray, reference: np.ndarray) -> float:
    """Return Spearman's correlation over windows, averaged over classes that are not constant."""
    from scipy.stats import rankdata  # takes longer to import than an engine to open

    exported, reference = (
        rankdata(logits, axis=0) - (len(logits) + 1) / 2 for logits in (exported, reference)
    )
    norm = np.sqrt((exported**2).sum(axis=0) * (reference**2).sum(axis=0))
    varies = (reference != 0).any(axis=0)
    if not varies.any():
        return 1.0
    product = (exported * reference).sum(axis=0)[varies]
    return float((product / np.maximum(norm[varies], 1e-12)).mean())

"""What was judged, and the figures that tell how well.

Shapes: N rows, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from birdmix.metrics.calibration import expected_calibration_error
from birdmix.metrics.decisions import macro_f1
from birdmix.metrics.ranking import (
    macro_average_precision,
    macro_roc_auc,
    padded_cmap,
    top1_accuracy,
)
from birdmix.windows import probability


@dataclass(frozen=True)
class Judged:
    """Truth and logits of a validation set, one row per recording or annotated window, [N, C].

    Attributes:
        known: Which of the truth is known; figures leave out the rest.
    """

    name: str
    truth: np.ndarray
    known: np.ndarray
    logits: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Return the set's figures; a figure that is not defined here is left out."""
        return {
            f"{self.name}_{name}": each.value(self)
            for name, each in _FIGURES.items()
            if not each.lacks(self)
        }

    def lacking(self) -> dict[str, str]:
        """Return the names of all figures, and what the truth lacks to have them, if anything."""
        return {f"{self.name}_{name}": each.lacks(self) for name, each in _FIGURES.items()}

    @cached_property
    def positive(self) -> np.ndarray:
        """Which labels are more likely there than not, bool [N, C]."""
        return self.truth >= 0.5

    @cached_property
    def probability(self) -> np.ndarray:
        """Probabilities, float64 [N, C]."""
        return probability(self.logits)


class _Figure(NamedTuple):
    """A figure of a validation set.

    Attributes:
        value: What it is.
        needs: What the known truth must have, in words.
        met: Whether it does.
    """

    value: Callable[[Judged], float]
    needs: str = ""
    met: Callable[[Judged], bool] = lambda judged: True

    def lacks(self, judged: Judged) -> str:
        """Return what the truth lacks to have this figure, in words; nothing if it has it."""
        return "" if self.met(judged) else self.needs


def _has_positives(judged: Judged) -> bool:
    return bool((judged.positive & judged.known).any())


def _has_curves(judged: Judged) -> bool:
    positive, known = judged.positive, judged.known
    return bool(((positive & known).any(axis=0) & (~positive & known).any(axis=0)).any())


def _top1(judged: Judged) -> float:
    return top1_accuracy(judged.truth == 1, np.where(judged.known, judged.logits, -np.inf))


def _soft_bce(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, logits) - truth * logits


_POSITIVES = ("a class with positive rows", _has_positives)
_FIGURES = {
    # Binary cross-entropy, whatever the run is trained by.
    "loss": _Figure(lambda j: float(_soft_bce(j.truth, j.logits)[j.known].mean())),
    "macro_roc_auc": _Figure(
        lambda j: macro_roc_auc(j.positive, j.logits, j.known),
        "a class with both positive and negative rows",
        _has_curves,
    ),
    "padded_cmap": _Figure(
        lambda j: padded_cmap(j.positive, j.probability, known=j.known), *_POSITIVES
    ),
    "macro_average_precision": _Figure(
        lambda j: macro_average_precision(j.positive, j.logits, j.known), *_POSITIVES
    ),
    # At one half: thresholds fitted on the same rows would flatter.
    "macro_f1": _Figure(lambda j: macro_f1(j.positive, j.probability, 0.5, j.known), *_POSITIVES),
    "top1_accuracy": _Figure(
        _top1, "a label of its own in every row", lambda j: bool((j.truth == 1).any(axis=1).all())
    ),
    "calibration_error": _Figure(
        lambda j: expected_calibration_error(j.positive, j.probability, j.known),
        "a known label",
        lambda j: bool(j.known.any()),
    ),
}

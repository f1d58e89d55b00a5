"""From the logits that a soundscape's rows were given to the probabilities of a submission.

Shapes: R rows, C classes.
"""

from datetime import datetime

import numpy as np

from birdmix.inference.rows import smoothed
from birdmix.kaggle.priors import SitesAndHours
from birdmix.kaggle.settings import FinishSettings
from birdmix.windows import FLOOR, probability

#: What whoever asks for file scaling should know.
FILE_SCALING_WARNING = (
    "--file-scaling: each species gets another factor in each soundscape, which changes the order "
    "of rows of different soundscapes; that order is what macro ROC-AUC and padded cmAP score"
)


class Finish:
    """Makes probabilities of a soundscape's logits; by default nothing but that.

    Smoothing comes first, since it is about what was heard; what is known of the place and the hour
    is added to the logits; and file scaling, a product, needs probabilities.

    Args:
        settings: What is to be done.
        priors: What sites and hours tell of the same classes; needed for a prior weight.
    """

    def __init__(self, settings: FinishSettings, priors: SitesAndHours | None = None) -> None:
        assert priors is not None or not settings.prior_weight
        self.settings = settings
        self.priors = priors

    def __call__(
        self, score: np.ndarray, soundscape: str, began: datetime | None, end_seconds: np.ndarray
    ) -> np.ndarray:
        """Return the probabilities of a soundscape's rows, float64 [R, C].

        Args:
            score: Logits of adjoining rows, float32 [R, C]; NaN where nobody knows a species, which
                it stays.
            soundscape: As row ids call it.
            began: What its clock said when it began; None if nothing tells.
            end_seconds: Where each row ends in it, [R].
        """
        settings = self.settings
        score = smoothed(score, settings.smoothing)
        if self.priors is not None and settings.prior_weight:
            told = self.priors.log_odds(soundscape, began, end_seconds)
            score = score + settings.prior_weight * told
        found = probability(score)
        if settings.file_scaling:
            scaled = found * found.max(axis=0) ** settings.file_scaling
            found = np.clip(scaled, FLOOR, 1 - FLOOR)
        return found

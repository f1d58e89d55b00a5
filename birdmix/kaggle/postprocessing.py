"""Post-processing: from a soundscape's logits to the probabilities of a submission.

Shapes: R rows, C classes.
"""

from datetime import datetime

import numpy as np

from birdmix.inference.window_logits import smooth
from birdmix.kaggle.priors import SiteAndHourPriors
from birdmix.kaggle.settings import PostprocessingSettings
from birdmix.windows import MIN_PROBABILITY, probability

#: Warning for users of file scaling.
FILE_SCALING_WARNING = (
    "--file-scaling: the factor of a species differs between soundscapes, which changes the order "
    "of rows of different soundscapes; macro ROC-AUC and padded cmAP depend on that order"
)


class Postprocessor:
    """Turns a soundscape's logits into probabilities; the default settings apply a sigmoid only.

    The order is: smoothing of the model's logits, then adding the log-odds of site and hour, then
    the sigmoid, then file scaling, which multiplies probabilities.

    Args:
        settings: The steps to apply.
        priors: Site and hour priors of the same classes; required for a prior weight.
    """

    def __init__(
        self, settings: PostprocessingSettings, priors: SiteAndHourPriors | None = None
    ) -> None:
        assert priors is not None or not settings.prior_weight
        self.settings = settings
        self.priors = priors

    def __call__(
        self,
        logits: np.ndarray,
        soundscape: str,
        recorded_at: datetime | None,
        end_seconds: np.ndarray,
    ) -> np.ndarray:
        """Return the probabilities of a soundscape's rows, float64 [R, C].

        Args:
            logits: Logits of adjoining rows, float32 [R, C]; NaN where no model has the species,
                which stays NaN.
            soundscape: Its name in row ids.
            recorded_at: Local time at which the recording begins; None if unknown.
            end_seconds: End of each row's window in the soundscape, in seconds, [R].
        """
        settings = self.settings
        logits = smooth(logits, settings.smoothing)
        if self.priors is not None and settings.prior_weight:
            log_odds = self.priors.log_odds(soundscape, recorded_at, end_seconds)
            logits = logits + settings.prior_weight * log_odds
        result = probability(logits)
        if settings.file_scaling:
            scaled = result * result.max(axis=0) ** settings.file_scaling
            result = np.clip(scaled, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return result

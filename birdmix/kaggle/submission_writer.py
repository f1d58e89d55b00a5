"""Writes a submission's file while soundscapes are predicted: logits to table to disk.

Shapes: C species.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from birdmix.inference.ensemble import DEFAULT_THRESHOLD, Ranks
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.kaggle.fallback_plan import FallbackPlan
from birdmix.kaggle.postprocessing import Postprocessor
from birdmix.kaggle.priors import SiteAndHourPriors
from birdmix.kaggle.settings import PostprocessingSettings
from birdmix.kaggle.submission_table import SubmissionTable

# The file is written again at the earliest after this many seconds, and after this many times the
# duration of the last write.
_MIN_WRITE_INTERVAL, _WRITE_COST_FACTOR = 10.0, 20


class SubmissionWriter:
    """Keeps a submission's file valid and up to date while soundscapes are predicted.

    Args:
        table: The submission's rows.
        out: The file. It is written at once, unless it exists: an existing file may come from an
            earlier, valid command, and is kept until this command's arguments are found valid.

    Attributes:
        postprocessor: Turns logits into probabilities.
        thresholds: Probability from which a species is called present, float64 [C].
        num_ranked: Number of models whose logits are kept side by side, to be ranked over all
            rows; None if the models are combined otherwise.
        write_seconds: Duration of the last write; 0 before the first.
    """

    def __init__(self, table: SubmissionTable, out: Path) -> None:
        self.table, self.out, self.write_seconds = table, out, 0.0
        self.postprocessor = Postprocessor(PostprocessingSettings())
        self.thresholds = np.full(len(table.task.species), DEFAULT_THRESHOLD)
        self.num_ranked: int | None = None
        self._name_of = {path: name for name, path in table.task.soundscapes.items()}
        # Predictions that are not in the table yet; all of them where models are ranked.
        self._pending: list[RecordingPredictions] = []
        if not out.exists():
            self.write_file_now()

    def set_postprocessing(
        self, plan: FallbackPlan, settings: PostprocessingSettings, report: Callable[[str], None]
    ) -> None:
        """Set up post-processing and thresholds; write the file if it has not been written.

        Args:
            plan: Gives the predictions.
            settings: Post-processing.
            report: Prints a line.

        Raises:
            ValueError: If priors or thresholds are requested that the folder or bundles lack.
        """
        task, priors = self.table.task, None
        if settings.prior_weight:
            priors = SiteAndHourPriors(task.data, task.competition, task.species)
            report(f"site and hour priors: {priors.summary}")
        self.postprocessor, self.num_ranked = Postprocessor(settings, priors), plan.num_ranked
        if task.competition.cell_type != "probability":
            self.thresholds = plan.species_thresholds(settings.threshold)
        elif settings.threshold is not None:
            raise ValueError(
                f"--threshold: rows of {task.competition.name} hold probabilities; leave it out"
            )
        if not self.write_seconds:
            self.write_file_now()

    def add(self, predictions: RecordingPredictions) -> None:
        """Add a predicted soundscape; the file is written if the last write is long enough ago."""
        self._pending.append(predictions)
        interval = max(_MIN_WRITE_INTERVAL, _WRITE_COST_FACTOR * self.write_seconds)
        if time.monotonic() - self._written_at > interval:
            self.write_file_now()

    def write_file_now(self) -> None:
        """Write the file with all predictions added so far."""
        started = time.monotonic()
        all_logits = self._ranked([predictions.logits for predictions in self._pending])
        for predictions, logits in zip(self._pending, all_logits, strict=True):
            name = self._name_of[predictions.path]
            ends = predictions.end_seconds
            probability = self.postprocessor(logits, name, predictions.recorded_at, ends)
            self.table.store_probabilities(name, ends, probability)
        if self.num_ranked is None:
            self._pending = []
        self.table.write(self.out, self.thresholds)
        self._written_at = time.monotonic()
        self.write_seconds = self._written_at - started

    def _ranked(self, all_logits: list[np.ndarray]) -> Sequence[np.ndarray]:
        """Return the logits of soundscapes; for ranked models, mean ranks among all of them."""
        if self.num_ranked is None or not all_logits:
            return all_logits
        joined = np.concatenate(all_logits)
        folder = self.out.absolute().parent
        ranks = Ranks(folder, len(joined), self.num_ranked, len(self.table.task.species))
        ranks.add(joined)
        ranks.sort()
        ends = np.cumsum([len(logits) for logits in all_logits])[:-1]
        return np.split(ranks.mean_over_models(joined), ends)

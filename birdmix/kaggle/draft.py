"""A submission's file while soundscapes are heard: from logits to the sheet, and to the disk.

Shapes: C species.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from birdmix.inference.ensemble import THRESHOLD, Ranks
from birdmix.kaggle.finish import Finish
from birdmix.kaggle.ladder import Ladder
from birdmix.kaggle.priors import SitesAndHours
from birdmix.kaggle.settings import FinishSettings
from birdmix.kaggle.sheet import Sheet
from birdmix.windows import WindowPredictions

# The file is written again when so many seconds have passed, and so many times what it took.
_WRITE_EVERY, _WRITE_SHARE = 10.0, 20


class Draft:
    """A submission's file while soundscapes are heard.

    Args:
        sheet: Its rows.
        out: The file. It is written at once, unless there is one: what somebody may have made with
            another command stays until this one is found to be right.

    Attributes:
        finish: Makes probabilities of what was heard.
        thresholds: Probability from which a species is called, float64 [C].
        num_ranked: Models whose scores stand side by side, to be ranked over all rows; else 0.
        took: Seconds of the last writing; 0 before the first.
    """

    def __init__(self, sheet: Sheet, out: Path) -> None:
        self.sheet, self.out, self.took = sheet, out, 0.0
        self.finish = Finish(FinishSettings())
        self.thresholds = np.full(len(sheet.task.species), THRESHOLD)
        self.num_ranked = 0
        self._name = {path: name for name, path in sheet.task.soundscapes.items()}
        self._heard: list[WindowPredictions] = []  # not on the sheet yet; when ranked, all
        if not out.exists():
            self.write()

    def prepare(self, ladder: Ladder, settings: FinishSettings, say: Callable[[str], None]) -> None:
        """Get ready for what the ladder hears, and write the file if nothing of it is written.

        Raises:
            ValueError: If priors or thresholds that are asked for are not there.
        """
        task, priors = self.sheet.task, None
        if settings.prior_weight:
            priors = SitesAndHours(task.data, task.competition, task.species)
            say(f"site and hour priors: {priors.known}")
        self.finish, self.num_ranked = Finish(settings, priors), ladder.num_ranked
        if task.competition.value != "probability":
            self.thresholds = ladder.called_from(settings.threshold)
        elif settings.threshold is not None:
            raise ValueError(
                f"--threshold: rows of {task.competition.name} hold probabilities; leave it out"
            )
        if not self.took:
            self.write()

    def add(self, heard: WindowPredictions) -> None:
        """Take a soundscape that was heard; the file is written now and then."""
        self._heard.append(heard)
        if time.monotonic() - self._written > max(_WRITE_EVERY, _WRITE_SHARE * self.took):
            self.write()

    def write(self) -> None:
        """Write what is known."""
        began = time.monotonic()
        scores = [each.score for each in self._heard]
        for each, score in zip(self._heard, self._ranked(scores), strict=True):
            name = self._name[each.path]
            share = self.finish(score, name, each.recorded_at, each.end_seconds)
            self.sheet.fill(name, each.end_seconds, share)
        if not self.num_ranked:
            self._heard = []
        self.sheet.write(self.out, self.thresholds)
        self._written = time.monotonic()
        self.took = self._written - began

    def _ranked(self, scores: list[np.ndarray]) -> Sequence[np.ndarray]:
        """Return the scores of soundscapes; if asked for, as mean ranks among all of them."""
        if not (self.num_ranked and scores):
            return scores
        together = np.concatenate(scores)
        folder = self.out.absolute().parent
        ranks = Ranks(folder, len(together), self.num_ranked, len(self.sheet.task.species))
        ranks.add(together)
        ranks.sort()
        ends = np.cumsum([len(score) for score in scores])[:-1]
        return np.split(ranks.mean(together), ends)

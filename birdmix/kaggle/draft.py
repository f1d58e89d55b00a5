"""A submission's file while soundscapes are heard: from logits to the sheet, and to the disk.

Shapes: C species.
"""

import time
import warnings
from collections.abc import Callable
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
        out: The file; it is written at once.

    Attributes:
        finish: Makes probabilities of what was heard.
        thresholds: Probability from which a species is called, float64 [C].
        num_ranked: Models whose scores stand side by side, to be ranked over all rows; else 1.
        took: Seconds of the last writing.
    """

    def __init__(self, sheet: Sheet, out: Path) -> None:
        self.sheet, self.out, self.took = sheet, out, 0.0
        self.finish = Finish(FinishSettings(), None)
        self.thresholds = np.full(len(sheet.task.species), THRESHOLD)
        self.num_ranked = 1
        self._name = {path: name for name, path in sheet.task.soundscapes.items()}
        self._heard: list[WindowPredictions] = []  # not on the sheet yet; when ranked, all
        self.write()

    def prepare(self, ladder: Ladder, settings: FinishSettings, say: Callable[[str], None]) -> None:
        """Get ready for what the ladder hears.

        Raises:
            ValueError: If priors or thresholds that are asked for are not there.
        """
        task, priors = self.sheet.task, None
        if settings.prior_weight:
            priors = SitesAndHours(task.data, task.competition, task.species)
            say(f"site and hour priors: {priors.known}")
        self.finish, self.num_ranked = Finish(settings, priors), ladder.num_models
        if task.competition.value != "probability":
            self.thresholds = _thresholds(ladder, settings)

    def add(self, heard: WindowPredictions) -> None:
        """Take a soundscape that was heard; the file is written now and then."""
        self._heard.append(heard)
        if time.monotonic() - self._written > max(_WRITE_EVERY, _WRITE_SHARE * self.took):
            self.write()

    def write(self) -> None:
        """Write what is known."""
        began = time.monotonic()
        ranks = self._ranks() if self.num_ranked > 1 and self._heard else None
        for each in self._heard:
            name = self._name[each.path]
            score = each.score if ranks is None else ranks.mean(each.score)
            share = self.finish(score, name, each.recorded_at, each.end_seconds)
            self.sheet.fill(name, each.end_seconds, share)
        if ranks is None:
            self._heard = []
        self.sheet.write(self.out, self.thresholds)
        self._written = time.monotonic()
        self.took = self._written - began

    def _ranks(self) -> Ranks:
        num_rows = sum(len(each.score) for each in self._heard)
        folder = self.out.absolute().parent
        ranks = Ranks(folder, num_rows, self.num_ranked, len(self.sheet.task.species))
        for each in self._heard:
            ranks.add(each.score)
        ranks.sort()
        return ranks


def _thresholds(ladder: Ladder, settings: FinishSettings) -> np.ndarray:
    everywhere = np.ones(len(ladder.task.species))
    if settings.threshold is not None:
        return settings.threshold * everywhere
    if ladder.num_models > 1:
        raise ValueError("--combine rank: ranks know nothing of the bundles' thresholds; give one")
    if ladder.thresholds is None:
        told = f"no bundle has thresholds: species are called from {THRESHOLD} on"
        warnings.warn(told, stacklevel=4)
        return THRESHOLD * everywhere
    return ladder.thresholds

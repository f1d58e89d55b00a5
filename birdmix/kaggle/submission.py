"""A submission from the first prior to the last soundscape: at any time a whole file stands.

Shapes: C species.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from birdmix.audio.sound_file import find_recordings
from birdmix.competitions import Competition
from birdmix.inference.engine import open_engine
from birdmix.inference.ensemble import THRESHOLD, Ranks
from birdmix.inference.listen import Listening, Progress, listen
from birdmix.inference.settings import ListenSettings
from birdmix.kaggle.finish import Finish
from birdmix.kaggle.ladder import Ladder
from birdmix.kaggle.pace import OutOfTime, Pace, minutes
from birdmix.kaggle.priors import SitesAndHours, class_priors
from birdmix.kaggle.settings import FinishSettings, PaceSettings
from birdmix.kaggle.sheet import Sheet
from birdmix.kaggle.task import Task, read_task
from birdmix.windows import WindowPredictions

# Recordings that are timed while a notebook is saved.
_HANDFUL = 8

# The file is written again when so many seconds have passed, and so many times what it took.
_WRITE_EVERY, _WRITE_SHARE = 10.0, 20


@dataclass
class Submitted:
    """What came of a submission.

    Attributes:
        task: What was asked for.
        num_rows_heard: Rows that were heard; the others hold priors.
        books: Of the soundscapes; of recordings timed in their place where there are none.
        in_time: Whether all of them could be heard.
    """

    task: Task
    num_rows_heard: int = 0
    books: Listening = field(default_factory=Listening)
    in_time: bool = True


def submit(
    bundles: Sequence[Path],
    data: Path,
    out: Path,
    *,
    competition: Competition | None = None,
    engine: str = "auto",
    settings: ListenSettings | None = None,
    finishing: FinishSettings | None = None,
    pacing: PaceSettings | None = None,
    on_progress: Progress = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Submitted:
    """Hear a competition's test soundscapes, and write the submission.

    A file filled with priors is written first, and replaced as soundscapes are heard. Where there
    are none, as while a Kaggle notebook is saved, some other recordings are timed.

    Args:
        bundles: The models.
        data: The competition's folder.
        out: The file to write.
        competition: Whose; None asks the folder.
        engine: auto, torch, onnx or openvino.
        settings: How the models listen; rows are as long as the competition's.
        finishing: What is made of what is heard.
        pacing: How long it may take.
        on_progress: Called after each recording, and a few times a second.
        say: Prints a line.

    Raises:
        ValueError: If folder, models and settings do not fit each other.
    """
    settings, finishing = settings or ListenSettings(), finishing or FinishSettings()
    task = read_task(data, competition)
    sheet = Sheet(task, class_priors(data, task.competition, task.species))
    draft = Draft(sheet, out)
    engines = [open_engine(bundle, engine) for bundle in bundles]
    ladder = Ladder(engines, settings, task, pacing is not None and pacing.degrade)
    _warn_of_species(task, ladder)
    draft.thresholds = _thresholds(task, ladder, finishing)
    priors = None
    if finishing.prior_weight:
        priors = SitesAndHours(data, task.competition, task.species)
        say(f"site and hour priors: {priors.known}")
    draft.finish, draft.num_ranked = Finish(finishing, priors), ladder.num_models
    submitted = Submitted(task)
    pace = Pace(pacing or PaceSettings(), ladder, say)

    def look(books: Listening) -> None:
        pace.writing = draft.took
        on_progress(books)
        pace(books)

    try:
        if task.soundscapes:
            paths = list(task.soundscapes.values())
            heard = listen(ladder, task.folder, paths, on_progress=look, listening=submitted.books)
            for each in heard:
                draft.add(each)
        else:
            _rehearse(ladder, look, submitted.books)
    except OutOfTime:
        submitted.in_time = False
    finally:
        ladder.close()
        draft.write()
    submitted.num_rows_heard = sheet.num_rows_heard
    _warn_of_failures(submitted)
    return submitted


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
        self._heard: list[WindowPredictions] = []  # not on the sheet yet; when ranked, all
        self.write()

    def add(self, heard: WindowPredictions) -> None:
        """Take a soundscape that was heard; the file is written now and then."""
        self._heard.append(heard)
        if time.monotonic() - self._written > max(_WRITE_EVERY, _WRITE_SHARE * self.took):
            self.write()

    def write(self) -> None:
        """Write what is known."""
        began = time.monotonic()
        ranks = self._ranks() if self.num_ranked > 1 and self._heard else None
        competition = self.sheet.task.competition
        for each in self._heard:
            score = each.score if ranks is None else ranks.mean(each.score)
            name = competition.soundscape(Path(each.path).stem)
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


def _thresholds(task: Task, ladder: Ladder, finishing: FinishSettings) -> np.ndarray:
    if finishing.threshold is not None or task.competition.value == "probability":
        return np.full(len(task.species), finishing.threshold or THRESHOLD)
    if ladder.num_models > 1:
        raise ValueError("--combine rank: ranks know nothing of the bundles' thresholds; give one")
    if ladder.thresholds is None:
        warnings.warn(
            f"no bundle has thresholds: species are called from {THRESHOLD} on", stacklevel=3
        )
        return np.full(len(task.species), THRESHOLD)
    return ladder.thresholds


def _rehearse(ladder: Ladder, on_progress: Progress, books: Listening) -> None:
    """Hear a handful of recordings that are not asked for, only to know how long it takes."""
    competition = ladder.task.competition
    for name in (competition.train_soundscapes, competition.train_audio):
        folder = ladder.task.data / name
        paths = find_recordings(folder)
        if paths:
            some = paths[:: -(-len(paths) // _HANDFUL)]
            for _ in listen(ladder, folder, some, on_progress=on_progress, listening=books):
                pass
            return


def projected(submitted: Submitted) -> str:
    """Say how long the hidden test would take at the rate of what was heard.

    Empty if nothing was, or if this seems to have been the hidden test.
    """
    competition, books = submitted.task.competition, submitted.books
    number, seconds = competition.hidden_soundscapes, competition.hidden_seconds
    if not books.seconds or len(submitted.task.soundscapes) > number / 2:
        return ""
    needed = number * seconds / books.rate
    allowed = competition.limit_minutes
    of = "" if allowed is None else f", of {allowed} min allowed"
    return (
        f"the hidden test, about {number:,} soundscapes of {minutes(seconds)}, would take "
        f"{minutes(needed)}{of}"
    )


def _warn_of_species(task: Task, ladder: Ladder) -> None:
    codes = ladder.top.labels.codes
    unheard = [code for code in task.species if code not in ladder.top.labels]
    dropped = sorted(set(codes) - set(task.species))
    if unheard:
        warnings.warn(
            f"the bundles do not know {len(unheard)} of {len(task.species)} species, they keep the "
            f"prior: {', '.join(unheard)}",
            stacklevel=3,
        )
    if dropped:
        warnings.warn(
            f"{len(dropped)} species of the bundles that nobody asks for are left out: "
            f"{', '.join(dropped)}",
            stacklevel=3,
        )


def _warn_of_failures(submitted: Submitted) -> None:
    kept = "its rows keep the prior" if submitted.task.soundscapes else "it was to be timed only"
    for path, reason in submitted.books.failed:
        warnings.warn(f"{path}: {reason}; {kept}", stacklevel=3)

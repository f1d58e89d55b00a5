"""A submission from the first prior to the last soundscape: at any time a whole file stands."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from birdmix.audio.listing import find_recordings
from birdmix.competitions import Competition
from birdmix.inference.engine import open_engine
from birdmix.inference.listen import Listening, Progress, listen
from birdmix.inference.settings import ListenSettings
from birdmix.kaggle.draft import Draft
from birdmix.kaggle.ladder import Ladder
from birdmix.kaggle.pace import OutOfTime, Pace, minutes
from birdmix.kaggle.priors import class_priors
from birdmix.kaggle.rows import counted
from birdmix.kaggle.settings import FinishSettings, PaceSettings
from birdmix.kaggle.sheet import Sheet
from birdmix.kaggle.task import Task, read_task
from birdmix.ownership import OutputFiles
from birdmix.partials import remove_partials
from birdmix.suggest import first_few

# Minutes of audio that are timed while a notebook is saved.
_HANDFUL = 8


@dataclass
class Submitted:
    """What came of a submission.

    Attributes:
        task: What was asked for.
        limit_seconds: What it may take; infinite if nobody says.
        num_rows_heard: Rows that were heard; the others hold priors.
        books: Of the soundscapes; of recordings timed in their place where there are none.
        odd: Soundscapes that were heard, and what is odd about them.
        in_time: Whether all of them could be heard.
    """

    task: Task
    limit_seconds: float = math.inf
    num_rows_heard: int = 0
    books: Listening = field(default_factory=Listening)
    odd: list[str] = field(default_factory=list)
    in_time: bool = True

    @property
    def hidden_test(self) -> float:
        """Seconds that the hidden test would take at the rate of what was heard; 0 if unknown."""
        year, books = self.task.competition, self.books
        length = year.hidden_soundscapes * year.hidden_seconds
        return length / books.rate if books.seconds else 0.0

    @property
    def allowed(self) -> float:
        """Seconds that it may take: the limit, or else the competition's; infinite if unknown."""
        minutes_allowed = self.task.competition.limit_minutes
        if self.limit_seconds < math.inf or minutes_allowed is None:
            return self.limit_seconds
        return 60.0 * minutes_allowed


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
    listening: Listening | None = None,
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
        listening: The books to keep; once they name files, a whole file stands.
        on_progress: Called after each recording, and a few times a second.
        say: Prints a line.

    Raises:
        ValueError: If folder, models and settings do not fit each other.
    """
    if out.exists() and not out.is_file():
        raise ValueError(f"{out}: it is no file; name one to write, as --out submission.csv")
    file = OutputFiles(out.parent, (out.name,), remedy="name another file for --out")
    file.check()
    finishing, pacing = finishing or FinishSettings(), pacing or PaceSettings()
    task = read_task(data, competition)
    file.claim()
    remove_partials(out.parent)
    draft = Draft(Sheet(task, class_priors(data, task.competition, task.species)), out)
    engines = [open_engine(bundle, engine) for bundle in bundles]
    ladder = Ladder(engines, settings or ListenSettings(), task)
    _warn_of_species(task, ladder)
    draft.prepare(ladder, finishing, say)
    submitted = Submitted(task, pacing.limit_seconds, books=listening or Listening())
    pace = Pace(pacing, ladder, say)

    def look(books: Listening) -> None:
        pace.writing = draft.took
        on_progress(books)
        pace(books)

    try:
        if task.soundscapes:
            _hear(submitted, ladder, draft, look)
        else:
            _rehearse(submitted, ladder, pacing.degrade, on_progress, say)
    except OutOfTime:
        submitted.in_time = False
    finally:
        ladder.close()
        draft.write()
    submitted.num_rows_heard = draft.sheet.num_rows_heard
    _warn_of_failures(submitted, draft.sheet)
    return submitted


def _hear(submitted: Submitted, ladder: Ladder, draft: Draft, on_progress: Progress) -> None:
    """Hear the soundscapes that rows are about."""
    task, books = submitted.task, submitted.books
    paths = list(task.soundscapes.values())
    for heard in listen(ladder, task.folder, paths, on_progress=on_progress, listening=books):
        if heard.warning:
            submitted.odd.append(f"{heard.path} ({heard.warning})")
        draft.add(heard)


def _rehearse(
    submitted: Submitted,
    ladder: Ladder,
    degrade: bool,
    on_progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Time a handful of recordings that nobody asks for; on each rung, until one is fast enough."""
    folder, paths = _others(submitted.task)
    while True:
        books = submitted.books
        for _ in listen(ladder, folder, paths, on_progress=on_progress, listening=books):
            pass
        slow = degrade and submitted.hidden_test > submitted.allowed
        without = ladder.step_down() if slow else ""
        if not without:
            return
        say(f"{projected(submitted)}; --degrade goes on without {without}")
        submitted.books = Listening()


def _others(task: Task) -> tuple[Path, list[str]]:
    """Return a folder and a handful of its recordings: about so many minutes of audio."""
    year = task.competition
    for name, seconds in ((year.train_soundscapes, year.hidden_seconds), (year.train_audio, 60)):
        paths = find_recordings(task.data / name)
        if paths:
            number = max(60 * _HANDFUL // seconds, 2)
            return task.data / name, paths[:: -(-len(paths) // number)]
    return task.data, []


def projected(submitted: Submitted) -> str:
    """Say how long the hidden test would take at the rate of what was heard.

    Empty if nothing was, or if this seems to have been the hidden test.
    """
    year, needed, allowed = submitted.task.competition, submitted.hidden_test, submitted.allowed
    if not needed or len(submitted.task.soundscapes) > year.hidden_soundscapes / 2:
        return ""
    of = "" if allowed == math.inf else f" of {minutes(allowed)}"
    return (
        f"the hidden test, about {year.hidden_soundscapes:,} soundscapes of "
        f"{minutes(year.hidden_seconds)}, would take {minutes(needed)}{of}"
        f"{': too slow' if needed > allowed else ''}"
    )


def _warn_of_species(task: Task, ladder: Ladder) -> None:
    codes = ladder.top.labels.codes
    unheard = [code for code in task.species if code not in ladder.top.labels]
    dropped = sorted(set(codes) - set(task.species))
    if unheard:
        warnings.warn(
            f"the bundles do not know {len(unheard)} of {len(task.species)} species, they keep the "
            f"prior: {first_few(unheard, 5, 'what bundle.json lacks')}",
            stacklevel=3,
        )
    if dropped:
        warnings.warn(
            f"{len(dropped)} species of the bundles that nobody asks for are left out: "
            f"{first_few(dropped, 5, 'what the sample submission lacks')}",
            stacklevel=3,
        )


def _warn_of_failures(submitted: Submitted, sheet: Sheet) -> None:
    kept = "its rows keep the prior" if submitted.task.soundscapes else "it was to be timed only"
    for path, reason in submitted.books.failed:
        warnings.warn(f"{path}: {reason}; {kept}", stacklevel=3)
    if submitted.odd:
        number, named = counted(len(submitted.odd), "soundscape"), first_few(sorted(submitted.odd))
        warnings.warn(f"{number} odd, and heard as far as it goes: {named}", stacklevel=3)
    beyond = sheet.beyond
    if beyond:
        soundscapes = [submitted.task.soundscapes[name] for name in beyond]
        rows, of = counted(sum(beyond.values()), "row"), counted(len(beyond), "soundscape")
        warnings.warn(
            f"{rows} of {of} beyond what could be heard there, they keep the prior: "
            f"{first_few(soundscapes)}",
            stacklevel=3,
        )

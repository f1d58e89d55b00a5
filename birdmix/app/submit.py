"""`birdmix submit`: what is said while a submission comes about."""

from collections.abc import Sequence
from pathlib import Path

from birdmix.app.console import heard_line, listening_progress, say, warn, warnings_as_lines
from birdmix.app.errors import interrupted_in_a_line
from birdmix.competitions import competition_named
from birdmix.inference.listen import Listening
from birdmix.inference.settings import ListenSettings
from birdmix.kaggle.finish import FILE_SCALING_WARNING
from birdmix.kaggle.settings import FinishSettings, PaceSettings
from birdmix.kaggle.submission import projected
from birdmix.kaggle.submission import submit as write_submission


def submit(
    bundles: Sequence[Path],
    data: Path,
    out: Path,
    competition: str | None,
    engine: str,
    settings: ListenSettings,
    finishing: FinishSettings,
    pacing: PaceSettings,
) -> bool:
    """Write a submission.

    Returns:
        Whether anything could be heard, or nothing was there to hear.
    """
    if finishing.file_scaling:
        warn(FILE_SCALING_WARNING)
    books = Listening()
    with (
        warnings_as_lines(),
        interrupted_in_a_line(
            lambda: f"{out} holds what was heard" if books.num_files else "nothing was heard"
        ),
        listening_progress("listening") as on_progress,
    ):
        done = write_submission(
            bundles,
            data,
            out,
            competition=competition_named(competition) if competition else None,
            engine=engine,
            settings=settings,
            finishing=finishing,
            pacing=pacing,
            listening=books,
            on_progress=on_progress,
            say=say,
        )
    # Of the rung that was heard last: a rehearsal has books for each.
    asked, books, timed = done.task.asked, done.books, not done.task.soundscapes
    if timed:
        others = (
            f"{books.num_files} others are timed" if books.num_files else "nor is there another"
        )
        say(f"no soundscape of these rows is there, as while a notebook is saved; {others}")
    if books.num_files:
        say(heard_line(books))
    if not done.in_time:
        left = books.num_files - books.done
        say(f"the time is up: {left:,} of {books.num_files:,} soundscapes keep the prior")
    if told := projected(done):
        say(told)
    num_rows, heard = len(asked.row_ids), done.num_rows_heard
    say(
        f"wrote {out}: {done.task.competition.name}, {num_rows:,} rows, {heard:,} heard, "
        f"{num_rows - heard:,} with the prior"
    )
    return timed or not books.done or books.done > len(books.failed)

"""``birdmix score``: the score of a submission by the competition's metric."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.user_errors import one_line_errors


def score(
    submission: Annotated[Path, typer.Argument(help="Submission to score.")],
    solution: Annotated[Path, typer.Argument(help="True labels, in the format of a submission.")],
    competition: Annotated[
        str | None,
        typer.Option(help="birdclef-2021 to birdclef-2026; not needed for 2021 and 2022."),
    ] = None,
) -> None:
    """Score a submission by the metric of its competition; the last line is the score alone."""
    from birdmix.competitions import competition_named
    from birdmix.kaggle.scoring import score_submission

    with one_line_errors():
        year = competition_named(competition) if competition else None
        scored = score_submission(submission, solution, year)
    for line in scored.lines:
        typer.echo(line)
    typer.echo(f"{scored.value:.8f}")

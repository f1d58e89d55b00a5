"""``birdmix tune``: a hyper-parameter search."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.user_errors import one_line_errors


def tune(
    space: Annotated[Path, typer.Argument(help="Search space, YAML as in conf/tune.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides of all trials, as for train.py.")
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for trials.csv and the trials' run directories.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Number of trials.")] = 50,
) -> None:
    """Search hyper-parameters with Optuna; the same command continues an interrupted search."""
    with one_line_errors():
        from birdmix.experiments.tuning.trial_loop import tune as run_search

        run_search(space, overrides or [], out, trials)

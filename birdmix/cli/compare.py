"""``birdmix compare``: a comparison of arms, such as mixes."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.user_errors import one_line_errors


def compare(
    file: Annotated[
        Path,
        typer.Argument(
            help="YAML file: arms with their overrides, the control, replicates, metrics."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the runs, tables, figure and page.")],
    time_limit: Annotated[
        str | None, typer.Option(help="Stop after a time, such as 90m; a later call goes on.")
    ] = None,
) -> None:
    """Train several arms with the same data, steps and seeds, and compare them honestly.

    The same command continues an interrupted comparison.
    """
    with one_line_errors():
        from birdmix.experiments.comparison.comparison_loop import compare as run_comparison

        run_comparison(file, out, time_limit)

"""``birdmix summary``: a table of training runs."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.user_errors import one_line_errors


def summary(
    folders: Annotated[
        list[Path], typer.Argument(help="Run directories, or folders that contain run directories.")
    ],
    out: Annotated[Path | None, typer.Option(help="CSV file to write, a row per run.")] = None,
) -> None:
    """Print a table of runs: settings that differ, metrics, and means over folds and seeds."""
    from birdmix.experiments.run_table import read_run_table, run_table_output_files

    with one_line_errors():
        if out is not None:
            run_table_output_files(out).check()
        table = read_run_table(folders)
        if out is not None:
            table.write_csv(out)
    table.log()

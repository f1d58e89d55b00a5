"""``birdmix compare``: a comparison of arms, such as mixes."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.cli.config_options import ConfigDir
from birdmix.user_errors import one_line_errors


def compare(
    file: Annotated[
        Path,
        typer.Argument(
            help="YAML file: arms with their overrides, the control, replicates, metrics."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Overrides of all runs, as birdmix train takes them."
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the runs, tables, figure and page.")],
    mixtures: Annotated[
        Path | None, typer.Option(help="Folder of birdmix mixtures, to test on held-out mixtures.")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop after a time, such as 90m; a later call goes on.")
    ] = None,
    config_dir: ConfigDir = None,
) -> None:
    """Train several arms with the same data, steps and seeds, and compare them honestly.

    The same command continues an interrupted comparison.
    """
    with one_line_errors():
        from birdmix.config.conf_folders import config_dir_overrides
        from birdmix.experiments.comparison.comparison_loop import compare as run_comparison

        given = [*config_dir_overrides(config_dir), *(overrides or [])]
        run_comparison(file, out, given, mixtures, time_limit)

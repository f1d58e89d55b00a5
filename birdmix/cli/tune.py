"""``birdmix tune``: a hyper-parameter search."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.cli.config_options import ConfigDir
from birdmix.user_errors import one_line_errors


def tune(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPACE|KEY=VALUE",
            help="Search space, a YAML file (default: birdmix's own tune.yaml, which is copied to "
            "--out as space.yaml); then overrides of all trials, as for birdmix train.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for trials.csv and the trials' run directories.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Number of trials.")] = 50,
    config_dir: ConfigDir = None,
) -> None:
    """Search hyper-parameters with Optuna; the same command continues an interrupted search."""
    with one_line_errors():
        from birdmix.config.conf_folders import config_dir_overrides, packaged_conf
        from birdmix.experiments.tuning.trial_loop import tune as run_search

        space, overrides = packaged_conf() / "tune.yaml", arguments or []
        if overrides and ("=" not in overrides[0] or Path(overrides[0]).is_file()):
            space, overrides = Path(overrides[0]), overrides[1:]
        run_search(space, [*config_dir_overrides(config_dir), *overrides], out, trials)

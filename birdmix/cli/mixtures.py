"""``birdmix mixtures``: test mixtures of held-out recordings."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.cli.config_options import ConfigDir
from birdmix.user_errors import one_line_errors


def mixtures(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Overrides of data, as for birdmix train."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder to write: mixtures.csv and sound files.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    fold: Annotated[
        list[int] | None, typer.Option(help="Fold to make; repeatable. Default: all.")
    ] = None,
    set_names: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Set to make: single, two_or_three or three_or_four; repeatable. Default: all.",
        ),
    ] = None,
    per_class: Annotated[
        int, typer.Option(min=1, help="How often each class occurs in a set of a fold.")
    ] = 20,
    beds: Annotated[
        Path | None,
        typer.Option(
            help="Folder of noise recordings without any of the classes. Default: quiet parts of "
            "held-out recordings."
        ),
    ] = None,
    config_dir: ConfigDir = None,
) -> None:
    """Make test sets of held-out recordings: single windows, and mixtures of known levels."""
    with one_line_errors():
        from birdmix.config.composition import compose_config
        from birdmix.config.conf_folders import config_dir_overrides
        from birdmix.console import log_line, open_progress_bar, warnings_as_lines
        from birdmix.loading.mixture_folder import write_mixtures
        from birdmix.loading.mixture_plan import MixtureSettings
        from birdmix.recordings.mixture_table import TABLE

        settings = MixtureSettings(
            seed=seed,
            sets=tuple(set_names or ()),
            folds=tuple(fold or ()),
            per_class=per_class,
            beds=beds,
        )
        config = compose_config([*config_dir_overrides(config_dir), *(overrides or [])])
        with warnings_as_lines():
            counts = write_mixtures(
                out,
                config.data,
                config.frontend.log_mel.sample_rate,
                settings,
                open_progress_bar,
            )
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        log_line(f"wrote {out / TABLE} ({listed})")

"""``birdmix inspect``: a page to see and hear the mixes of a run."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.cli.config_options import ConfigDir
from birdmix.user_errors import one_line_errors


def inspect(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Overrides as for birdmix train; run=RUN_DIR takes the settings of a run.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("inspection.html"),
    at: Annotated[
        str | None,
        typer.Option(
            metavar="EPOCH:BATCH",
            help="Position in the run, both counted from 1. Default: its beginning.",
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Most examples to show.")] = 12,
    batches: Annotated[
        int, typer.Option(min=1, help="Batches whose distributions are compared with the settings.")
    ] = 200,
    processes: Annotated[int, typer.Option(min=1, help="Number of processes of the run.")] = 1,
    rank: Annotated[int, typer.Option(min=0, help="Process whose batches are shown.")] = 0,
    config_dir: ConfigDir = None,
) -> None:
    """Draw batches as training does, and write a page to see and hear what is mixed."""
    with one_line_errors():
        from birdmix.config.conf_folders import config_dir_overrides
        from birdmix.console import log_line, warnings_as_lines
        from birdmix.experiments.inspection.inspect_mixes import InspectionOptions, inspect_mixes

        options = InspectionOptions(out, at, examples, batches, processes, rank)
        with warnings_as_lines():
            summary = inspect_mixes(
                [*config_dir_overrides(config_dir), *(overrides or [])], options
            )
        log_line(f"wrote {out}: {summary}")

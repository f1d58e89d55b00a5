"""``birdmix clips``: audio clips of detections, and a page to listen to and check them."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.user_errors import one_line_errors


def clips(
    detections: Annotated[
        Path, typer.Argument(help="detections.csv of `birdmix predict`, or the folder it wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: index.html, clips, clips.csv.")],
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of the recordings. Default: as in run.json.")
    ] = None,
    per_species: Annotated[
        int, typer.Option(min=1, help="Maximum number of clips per species.")
    ] = 10,
    pad: Annotated[float, typer.Option(min=0, help="Seconds before and after a detection.")] = 1.0,
    species: Annotated[
        list[str] | None, typer.Option(help="Species to include, by code or name; repeatable.")
    ] = None,
) -> None:
    """Write audio clips of detections, and a page to listen to and check them."""
    with one_line_errors():
        from birdmix.console import log_line, open_progress_bar, warnings_as_lines
        from birdmix.inference.clip_folder import write_clips

        with warnings_as_lines():
            page, num_clips, num_species = write_clips(
                detections,
                out,
                recordings=recordings,
                per_species=per_species,
                pad_seconds=pad,
                species=species or (),
                open_bar=open_progress_bar,
            )
        log_line(f"wrote {page} ({num_clips} clips of {num_species} species)")

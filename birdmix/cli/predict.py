"""``birdmix predict``: detections in recordings and folders of recordings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmix.cli.prediction_options import (
    Bundles,
    Combine,
    Context,
    EngineName,
    FramePooling,
    Power,
    Shift,
    Smoothing,
)
from birdmix.user_errors import one_line_errors, one_line_interrupts

if TYPE_CHECKING:
    from birdmix.inference.predict_files import OnProgress
    from birdmix.inference.predict_folder import FolderResult

# Failed recordings that are printed; failed.csv has all.
_NUM_PRINTED = 3


def predict(
    recordings: Annotated[
        list[Path],
        typer.Argument(help="Recordings, or folders of recordings with their subfolders."),
    ],
    bundle: Bundles,
    out: Annotated[Path, typer.Option(help="Folder for the tables and the journal.")],
    *,
    threshold: Annotated[
        float | None,
        typer.Option(help="Minimum probability of a detection. Default: the bundle's."),
    ] = None,
    species: Annotated[
        Path | None, typer.Option(help="File with the species to report, a code or name per line.")
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(help="Length of a window in seconds. Default: as in training."),
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(help="Seconds from one window to the next. Default: the length of a window."),
    ] = None,
    context: Context = None,
    frame_pooling: FramePooling = "clip",
    shift: Shift = 0.0,
    smoothing: Smoothing = 0.0,
    combine: Combine = "logit",
    power: Power = 2.0,
    channel: Annotated[
        int | None,
        typer.Option(help="Channel to use, counted from 1. Default: mean of all channels."),
    ] = None,
    last_window: Annotated[
        str,
        typer.Option(
            help="A last window that would end behind the recording: full (moved back, so that it "
            "ends with it), pad (with silence) or drop."
        ),
    ] = "full",
    engine: EngineName = "auto",
    probabilities: Annotated[
        str | None, typer.Option(help="Also write all probabilities: parquet or csv.")
    ] = None,
    format: Annotated[
        list[str] | None, typer.Option(help="Also write raven, audacity, birdnet or kaleidoscope.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(help="Time zone of all datetimes, for example Europe/Berlin or UTC+2."),
    ] = None,
    clock_timezone: Annotated[
        str | None,
        typer.Option(help="Time zone of recordings that name none. Default: --timezone."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Predict one part of the recordings, as 3/8. Default: from torchrun or SLURM."
        ),
    ] = None,
) -> None:
    """Predict which species occur in recordings, and when; write detections and other tables.

    The same command continues an interrupted job; with more recordings it predicts the new ones.
    Exit status: 0; 1 if no recording could be predicted; 2 for a wrong argument.
    """
    with one_line_errors():
        from birdmix.console import log_line, warnings_as_lines
        from birdmix.inference.journal_tables import OutputSettings
        from birdmix.inference.predict_folder import predict_folder
        from birdmix.inference.process_share import ProcessShare
        from birdmix.inference.settings import PredictSettings

        settings = PredictSettings(
            window, hop, context, frame_pooling, shift, combine, power, channel, last_window
        )
        formats = tuple(dict.fromkeys(format or ()))
        output = OutputSettings(
            threshold, smoothing, species, probabilities, formats, timezone, clock_timezone
        )
        share = ProcessShare.parse(part)
        with warnings_as_lines():
            result = predict_folder(
                recordings,
                bundle,
                out,
                engine,
                settings,
                output,
                share,
                open_progress=_show_progress,
                log=log_line,
            )
            _log_end(result)
    raise typer.Exit(0 if result.has_predictions else 1)


@contextmanager
def _show_progress() -> Iterator["OnProgress"]:
    """Show a progress bar, and end with one line on Ctrl-C; yields a function of the progress."""
    from birdmix.console import open_progress_bar_with_status

    state = "predictions so far are kept, and the same command continues"
    with one_line_interrupts(lambda: state), open_progress_bar_with_status("predicting") as show:
        yield lambda progress: show(*progress.bytes_and_status())


def _log_end(result: "FolderResult") -> None:
    """Print what was predicted, what failed, and what was written."""
    from birdmix.console import log_line, warn

    progress, counts, out = result.progress, result.counts, result.out
    if progress.num_files:
        log_line(progress.summary())
    for path, reason in progress.failed[:_NUM_PRINTED]:
        log_line(f"  {path}: {reason}")
    if len(progress.failed) > _NUM_PRINTED:
        log_line(f"  and {len(progress.failed) - _NUM_PRINTED} more: {out / 'failed.csv'}")
    if counts["undated"]:
        log_line(f"{counts['undated']} recordings have no start time: not in activity.csv")
    log_line(f"wrote {out}: {counts['detections']} detections in {counts['recordings']} recordings")
    for line in result.warnings:
        warn(line)

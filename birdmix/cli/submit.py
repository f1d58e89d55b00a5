"""``birdmix submit``: a submission to a BirdCLEF competition on Kaggle."""

import time
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
    from birdmix.kaggle.submission import SubmissionResult


def submit(
    bundle: Bundles,
    data: Annotated[Path, typer.Option(help="Folder of a BirdCLEF competition, 2021 to 2026.")],
    out: Annotated[Path, typer.Option(help="Submission to write.")] = Path("submission.csv"),
    *,
    competition: Annotated[
        str | None,
        typer.Option(help="birdclef-2021 to birdclef-2026. Default: recognised from the folder."),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            help="Time limit for the complete file, for example 85m, counted from the start."
        ),
    ] = None,
    degrade: Annotated[
        bool,
        typer.Option(
            help="If too slow for the limit, drop --shift, then --hop, then bundles from the last."
        ),
    ] = False,
    context: Context = None,
    hop: Annotated[
        float | None,
        typer.Option(
            help="Seconds between windows; a row is the mean of the windows that overlap it."
        ),
    ] = None,
    shift: Shift = 0.0,
    frame_pooling: FramePooling = "clip",
    smoothing: Smoothing = 0.0,
    combine: Combine = "logit",
    power: Power = 2.0,
    engine: EngineName = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Minimum probability of a detection (2021, 2022). Default: the bundles'."
        ),
    ] = None,
    prior_weight: Annotated[
        float,
        typer.Option(
            help="Weight of priors by site and hour, estimated from labelled soundscapes."
        ),
    ] = 0.0,
    file_scaling: Annotated[
        float,
        typer.Option(help="Exponent of a species' highest probability in the recording; 0 is off."),
    ] = 0.0,
) -> None:
    """Write a Kaggle submission; the file is valid from the first second, with priors at first.

    Exit status: 0; 1 if no soundscape could be predicted; 2 for a wrong argument.
    """
    started_at = time.monotonic()
    with one_line_errors():
        from birdmix.competitions import competition_named
        from birdmix.console import log_line, open_progress_bar_with_status, warn, warnings_as_lines
        from birdmix.inference.predict_files import Progress
        from birdmix.inference.settings import PredictSettings
        from birdmix.kaggle.postprocessing import FILE_SCALING_WARNING
        from birdmix.kaggle.settings import DeadlineSettings, PostprocessingSettings
        from birdmix.kaggle.submission import make_submission

        settings = PredictSettings(None, hop, context, frame_pooling, shift, combine, power)
        postprocessing = PostprocessingSettings(smoothing, prior_weight, file_scaling, threshold)
        deadline_settings = DeadlineSettings(time_limit, degrade, started_at)
        if postprocessing.file_scaling:
            warn(FILE_SCALING_WARNING)
        progress = Progress()

        def state() -> str:
            return (
                f"predictions so far are in {out}"
                if progress.num_files
                else "nothing predicted yet"
            )

        with (
            warnings_as_lines(),
            one_line_interrupts(state),
            open_progress_bar_with_status("predicting") as show,
        ):
            done = make_submission(
                bundle,
                data,
                out,
                competition=competition_named(competition) if competition else None,
                engine=engine,
                settings=settings,
                postprocessing=postprocessing,
                deadline_settings=deadline_settings,
                progress=progress,
                on_progress=lambda update: show(*update.bytes_and_status()),
                report=log_line,
            )
        has_predictions = _log_end(done, out)
    raise typer.Exit(0 if has_predictions else 1)


def _log_end(done: "SubmissionResult", out: Path) -> bool:
    """Print what was predicted; return False if predictions of all soundscapes failed."""
    from birdmix.console import log_line
    from birdmix.kaggle.submission import describe_hidden_test_time

    # Progress with the last variant of the fallback plan; a rehearsal has one for each variant.
    progress, is_rehearsal = done.progress, not done.task.soundscapes
    if is_rehearsal:
        timed = f"{progress.num_files} other recordings" if progress.num_files else "nothing"
        log_line(
            "no soundscape of the requested rows exists, as when a notebook is saved; "
            f"timed {timed}"
        )
    if progress.num_files:
        log_line(progress.summary())
    if not done.in_time:
        num_left = progress.num_files - progress.num_done
        log_line(
            f"time limit reached: {num_left:,} of {progress.num_files:,} soundscapes keep the prior"
        )
    if projection := describe_hidden_test_time(done):
        log_line(projection)
    num_rows, num_predicted = len(done.task.rows.row_ids), done.num_rows_predicted
    log_line(
        f"wrote {out}: {done.task.competition.name}, {num_rows:,} rows, {num_predicted:,} "
        f"predicted, {num_rows - num_predicted:,} with priors"
    )
    return is_rehearsal or not progress.num_done or progress.num_done > len(progress.failed)

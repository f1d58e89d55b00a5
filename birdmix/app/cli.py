"""The command line for everything but training itself."""

import time
from pathlib import Path
from typing import Annotated

import typer

from birdmix import __version__
from birdmix.app.errors import one_line_errors, replace_what_output_lacks

app = typer.Typer(
    help="Listen with a trained bundle, look after data. Training itself is `python train.py`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"birdmix {__version__}")
        raise typer.Exit


Bundle = Annotated[Path, typer.Option(help="Bundle of a run: RUN_DIR/bundle.")]
Bundles = Annotated[list[Path], typer.Option(help="Bundle of a run; several listen together.")]

# How bundles listen.
Context = Annotated[
    float | None, typer.Option(help="Seconds heard about a row. Left out: as in training.")
]
Pool = Annotated[
    str, typer.Option(help="A row's score: clip, or mean or max of its frames (head=sed).")
]
Shift = Annotated[
    float, typer.Option(help="Hear rows also so many seconds earlier and later; 0 is off.")
]
Smoothing = Annotated[
    float, typer.Option(help="Share of a row's logits that its neighbours give, below 1.")
]
Combine = Annotated[str, typer.Option(help="Mean of several bundles: logit, power or rank.")]
Power = Annotated[float, typer.Option(help="Exponent of --combine power.")]
EngineName = Annotated[
    str, typer.Option(help="auto (the fastest present), torch, onnx or openvino.")
]


@app.command()
def predict(
    recordings: Annotated[
        list[Path],
        typer.Argument(help="Folders of recordings, nested as they like, or single files."),
    ],
    bundle: Bundles,
    out: Annotated[Path, typer.Option(help="Folder for the tables and the journal.")],
    *,
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability to call a species from. Left out: the bundle's own."),
    ] = None,
    species: Annotated[
        Path | None, typer.Option(help="File of the species to keep: a code or name per line.")
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(help="Seconds of a row. Left out: as in training."),
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Seconds from row to row. Left out: as long as a row.")
    ] = None,
    context: Context = None,
    pool: Pool = "clip",
    shift: Shift = 0.0,
    smoothing: Smoothing = 0.0,
    combine: Combine = "logit",
    power: Power = 2.0,
    channel: Annotated[
        int | None, typer.Option(help="Channel to hear, counted from 1. Left out: mean of all.")
    ] = None,
    engine: EngineName = "auto",
    scores: Annotated[
        str | None, typer.Option(help="Write every score too: parquet or csv.")
    ] = None,
    format: Annotated[
        list[str] | None, typer.Option(help="Also raven, audacity, birdnet, kaleidoscope.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Zone of the datetimes written, as Europe/Berlin or UTC+2.")
    ] = None,
    clock_timezone: Annotated[
        str | None,
        typer.Option(help="Zone of clocks that state none. Left out: --timezone."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="Hear one part only, as 3/8. Left out: as torchrun or SLURM say."),
    ] = None,
) -> None:
    """Predict folders of recordings, or single files: which species is where and when.

    Interrupted, the same command goes on; with more recordings it hears those. Ends with 0, with 1
    if nothing could be heard, and with 2 if something is wrong with what was asked.
    """
    with one_line_errors():
        from birdmix.app.console import warnings_as_lines
        from birdmix.app.findings import Output
        from birdmix.app.listening import predict as listen_to
        from birdmix.app.parts import Part
        from birdmix.inference.settings import ListenSettings

        settings = ListenSettings(window, step, context, pool, shift, combine, power, channel)
        formats = tuple(dict.fromkeys(format or ()))
        output = Output(threshold, smoothing, species, scores, formats, timezone, clock_timezone)
        with warnings_as_lines():
            heard = listen_to(recordings, bundle, out, engine, settings, output, Part.of(part))
    raise typer.Exit(0 if heard else 1)


@app.command()
def segments(
    detections: Annotated[
        Path, typer.Argument(help="detections.csv of `birdmix predict`, or the folder it wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: index.html, clips, segments.csv.")],
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of the recordings; run.json tells if not given.")
    ] = None,
    per_species: Annotated[int, typer.Option(min=1, help="Most clips of a species.")] = 10,
    pad: Annotated[float, typer.Option(min=0, help="Seconds around a detection.")] = 1.0,
    species: Annotated[
        list[str] | None, typer.Option(help="Species wanted, by code or name; give it again.")
    ] = None,
) -> None:
    """Cut clips of detections, and write a page to check them by ear."""
    with one_line_errors():
        from birdmix.app.segments import write_segments

        write_segments(
            detections,
            out,
            recordings=recordings,
            per_species=per_species,
            pad_seconds=pad,
            species=species or (),
        )


@app.command()
def export(
    bundle: Bundle,
    engine: Annotated[str, typer.Option(help="onnx or openvino.")],
    precision: Annotated[
        str, typer.Option(help="f32; bf16, openvino's on processors that have it; int8, smaller.")
    ] = "f32",
    windows: Annotated[
        Path | None,
        typer.Option(help="Folder of recordings to check by, where the bundle has no windows."),
    ] = None,
) -> None:
    """Add an exported network to a bundle: it listens without torch, and faster on a CPU.

    It is held against torch on the bundle's golden windows, and not written if it differs.
    """
    with one_line_errors():
        from birdmix.app.export import export_bundle

        export_bundle(bundle, engine, precision, windows)


@app.command()
def kit(
    bundle: Bundles,
    out: Annotated[Path, typer.Option(help="Folder to write; a kit of before is replaced.")],
    *,
    engine: Annotated[
        str, typer.Option(help="auto (the fastest export of all bundles), torch, onnx or openvino.")
    ] = "auto",
    python: Annotated[
        str | None, typer.Option(help="The notebook's Python, as 3.12. Left out: this one's.")
    ] = None,
    competition: Annotated[
        str | None,
        typer.Option(help="birdclef-2021 to birdclef-2026, for its time limit. Left out: newest."),
    ] = None,
) -> None:
    """Gather what a Kaggle notebook without network needs to submit: wheels, bundles, a cell."""
    with one_line_errors():
        from birdmix.app.kit import gather_kit

        gather_kit(bundle, out, engine, python, competition)


@app.command()
def submit(
    bundle: Bundles,
    data: Annotated[Path, typer.Option(help="Folder of a BirdCLEF competition, 2021 to 2026.")],
    out: Annotated[Path, typer.Option(help="Submission to write.")] = Path("submission.csv"),
    *,
    competition: Annotated[
        str | None,
        typer.Option(help="birdclef-2021 to birdclef-2026. Left out: as the folder looks."),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="The file stands after so long, as 85m; counted from here.")
    ] = None,
    degrade: Annotated[
        bool,
        typer.Option(help="Too slow: give up --shift, then --step, then bundles from the last."),
    ] = False,
    context: Context = None,
    step: Annotated[
        float | None,
        typer.Option(help="Seconds between what is heard; rows are means of what overlaps them."),
    ] = None,
    shift: Shift = 0.0,
    pool: Pool = "clip",
    smoothing: Smoothing = 0.0,
    combine: Combine = "logit",
    power: Power = 2.0,
    engine: EngineName = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability to call from (2021, 2022). Left out: the bundles' own."),
    ] = None,
    prior_weight: Annotated[
        float, typer.Option(help="Weight of what labelled soundscapes tell of sites and hours.")
    ] = 0.0,
    file_scaling: Annotated[
        float,
        typer.Option(help="Times a species' highest probability in the file, to this power."),
    ] = 0.0,
) -> None:
    """Write a Kaggle submission; a whole file stands from the first second on.

    Ends with 0, with 1 if no soundscape could be heard, and with 2 if something is wrong with what
    was asked.
    """
    began = time.monotonic()
    with one_line_errors():
        from birdmix.app.submit import submit as write_submission
        from birdmix.inference.settings import ListenSettings
        from birdmix.kaggle.settings import FinishSettings, PaceSettings

        settings = ListenSettings(None, step, context, pool, shift, combine, power)
        finishing = FinishSettings(smoothing, prior_weight, file_scaling, threshold)
        pacing = PaceSettings(time_limit, degrade, began)
        heard = write_submission(
            bundle, data, out, competition, engine, settings, finishing, pacing
        )
    raise typer.Exit(0 if heard else 1)


@app.command()
def score(
    submission: Annotated[Path, typer.Argument(help="Submission to score.")],
    solution: Annotated[Path, typer.Argument(help="The truth, in a submission's form.")],
    competition: Annotated[
        str | None,
        typer.Option(help="birdclef-2021 to birdclef-2026; not needed for 2021 and 2022."),
    ] = None,
) -> None:
    """Score a submission by its year's metric; the figure stands on the last line, alone."""
    from birdmix.competitions import competition_named
    from birdmix.kaggle.score import score_submission

    with one_line_errors():
        year = competition_named(competition) if competition else None
        scored = score_submission(submission, solution, year)
    for line in scored.told:
        typer.echo(line)
    typer.echo(f"{scored.value:.8f}")


@app.command()
def doctor(
    target: Annotated[
        list[str],
        typer.Argument(
            help="Folder of recordings; or the data of a run, as in data=csv data.table=FILE."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for doctor.csv and exclude.txt.")] = Path(),
) -> None:
    """Decode all recordings, look through their tables, and say what is wrong.

    Ends with 0 if nothing is, with 1 if something is, and with 2 if it could not look.
    """
    from birdmix.app.checkup import check_up

    with one_line_errors():
        healthy = check_up(target, out)
    raise typer.Exit(0 if healthy else 1)


@app.command()
def search(
    space: Annotated[Path, typer.Argument(help="What may vary: YAML as in conf/search.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of all trials, as train.py takes them.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for trials.csv and the trials' runs.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials in all.")] = 50,
) -> None:
    """Search settings with Optuna; the same command goes on with what was interrupted."""
    with one_line_errors():
        from birdmix.app.search.loop import search as search_space

        search_space(space, overrides or [], out, trials)


@app.command()
def summary(
    folders: Annotated[
        list[Path], typer.Argument(help="Run directories, or folders that hold some.")
    ],
    out: Annotated[Path | None, typer.Option(help="CSV to write, a row per run.")] = None,
) -> None:
    """Put runs side by side: what differs, their figures, and means over folds and seeds."""
    from birdmix.app.summary import summarise, summary_file

    with one_line_errors():
        if out is not None:
            summary_file(out).check()
        runs = summarise(folders)
        if out is not None:
            runs.write(out)
    runs.tell()


def main() -> None:
    """Run the command line."""
    replace_what_output_lacks()
    app()

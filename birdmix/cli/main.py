"""The ``birdmix`` command with its subcommands, one file each."""

from typing import Annotated

import typer

from birdmix import __version__
from birdmix.cli.clips import clips
from birdmix.cli.doctor import doctor
from birdmix.cli.export import export
from birdmix.cli.kit import kit
from birdmix.cli.predict import predict
from birdmix.cli.score import score
from birdmix.cli.submit import submit
from birdmix.cli.summary import summary
from birdmix.cli.tune import tune
from birdmix.user_errors import replace_unencodable_output

app = typer.Typer(
    help="Predict with a trained model, export it, write submissions, check data, tune. "
    "For training see `python train.py --help`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _print_version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"birdmix {__version__}")
        raise typer.Exit


for command in (predict, clips, export, kit, submit, score, doctor, tune, summary):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    replace_unencodable_output()
    app()

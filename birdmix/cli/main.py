"""The ``birdmix`` command with its subcommands, one file each."""

import sys
from typing import Annotated

import typer

from birdmix import __version__
from birdmix.cli.clips import clips
from birdmix.cli.compare import compare
from birdmix.cli.doctor import doctor
from birdmix.cli.export import export
from birdmix.cli.inspect_batches import inspect
from birdmix.cli.kit import kit
from birdmix.cli.mixtures import mixtures
from birdmix.cli.predict import predict
from birdmix.cli.score import score
from birdmix.cli.submit import submit
from birdmix.cli.summary import summary
from birdmix.cli.train import train
from birdmix.cli.tune import tune
from birdmix.user_errors import exit_with_message, replace_unencodable_output

# Former names of commands and options.
_RENAMED_COMMANDS = {"segments": "clips", "search": "tune"}
_RENAMED_OPTIONS = {
    "--step": "--hop",
    "--pool": "--frame-pooling",
    "--scores": "--probabilities",
}

app = typer.Typer(
    help="Train bird-call classifiers, predict with them, export them, write submissions.",
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


app.command(
    context_settings={  # Hydra reads all arguments of train, also --help
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)(train)
for command in (
    predict,
    clips,
    export,
    kit,
    submit,
    score,
    doctor,
    tune,
    inspect,
    mixtures,
    compare,
    summary,
):
    app.command()(command)


def check_former_names(arguments: list[str]) -> None:
    """End the program with one line if a command or an option has its former name.

    Args:
        arguments: The command line, without the program's name.
    """
    command = arguments[0] if arguments else ""
    if command in _RENAMED_COMMANDS:
        exit_with_message(
            f"error: there is no command {command}; use birdmix {_RENAMED_COMMANDS[command]}"
        )
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in _RENAMED_OPTIONS:
            exit_with_message(f"error: there is no option {option}; use {_RENAMED_OPTIONS[option]}")


def main() -> None:
    """Run the command line."""
    replace_unencodable_output()
    check_former_names(sys.argv[1:])
    app()

"""Exit after errors: one line for errors that a user can fix, a traceback for bugs."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from birdmix.torch_versions import describe_unfit_package, find_unfit_package

#: Exit status after an error that a user can fix.
USER_ERROR = 2

_PACKAGE = Path(__file__).parent


class OrderlyStop(Exception):  # noqa: N818 - not an error: it is raised after work is saved
    """The program ends before its work is complete; what is done so far is saved.

    Attributes:
        status: Exit status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def replace_unencodable_output() -> None:
    """Let standard output write ``?`` for characters that its encoding does not have."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line for an error that a user can fix.

    These are: a ``ValueError`` raised by birdmix itself, an error of the operating system (full
    disk, missing permission), a torchvision or torchaudio that cannot be imported, an interrupt,
    and an ``OrderlyStop``. Any other error is a bug and keeps its traceback.
    """
    try:
        yield
    except OrderlyStop as stop:
        exit_with_message(str(stop), stop.status)
    except KeyboardInterrupt:
        exit_with_message("interrupted", 128 + signal.SIGINT)
    except Exception as error:
        if package := find_unfit_package(error):
            exit_with_message(f"error: {describe_unfit_package(package, error)}")
        if not is_user_error(error):
            raise
        exit_with_message(f"error: {error}")


@contextmanager
def one_line_interrupts(state: Callable[[], str]) -> Iterator[None]:
    """End the program with one line on Ctrl-C or SIGTERM.

    Args:
        state: Returns what is saved and how to continue, for the message.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    previous_handler = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        exit_with_message(f"interrupted; {state()}", 128 + number)
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def exit_with_message(message: str, status: int = USER_ERROR) -> NoReturn:
    """Print one line to standard error and end the program.

    If there are several processes, the line begins with the number of this one.

    Args:
        message: The line.
        status: Exit status.

    Raises:
        SystemExit: Always.
    """
    has_several_processes = (
        int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1
    )
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    print(f"process {rank}: {message}" if has_several_processes else message, file=sys.stderr)
    raise SystemExit(status)


def is_user_error(error: BaseException) -> bool:
    """Return whether a user can fix an error: birdmix or the operating system raised it.

    A ``ValueError`` raised inside a library is a bug of birdmix.
    """
    if not isinstance(error, ValueError):
        return isinstance(error, OSError)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE)

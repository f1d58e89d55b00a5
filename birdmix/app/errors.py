"""Errors a user can mend end in one line; bugs keep their traceback."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from birdmix.training.stops import Stopped

#: What a user can mend ends with this status.
USER_ERROR = 2

_PACKAGE = Path(__file__).parent.parent


def replace_what_output_lacks() -> None:
    """Write ``?`` for characters that the encoding of standard output lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one clear line for what a user can mend.

    That is a ``ValueError`` that birdmix itself raised, what the operating system refuses (a full
    disk, a folder without permission), and an end that was asked for. Any other error is a bug and
    keeps its traceback.
    """
    try:
        yield
    except Stopped as stopped:
        end(str(stopped), stopped.status)
    except (ValueError, OSError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            end("interrupted", 128 + signal.SIGINT)
        if not is_for_users(error):
            raise
        end(f"error: {error}")


@contextmanager
def interrupted_in_a_line(told: Callable[[], str]) -> Iterator[None]:
    """End by Ctrl-C or SIGTERM in one line, which says what stands and how to go on."""

    def ended(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        end(f"interrupted; {told()}", 128 + number)
    finally:
        signal.signal(signal.SIGTERM, before)


def end(message: str, status: int = USER_ERROR) -> NoReturn:
    """Print one line, end the program, and say which process it was if there are several."""
    several = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    print(f"process {rank}: {message}" if several else message, file=sys.stderr)
    raise SystemExit(status)


def is_for_users(error: BaseException) -> bool:
    """Tell whether a user can mend it: the system refused, or a line of birdmix said what is wrong.

    A ``ValueError`` that a line of a library raised is a bug of ours.
    """
    if not isinstance(error, ValueError):
        return isinstance(error, OSError)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE)

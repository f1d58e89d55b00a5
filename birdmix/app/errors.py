"""Errors a user can mend end in one line; bugs keep their traceback."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: What a user can mend ends with this status.
USER_ERROR = 2

_PACKAGE = Path(__file__).parent.parent


@contextmanager
def one_line_errors(on_error: Callable[[], None] | None = None) -> Iterator[None]:
    """End the program with one clear line for what a user can mend.

    That is a ``ValueError`` that birdmix itself raised, and what the operating system refuses
    (a full disk, a folder without permission). Any other error is a bug and keeps its traceback.

    Args:
        on_error: Called before the program ends.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if on_error is not None:
            on_error()
        if isinstance(error, ValueError) and not _ours(error):
            raise
        end(str(error))


def end(message: str) -> None:
    """Print one line and end the program."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(USER_ERROR)


def _ours(error: BaseException) -> bool:
    """Tell whether a line of birdmix raised it, not one of a library."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE)

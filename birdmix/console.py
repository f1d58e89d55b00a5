"""Console output: lines, warnings, tables, and progress bars (on a terminal only)."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from birdmix.files import replace_surrogates

console = Console(highlight=False)

# Seconds between printed lines of progress if there is no terminal.
_LINE_INTERVAL = 60


def log_line(text: str) -> None:
    """Print one line."""
    console.print(replace_surrogates(text), soft_wrap=True, markup=False)


def warn(message: str) -> None:
    """Print a warning as one line."""
    console.print(
        f"warning: {replace_surrogates(message)}", style="yellow", soft_wrap=True, markup=False
    )


def log_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, given the names of its columns."""
    table = Table(*columns, show_lines=False)
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


@contextmanager
def silence_unless(enabled: bool) -> Iterator[None]:
    """Print nothing inside the block unless this and all enclosing blocks are ``enabled``."""
    was_quiet = console.quiet
    console.quiet = was_quiet or not enabled
    try:
        yield
    finally:
        console.quiet = was_quiet


def new_rich_progress() -> Progress:
    """Return a progress bar with description, count, rate, elapsed and remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def open_progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yields a function of (done, total) that updates it."""
    with new_rich_progress() as bar:
        task = bar.add_task(description, total=None, rate="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def open_progress_bar_with_status(
    description: str,
) -> Iterator[Callable[[float, float, str], None]]:
    """Show a progress bar with a status line; yields a function of (done, total, status line).

    Without a terminal, the status line is printed once a minute.
    """
    printed_at = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[status]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(description, total=None, status="")

        def update(done: float, total: float, status: str) -> None:
            nonlocal printed_at
            bar.update(task, completed=done, total=total, status=status)
            if not console.is_terminal and time.monotonic() - printed_at > _LINE_INTERVAL:
                printed_at = time.monotonic()
                log_line(f"{description}: {status}")

        yield update


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print birdmix's warnings as one line each, without file name and line of the code."""
    original = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], filename: str, *rest: object) -> None:
        if category is UserWarning and "birdmix" in filename:
            warn(str(message))
        else:
            original(message, category, filename, *rest)  # type: ignore[arg-type]

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = original

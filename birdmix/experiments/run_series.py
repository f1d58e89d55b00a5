"""Series of runs in one process, such as those of a search or of a comparison."""

import fcntl
import gc
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from birdmix.config.run_config_file import CONFIG
from birdmix.config.schema import Config
from birdmix.console import silence_unless
from birdmix.duration import parse_duration
from birdmix.experiments.run import MakeHook, run
from birdmix.training.stop_requests import EXIT_TIME_LIMIT
from birdmix.user_errors import exit_with_message


def check_single_process(work: str) -> None:
    """Refuse several processes.

    Args:
        work: What runs in one process, such as ``a search``.

    Raises:
        ValueError: If this is one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"{work} runs in one process; start it without torchrun")


@contextmanager
def lock_folder(folder: Path, work: str) -> Iterator[None]:
    """Lock a folder, so that the same work is not done twice; the lock ends with the process.

    Args:
        folder: The folder; it is made if it is missing.
        work: What works in it, such as ``search``.

    Raises:
        ValueError: If another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder}: another {work} is running in this folder") from error
        yield


def end_of_time_limit(max_time: str | None) -> float:
    """Return the time, by ``time.monotonic``, at which a time limit from now on ends."""
    return math.inf if max_time is None else time.monotonic() + parse_duration(max_time)


def run_or_resume(
    config: Config, directory: Path, ends_at: float, work: str, make_hook: MakeHook | None = None
) -> dict[str, float]:
    """Run a training without console output, or resume it if its directory holds a run.

    Args:
        config: Settings of the run; changed in place.
        directory: Run directory.
        ends_at: Time limit of the whole series, by ``time.monotonic``.
        work: The series, for messages, such as ``search``.
        make_hook: See ``run``.

    Returns:
        The final metrics.

    Raises:
        SystemExit: If the time limit was reached before the run.
        RunStopped: If a stop was requested during the run, which is saved.
        ValueError: As ``run``.
    """
    config.run_dir = str(directory)
    if (directory / CONFIG).is_file():
        config.resume = str(directory)
    if ends_at < math.inf:
        now = time.monotonic()
        if now >= ends_at:
            text = f"time limit of the {work} reached; the same command continues it"
            exit_with_message(text, EXIT_TIME_LIMIT)
        config.trainer.max_time = f"{math.ceil(ends_at - now)}s"
    try:
        with silence_unless(False):
            return run(config, directory, make_hook)
    finally:
        gc.collect()  # reference cycles of loaders, optimizers and models
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

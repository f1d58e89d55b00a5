"""Sweeps, ``birdmix train -m``: several runs, of which failed ones do not end the others."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from birdmix.messages import first_few
from birdmix.training.stop_requests import RunStopped
from birdmix.user_errors import exit_with_message, is_user_error, one_line_errors


@contextmanager
def record_and_continue_on_error(directory: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Write ``failed.json`` if a run of a sweep fails, and continue with the next run.

    An error that a user can fix is printed in one line. A bug is raised again: Hydra prints its
    traceback after the last run. A stop request ends all runs.

    Args:
        directory: Run directory.
        overrides: Overrides of the run.
    """
    from birdmix.experiments.run_table import write_failure

    try:
        yield
    except RunStopped:
        raise
    except Exception as error:
        with suppress(ValueError):  # the directory has another file of that name
            write_failure(directory, error, overrides)
        if not is_user_error(error):
            raise
        print(
            f"error: run {directory.name}: {error}; continuing with the next run", file=sys.stderr
        )


class SweepSummary(Callback):
    """Hydra callback: writes ``summary.csv`` after each run, and prints it after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the program if the folder has a ``summary.csv`` that birdmix did not write."""
        if _is_first_process():
            from birdmix.experiments.run_table import run_table_output_files

            with one_line_errors():
                run_table_output_files(_summary_file(config)).check()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the table of the runs that have ended."""
        if config.hydra.mode == RunMode.MULTIRUN and _is_first_process():
            from birdmix.experiments.run_table import read_run_table

            file = _summary_file(config)
            read_run_table([file.parent]).write_csv(file)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; exit with status 2 if a run failed."""
        from birdmix.experiments.run_table import read_run_table

        if not _is_first_process():
            return
        file = _summary_file(config)
        folder = file.parent
        table = read_run_table([folder])
        table.log()
        print(f"wrote {file}; print it again: birdmix summary {folder}")
        failed = [row.directory.name for row in table.rows if not row.is_done]
        if failed:
            names = first_few(failed, 9, file.name)
            exit_with_message(f"{len(failed)} of {len(table.rows)} runs failed: {names}")


def _summary_file(config: DictConfig) -> Path:
    return Path(config.hydra.sweep.dir) / "summary.csv"


def _is_first_process() -> bool:
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"

"""Runs of one command line, ``python train.py -m``: one that fails ends itself, not the others."""

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

from birdmix.app.errors import end, is_for_users, one_line_errors
from birdmix.suggest import first_few
from birdmix.training.stops import Stopped


@contextmanager
def one_of_many(directory: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Keep why a run failed in its directory, and go on to the next one.

    What a user can mend is told in one line here; a bug goes on to Hydra, which shows its traceback
    after the last run. An end that was asked for ends all of them.

    Args:
        directory: Of the run.
        overrides: What makes it differ.
    """
    from birdmix.app.summary import note_failure

    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        with suppress(ValueError):  # of a directory that holds somebody else's file of that name
            note_failure(directory, error, overrides)
        if not is_for_users(error):
            raise
        print(f"error: run {directory.name}: {error}; on to the next run", file=sys.stderr)


class SweepSummary(Callback):
    """Writes ``summary.csv`` beside the runs after each of them, and prints it after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder whose ``summary.csv`` birdmix did not write."""
        if _is_first():
            from birdmix.app.summary import summary_file

            with one_line_errors():
                summary_file(_table_of(config)).check()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the table of the runs so far."""
        if config.hydra.mode == RunMode.MULTIRUN and _is_first():
            from birdmix.app.summary import summarise

            file = _table_of(config)
            summarise([file.parent]).write(file)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; end with the status of an error if a run failed."""
        from birdmix.app.summary import summarise

        if not _is_first():
            return
        file = _table_of(config)
        folder = file.parent
        summary = summarise([folder])
        summary.tell()
        print(f"wrote {file}; again at any time: birdmix summary {folder}")
        failed = [row.directory.name for row in summary.rows if not row.is_done]
        if failed:
            some = first_few(failed, 9, file.name)
            end(f"{len(failed)} of {len(summary.rows)} runs failed: {some}")


def _table_of(config: DictConfig) -> Path:
    return Path(config.hydra.sweep.dir) / "summary.csv"


def _is_first() -> bool:
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"

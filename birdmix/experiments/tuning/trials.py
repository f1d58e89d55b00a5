"""Trials of a search: one run directory each, with its state in ``trial.json``.

These files are the whole state of a search. They are written atomically, so a kill leaves none
incomplete.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from birdmix.experiments.table_escaping import escape_table_formulas
from birdmix.files import atomic_path, write_text
from birdmix.json_data import parse_dataclass, read_json
from birdmix.training.metrics_log import METRICS_FILE
from birdmix.training.monitor import lower_is_better

#: File of the table of trials.
TRIALS = "trials.csv"

_TRIAL_FILE = "trial.json"


@dataclass(frozen=True)
class Trial:
    """A point of the search space, and its result.

    Attributes:
        number: Number of the trial, from 0.
        params: Value of each setting in the search space.
        state: running, complete, pruned or failed.
        metric: Name of the monitored metric.
        value: Its final value, or the last one of a pruned run.
        seconds: Duration of the run, in seconds since it was last started.
        error: Why it failed; empty otherwise.
    """

    number: int
    params: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    metric: str = ""
    value: float | None = None
    seconds: float = 0.0
    error: str = ""

    def run_directory_in(self, folder: Path) -> Path:
        """Return the run directory of the trial.

        Args:
            folder: Folder of the search.
        """
        return folder / f"trial-{self.number:03d}"

    @property
    def has_ended(self) -> bool:
        """Whether the trial is complete, pruned or failed."""
        return self.state != "running"

    def write(self, folder: Path) -> None:
        """Write ``trial.json`` to the run directory; replaces a former one."""
        write_text(
            self.run_directory_in(folder) / _TRIAL_FILE,
            json.dumps(asdict(self), indent=2) + "\n",
            is_ours=True,
        )

    def metric_by_epoch(self, folder: Path) -> dict[int, float]:
        """Return the monitored metric by epoch, from 1, without epochs in which it is NaN."""
        table = pd.read_csv(self.run_directory_in(folder) / METRICS_FILE).dropna(subset=self.metric)
        return dict(zip(table["epoch"].astype(int), table[self.metric], strict=True))


def read_trials(folder: Path) -> list[Trial]:
    """Read the trials of a search, ordered by number.

    Raises:
        ValueError: If the file of a trial is damaged.
    """
    trials = [_read_trial(file) for file in sorted(folder.glob(f"trial-*/{_TRIAL_FILE}"))]
    return sorted(trials, key=lambda trial: trial.number)


def _read_trial(file: Path) -> Trial:
    try:
        return parse_dataclass(Trial, read_json(file), finite=False)  # a metric may be NaN
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}; remove the folder of this trial") from error


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the best value; the earliest if several are equal."""
    complete = [trial for trial in trials if trial.state == "complete"]
    sign = {trial.number: 1 if lower_is_better(trial.metric) else -1 for trial in complete}
    return min(complete, key=lambda trial: sign[trial.number] * _final_value(trial), default=None)


def _final_value(trial: Trial) -> float:
    assert trial.value is not None  # complete trials have a value
    return trial.value


def write_trials_table(folder: Path, trials: Sequence[Trial]) -> None:
    """Write ``trials.csv``, a row per trial."""
    rows = [
        {"trial": trial.number, "state": trial.state, "value": trial.value, "metric": trial.metric}
        | trial.params
        | {
            "seconds": round(trial.seconds, 1),
            "error": trial.error,
            "run": str(trial.run_directory_in(folder)),
        }
        for trial in trials
    ]
    with atomic_path(folder / TRIALS) as partial:
        escape_table_formulas(pd.DataFrame(rows)).to_csv(partial, index=False)

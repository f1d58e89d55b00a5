"""The trials of a search: a run directory each, with a ``trial.json`` that says how it stands.

These files are all that a search knows; whatever kills it, each of them is whole.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from birdmix.app.tables import harmless_table
from birdmix.files import atomic_path, write_text
from birdmix.json_data import build, read_json
from birdmix.training.log import METRICS
from birdmix.training.monitor import lower_is_better

#: The table of a search.
TRIALS = "trials.csv"

_TRIAL = "trial.json"


@dataclass(frozen=True)
class Trial:
    """A point of the space, and what became of it.

    Attributes:
        number: From 0.
        params: Value of each setting of the space.
        state: running, complete, pruned or failed.
        figure: The monitored figure.
        value: Of that figure: the run's final one, or a pruned run's last one.
        seconds: That the run took since it was last started.
        error: Why it failed.
    """

    number: int
    params: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    figure: str = ""
    value: float | None = None
    seconds: float = 0.0
    error: str = ""

    def directory(self, folder: Path) -> Path:
        """Return the run's directory."""
        return folder / f"trial-{self.number:03d}"

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state != "running"

    def write(self, folder: Path) -> None:
        """Write it to its directory, whole or not at all; what stands there was read before."""
        write_text(
            self.directory(folder) / _TRIAL, json.dumps(asdict(self), indent=2) + "\n", is_ours=True
        )

    def values(self, folder: Path) -> dict[int, float]:
        """Return its figure after each epoch, from 1, where it was defined."""
        table = pd.read_csv(self.directory(folder) / METRICS).dropna(subset=self.figure)
        return dict(zip(table["epoch"].astype(int), table[self.figure], strict=True))


def read_trials(folder: Path) -> list[Trial]:
    """Return the trials of a search, in order.

    Raises:
        ValueError: If one of them is damaged.
    """
    trials = [_trial(file) for file in sorted(folder.glob(f"trial-*/{_TRIAL}"))]
    return sorted(trials, key=lambda trial: trial.number)


def _trial(file: Path) -> Trial:
    try:
        return build(Trial, read_json(file), finite=False)  # a figure may be undefined
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}; remove the folder of this trial") from error


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the best value; the earlier one of equals."""
    complete = [trial for trial in trials if trial.state == "complete"]
    sign = {trial.number: 1 if lower_is_better(trial.figure) else -1 for trial in complete}
    return min(complete, key=lambda trial: sign[trial.number] * _number(trial), default=None)


def _number(trial: Trial) -> float:
    assert trial.value is not None  # it is complete
    return trial.value


def write_table(folder: Path, trials: Sequence[Trial]) -> None:
    """Write ``trials.csv``, a row per trial, whole or not at all."""
    rows = [
        {"trial": trial.number, "state": trial.state, "value": trial.value, "figure": trial.figure}
        | trial.params
        | {
            "seconds": round(trial.seconds, 1),
            "error": trial.error,
            "run": str(trial.directory(folder)),
        }
        for trial in trials
    ]
    with atomic_path(folder / TRIALS) as partial:
        harmless_table(pd.DataFrame(rows)).to_csv(partial, index=False)

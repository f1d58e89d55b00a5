"""A table of runs: what differs between them, their figures, and averages over folds and seeds."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from birdmix.app.configure import CONFIG, read_config
from birdmix.app.console import say
from birdmix.app.out_of_fold import OUT_OF_FOLD
from birdmix.app.overrides import unquoted
from birdmix.app.resume import flat, is_harmless
from birdmix.app.schema import Config
from birdmix.app.tables import harmless_table
from birdmix.files import atomic_path, write_text
from birdmix.json_data import check_keys, checked, read_json
from birdmix.ownership import OutputFiles
from birdmix.suggest import first_few, first_line
from birdmix.training.log import FINAL

#: Why a run of a sweep came to nothing, beside what it was asked to be.
FAILED = "failed.json"

#: What figures are averaged over.
_REPEATED = ("data.fold", "seed")

#: Harmless to go on with, but not to average over: they choose the recordings, or the epoch.
_TELLING = ("data.root", "data.table", "data.exclude", "checkpoint")

# Ends of the names of the figures that are printed, of runs and of averages; files hold them all.
_PRINTED = ("macro_roc_auc", "top1_accuracy")
_PRINTED_MEANS = ("roc_auc", "cmap", "precision", "f1", "accuracy", "error", "loss")


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        directory: Of the run.
        state: done, failed, unfinished, or unreadable: its settings are of another birdmix.
        error: Why it failed, or cannot be read.
        settings: Value of each setting that makes the run what it is, as text.
        figures: As ``metrics.json`` holds them.
    """

    directory: Path
    state: str
    error: str
    settings: dict[str, str]
    figures: dict[str, float]

    @property
    def is_done(self) -> bool:
        """Whether the run has its final figures."""
        return self.state == "done"


@dataclass(frozen=True)
class Summary:
    """Runs side by side.

    Attributes:
        rows: The runs.
        differing: Keys of the settings that are not the same in all of them.
    """

    rows: Sequence[Row]
    differing: Sequence[str]

    def table(self) -> pd.DataFrame:
        """Return a row per run: its directory, state, error, differing settings, and figures."""
        return pd.DataFrame(
            {"run": str(row.directory), "state": row.state, "error": row.error}
            | {key: row.settings.get(key, "") for key in self.differing}
            | row.figures
            for row in self.rows
        )

    def averages(self) -> pd.DataFrame:
        """Return mean and deviation of each figure over runs that differ by fold or seed.

        A figure is made within each run and then averaged; predictions are never pooled.

        Returns:
            A row for each of the other settings' values, with the number of its ``runs``; for each
            figure its mean, and as ``FIGURE_deviation`` the standard deviation (n - 1 below), NaN
            where there is one run only.
        """
        table = self.table()[[row.is_done for row in self.rows]]
        others = [key for key in self.differing if key not in _REPEATED]
        figures = [name for name in table if name in self._figures()]
        means = []
        for values, group in table.groupby(others, sort=False) if others else [((), table)]:
            line = dict(zip(others, values, strict=True)) | {"runs": len(group)}
            for name in figures:
                line |= {name: group[name].mean(), f"{name}_deviation": group[name].std(ddof=1)}
            means.append(line)
        return pd.DataFrame(means)

    def write(self, file: Path) -> None:
        """Write the table of runs, whole or not at all.

        Raises:
            ValueError: If birdmix did not write what stands there.
        """
        summary_file(file).claim()
        with atomic_path(file) as partial:
            harmless_table(self.table()).to_csv(partial, index=False)

    def tell(self) -> None:
        """Print the table and the averages."""
        names = self._figures()
        printed = [name for name in names if name.endswith(_PRINTED)]
        say(_text(self.table()[["run", "state", *self.differing, *printed]]))
        for row in self.rows:
            if row.error:
                say(f"{row.directory}: {row.error}")
        if sum(row.is_done for row in self.rows) > 1 and set(self.differing) & set(_REPEATED):
            say("\nmean ± deviation over folds and seeds, each run judged on its own:")
            say(self._averages_as_text([name for name in names if name.endswith(_PRINTED_MEANS)]))
        num_files = sum((row.directory / OUT_OF_FOLD).is_file() for row in self.rows)
        if num_files:
            say(f"held-out predictions: {OUT_OF_FOLD} in {num_files} of these directories")

    def _averages_as_text(self, figures: Sequence[str]) -> str:
        """Return a line for each figure, and a column for each of the other settings' values."""
        others = [key for key in self.differing if key not in _REPEATED]
        columns = {}
        for _, line in self.averages().iterrows():
            head = (*(f"{key}={line[key]}" for key in others), f"{int(line['runs'])} runs")
            columns[head] = {
                name: f"{line[name]:.4f} ± {line[f'{name}_deviation']:.4f}" for name in figures
            }
        table = pd.DataFrame(columns.values()).T
        table.columns = pd.MultiIndex.from_tuples(columns)
        return table.to_string()

    def _figures(self) -> list[str]:
        names = dict.fromkeys(name for row in self.rows for name in row.figures)
        return [name for name in names if name not in ("epoch", "step")]


def summary_file(file: Path) -> OutputFiles:
    """Return a table of runs as a file to be written."""
    return OutputFiles(file.parent, (file.name,), remedy="name another file")


def summarise(folders: Sequence[Path]) -> Summary:
    """Read every run at or below some folders.

    Raises:
        ValueError: If there is none.
    """
    rows = [_read(each) for folder in folders for each in _run_directories(Path(folder))]
    if not rows:
        places = first_few([str(folder) for folder in folders], 5)
        raise ValueError(f"{places}: no run here; name run directories, or folders that hold some")
    known = [row.settings for row in rows if (row.directory / CONFIG).is_file()]
    every = [row.settings for row in rows]
    keys = dict.fromkeys(key for settings in known or every for key in settings)
    # Of a run that failed at once there are but overrides, which write values in ways of their own.
    return Summary(
        rows, [k for k in keys if _differ(k, every if k in _REPEATED or not known else known)]
    )


def _differ(key: str, settings: Sequence[dict[str, str]]) -> bool:
    return len({each[key] for each in settings if key in each}) > 1


def note_failure(directory: Path, error: Exception, overrides: Sequence[str]) -> None:
    """Leave in a run's directory why it failed, and what it was asked to be."""
    pairs = (each.lstrip("+").partition("=") for each in overrides)
    asked = {key: unquoted(value) for key, _, value in pairs}
    text = json.dumps({"error": first_line(error), "overrides": asked}, indent=2)
    OutputFiles(directory, (FAILED,), allows=_is_note).claim()
    write_text(directory / FAILED, text + "\n")


def _is_note(file: Path) -> bool:
    """Return whether a file is a note of a failure; those of before stand in no list."""
    try:
        return set(json.loads(file.read_text(encoding="utf-8"))) == {"error", "overrides"}
    except (OSError, ValueError, TypeError):
        return False


def _run_directories(folder: Path) -> Iterator[Path]:
    """Yield the runs at or below a folder, in the order of their numbers."""
    if (folder / CONFIG).is_file() or (folder / FAILED).is_file():
        yield folder
    elif folder.is_dir():
        inner = [each for each in folder.iterdir() if each.is_dir() and each.name[0] != "."]
        for each in sorted(inner, key=_by_number):
            yield from _run_directories(each)


def _by_number(folder: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", folder.name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _read(directory: Path) -> Row:
    state, error, settings, figures = "unfinished", "", {}, {}
    try:
        if (directory / FAILED).is_file():
            failure = _json(directory / FAILED)
            check_keys(failure, None, ("error", "overrides"), FAILED)
            state, error = "failed", checked(str, failure["error"], f"{FAILED}: error")
            settings = checked(dict[str, str], failure["overrides"], f"{FAILED}: overrides")
        if (directory / FINAL).is_file():
            final = _json(directory / FINAL)
            figures = checked(dict[str, float | None], final, FINAL, finite=False)
            state, error = "done", ""
        if (directory / CONFIG).is_file():
            settings = _telling(read_config(directory))
    except ValueError as unreadable:  # of another birdmix, perhaps
        state, error, figures = "unreadable", first_line(unreadable), {}
    return Row(directory, state, error, settings, figures)


def _json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is damaged, with its name.
    """
    try:
        return read_json(file)
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}") from error


def _telling(config: Config) -> dict[str, str]:
    """Return the settings that make a run what it is."""
    return {
        key: str(value)
        for key, value in flat(config)
        if not is_harmless(key) or any(f"{key}.".startswith(f"{each}.") for each in _TELLING)
    }


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, na_rep="", float_format="{:.4f}".format)

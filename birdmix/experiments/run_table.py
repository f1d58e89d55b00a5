"""Table of runs: settings that differ, metrics, and means over folds and seeds."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from birdmix.config.overrides import remove_quotes
from birdmix.config.resume_policy import flatten_settings, is_result_neutral
from birdmix.config.run_config_file import CONFIG, read_config
from birdmix.config.schema import Config
from birdmix.console import log_line
from birdmix.experiments.table_escaping import escape_table_formulas
from birdmix.files import atomic_path, write_text
from birdmix.json_data import check_keys, convert_json_value, read_json
from birdmix.messages import first_few, first_line
from birdmix.ownership import OutputFiles
from birdmix.training.metrics_log import FINAL_METRICS_FILE
from birdmix.training.out_of_fold import OUT_OF_FOLD

#: File of a failed run of a sweep: its error and its overrides.
FAILED = "failed.json"

# Settings over which metrics are averaged.
_AVERAGED_OVER = ("data.fold", "seed")

# Settings that may change on resume but distinguish runs: they choose the recordings or the epoch.
_DISTINGUISHING = ("data.root", "data.table", "data.exclude", "checkpoint")

# Suffixes of the metrics that are printed, of runs and of means; files have all metrics.
_PRINTED = ("macro_roc_auc", "top1_accuracy")
_PRINTED_MEANS = ("roc_auc", "cmap", "precision", "f1", "accuracy", "error", "loss")


@dataclass(frozen=True)
class RunRow:
    """One run of the table.

    Attributes:
        directory: Run directory.
        state: done, failed, unfinished, or unreadable (damaged, or written by another version).
        error: Why it failed or cannot be read; empty otherwise.
        settings: Value of each setting that can change a result, as text.
        metrics: Final metrics, as in ``metrics.json``.
    """

    directory: Path
    state: str
    error: str
    settings: dict[str, str]
    metrics: dict[str, float]

    @property
    def is_done(self) -> bool:
        """Whether the run has its final metrics."""
        return self.state == "done"


@dataclass(frozen=True)
class RunTable:
    """Several runs in one table.

    Attributes:
        rows: The runs.
        differing: Keys of the settings that differ between them.
    """

    rows: Sequence[RunRow]
    differing: Sequence[str]

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per run: its directory, state, error, differing settings, and metrics."""
        return pd.DataFrame(
            {"run": str(row.directory), "state": row.state, "error": row.error}
            | {key: row.settings.get(key, "") for key in self.differing}
            | row.metrics
            for row in self.rows
        )

    def means_over_folds_and_seeds(self) -> pd.DataFrame:
        """Return mean and standard deviation of each metric over runs that differ by fold or seed.

        A metric is computed within each run and then averaged; predictions are never pooled.

        Returns:
            One row per combination of the other settings, with the number of its ``runs``; for
            each metric its mean, and as ``METRIC_deviation`` the standard deviation (divisor
            n - 1), NaN if there is only one run.
        """
        table = self.to_dataframe()[[row.is_done for row in self.rows]]
        others = [key for key in self.differing if key not in _AVERAGED_OVER]
        metrics = [name for name in table if name in self._metrics()]
        means = []
        for values, group in table.groupby(others, sort=False) if others else [((), table)]:
            line = dict(zip(others, values, strict=True)) | {"runs": len(group)}
            for name in metrics:
                line |= {name: group[name].mean(), f"{name}_deviation": group[name].std(ddof=1)}
            means.append(line)
        return pd.DataFrame(means)

    def write_csv(self, file: Path) -> None:
        """Write the table of runs to a CSV file, completely or not at all.

        Raises:
            ValueError: If the file exists and birdmix did not write it.
        """
        run_table_output_files(file).register()
        with atomic_path(file) as partial:
            escape_table_formulas(self.to_dataframe()).to_csv(partial, index=False)

    def log(self) -> None:
        """Print the table and the means."""
        names = self._metrics()
        printed = [name for name in names if name.endswith(_PRINTED)]
        log_line(_format_table(self.to_dataframe()[["run", "state", *self.differing, *printed]]))
        for row in self.rows:
            if row.error:
                log_line(f"{row.directory}: {row.error}")
        if sum(row.is_done for row in self.rows) > 1 and set(self.differing) & set(_AVERAGED_OVER):
            log_line("\nmean ± deviation over folds and seeds, each run evaluated on its own:")
            log_line(self._means_as_text([name for name in names if name.endswith(_PRINTED_MEANS)]))
        num_files = sum((row.directory / OUT_OF_FOLD).is_file() for row in self.rows)
        if num_files:
            log_line(f"held-out predictions: {OUT_OF_FOLD} in {num_files} of these directories")

    def _means_as_text(self, metrics: Sequence[str]) -> str:
        """Return a line per metric, and a column per combination of the other settings."""
        others = [key for key in self.differing if key not in _AVERAGED_OVER]
        columns = {}
        for _, line in self.means_over_folds_and_seeds().iterrows():
            head = (*(f"{key}={line[key]}" for key in others), f"{int(line['runs'])} runs")
            columns[head] = {
                name: f"{line[name]:.4f} ± {line[f'{name}_deviation']:.4f}" for name in metrics
            }
        table = pd.DataFrame(columns.values()).T
        table.columns = pd.MultiIndex.from_tuples(columns)
        return table.to_string()

    def _metrics(self) -> list[str]:
        names = dict.fromkeys(name for row in self.rows for name in row.metrics)
        return [name for name in names if name not in ("epoch", "step")]


def run_table_output_files(file: Path) -> OutputFiles:
    """Return the CSV file of a table of runs as an output file."""
    return OutputFiles(file.parent, (file.name,), remedy="name another file")


def read_run_table(folders: Sequence[Path]) -> RunTable:
    """Read every run at or below some folders.

    Raises:
        ValueError: If there is no run.
    """
    rows = [_read_run(run) for folder in folders for run in _run_directories(Path(folder))]
    if not rows:
        places = first_few([str(folder) for folder in folders], 5)
        raise ValueError(
            f"{places}: no run here; name run directories, or folders that contain some"
        )
    configs = [row.settings for row in rows if (row.directory / CONFIG).is_file()]
    all_settings = [row.settings for row in rows]
    keys = dict.fromkeys(key for settings in configs or all_settings for key in settings)
    # A run that failed early has only overrides, which may write the same value in another form.
    differing = [
        key
        for key in keys
        if _differs(key, all_settings if key in _AVERAGED_OVER or not configs else configs)
    ]
    return RunTable(rows, differing)


def _differs(key: str, settings: Sequence[dict[str, str]]) -> bool:
    """Return whether runs that have a setting differ in it."""
    return len({each[key] for each in settings if key in each}) > 1


def write_failure(directory: Path, error: Exception, overrides: Sequence[str]) -> None:
    """Write ``failed.json`` to a run's directory: the error and the overrides.

    Args:
        directory: Run directory.
        error: Why the run failed.
        overrides: Overrides of the run, ``key=value`` each.

    Raises:
        ValueError: If the directory has a ``failed.json`` that birdmix did not write.
    """
    pairs = (each.lstrip("+").partition("=") for each in overrides)
    values = {key: remove_quotes(value) for key, _, value in pairs}
    text = json.dumps({"error": first_line(error), "overrides": values}, indent=2)
    OutputFiles(directory, (FAILED,), may_replace=_is_failure).register()
    write_text(directory / FAILED, text + "\n")


def _is_failure(file: Path) -> bool:
    """Return whether birdmix wrote a ``failed.json``; older versions kept no list of files."""
    try:
        return set(json.loads(file.read_text(encoding="utf-8"))) == {"error", "overrides"}
    except (OSError, ValueError, TypeError):
        return False


def _run_directories(folder: Path) -> Iterator[Path]:
    """Yield the run directories at or below a folder, ordered by the numbers in their names."""
    if (folder / CONFIG).is_file() or (folder / FAILED).is_file():
        yield folder
    elif folder.is_dir():
        inner = [each for each in folder.iterdir() if each.is_dir() and each.name[0] != "."]
        for each in sorted(inner, key=_number_key):
            yield from _run_directories(each)


def _number_key(folder: Path) -> list[tuple[int, str]]:
    """Return a sort key of a folder's name that compares numbers by value."""
    parts = re.split(r"(\d+)", folder.name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _read_run(directory: Path) -> RunRow:
    """Read state, settings and metrics of a run; an error of a file is part of the row."""
    state, error, settings, metrics = "unfinished", "", {}, {}
    try:
        if (directory / FAILED).is_file():
            failure = _read_json_file(directory / FAILED)
            check_keys(failure, None, ("error", "overrides"), FAILED)
            state, error = "failed", convert_json_value(str, failure["error"], f"{FAILED}: error")
            settings = convert_json_value(
                dict[str, str], failure["overrides"], f"{FAILED}: overrides"
            )
        if (directory / FINAL_METRICS_FILE).is_file():
            final = _read_json_file(directory / FINAL_METRICS_FILE)
            metrics = convert_json_value(
                dict[str, float | None], final, FINAL_METRICS_FILE, finite=False
            )
            state, error = "done", ""
        if (directory / CONFIG).is_file():
            settings = _result_settings(read_config(directory))
    except ValueError as unreadable:  # damaged, or of another version of birdmix
        state, error, metrics = "unreadable", first_line(unreadable), {}
    return RunRow(directory, state, error, settings, metrics)


def _read_json_file(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is damaged; the message names it.
    """
    try:
        return read_json(file)
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}") from error


def _result_settings(config: Config) -> dict[str, str]:
    """Return the settings that can change a result, as text."""
    return {
        key: str(value)
        for key, value in flatten_settings(config)
        if not is_result_neutral(key)
        or any(f"{key}.".startswith(f"{each}.") for each in _DISTINGUISHING)
    }


def _format_table(table: pd.DataFrame) -> str:
    """Return a table as text for the console."""
    return table.to_string(index=False, na_rep="", float_format="{:.4f}".format)

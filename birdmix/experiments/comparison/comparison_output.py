"""Output of a comparison: tables, forest plot, page and console lines.

Files of the folder:

comparison.csv   a row per test set, stratum, metric and arm: value, difference, interval, p-values
screening.csv    the same of the screening, if there is one
runs.csv         a row per run: state, seconds of a step, memory, metrics
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from birdmix.console import log_line, log_table
from birdmix.experiments.comparison.comparison_file import Comparison, describe_comparison
from birdmix.experiments.comparison.paired_scores import ALL
from birdmix.experiments.comparison.planned_runs import Phase
from birdmix.experiments.comparison.run_costs import peak_memory_gib, seconds_per_step
from birdmix.experiments.run_table import FAILED
from birdmix.experiments.table_escaping import escape_table_formulas
from birdmix.files import atomic_path
from birdmix.json_data import read_json
from birdmix.ownership import OutputFiles
from birdmix.report.comparison_page import (
    ComparisonReport,
    RunRow,
    ScreeningRow,
    write_comparison_page,
)
from birdmix.report.comparison_row import ComparisonRow
from birdmix.report.forest_plot import draw_forest_plot
from birdmix.training.metrics_log import FINAL_METRICS_FILE

COMPARISON_TABLE, SCREENING_TABLE, RUNS_TABLE = "comparison.csv", "screening.csv", "runs.csv"
FOREST_PLOT, PAGE = "forest_plot.png", "comparison.html"


# How intervals are computed, in the words of the console; the page explains them.
_METHODS = {
    "student": "Student's, of the differences within replicates",
    "bootstrap": "bootstrap over groups, as folds are not independent",
    "jackknife": "jackknife over groups for mixtures",
}


@dataclass(frozen=True)
class PhaseResults:
    """Results of a phase so far.

    Attributes:
        phase: The phase.
        seeds: Its seeds that are done.
        rows: Values and differences of the arms.
        steps: Number of optimizer steps by arm.
    """

    phase: Phase
    seeds: Sequence[int]
    rows: Sequence[ComparisonRow]
    steps: Mapping[str, int]


@dataclass
class ComparisonResults:
    """What a comparison has found so far.

    Attributes:
        comparison: The comparison.
        file: Its file.
        is_demo: Whether each replicate has a demo of its own.
        screening: Results of the screening; None if there is none yet.
        reported: Results that are reported; None if there are none yet.
    """

    comparison: Comparison
    file: Path
    is_demo: bool
    screening: PhaseResults | None = None
    reported: PhaseResults | None = None


def comparison_output_files(folder: Path) -> OutputFiles:
    """Return the files that a comparison writes to its folder."""
    names = (COMPARISON_TABLE, SCREENING_TABLE, RUNS_TABLE, FOREST_PLOT, PAGE)
    return OutputFiles(folder, names, remedy="name another folder for --out")


def write_comparison(results: ComparisonResults, folder: Path) -> None:
    """Write tables, figure and page of the results so far.

    Args:
        results: The results.
        folder: Folder of the comparison.
    """
    runs = _runs_table(results, folder)
    _write_table(folder / RUNS_TABLE, runs)
    if results.screening is not None:
        _write_table(folder / SCREENING_TABLE, _table_of_rows(results.screening.rows))
    if results.reported is None:
        return
    rows = results.reported.rows
    _write_table(folder / COMPARISON_TABLE, _table_of_rows(rows))
    title = f"Differences to {results.comparison.control}"
    with atomic_path(folder / FOREST_PLOT) as partial:
        draw_forest_plot(partial, [row for row in rows if row.stratum == ALL], title)
    write_comparison_page(folder / PAGE, _build_report(results, results.reported, runs))


def _write_table(file: Path, table: pd.DataFrame) -> None:
    with atomic_path(file) as partial:
        escape_table_formulas(table).to_csv(partial, index=False)


def _table_of_rows(rows: Sequence[ComparisonRow]) -> pd.DataFrame:
    """Return rows as a table; what only the figures need is left out."""
    table = pd.DataFrame([dataclasses.asdict(row) | {"verdict": row.verdict} for row in rows])
    return table.drop(columns=["metric_title", "better", "is_control"])


def _runs_table(results: ComparisonResults, folder: Path) -> pd.DataFrame:
    """Return a table of all runs that were started, in their order."""
    rows = []
    for done in (results.screening, results.reported):
        for run in () if done is None else done.phase.runs():
            if done is None or run.seed not in done.seeds or not run.directory.is_dir():
                continue
            state, error, metrics = _read_state(run.directory)
            costs = {
                "seconds_per_step": seconds_per_step(run.compose(), run.directory),
                "peak_memory_gib": peak_memory_gib(run.directory),
            }
            rows.append(
                {
                    "run": str(run.directory.relative_to(folder)),
                    "phase": done.phase.name,
                    "arm": run.arm,
                    "seed": run.seed,
                    "fold": run.fold,
                    "stage": run.stage,
                    "state": state,
                    "error": error,
                }
                | costs
                | metrics
            )
    return pd.DataFrame(rows)


def _read_state(directory: Path) -> tuple[str, str, dict[str, float]]:
    """Return state, error and final metrics of a run."""
    file = directory / (FAILED if (directory / FAILED).is_file() else FINAL_METRICS_FILE)
    if not file.is_file():
        return "unfinished", "", {}
    try:
        content = read_json(file)
        return ("failed", content["error"], {}) if file.name == FAILED else ("done", "", content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged; remove it, and start the same command") from error


def _build_report(
    results: ComparisonResults, reported: PhaseResults, runs: pd.DataFrame
) -> ComparisonReport:
    """Return what the page shows."""
    first = reported.rows[0]
    return ComparisonReport(
        title=f"Comparison: {results.file.stem}",
        summary=_summary(results, reported),
        rows=reported.rows,
        headline=(first.test_set, first.metric),
        runs=[_run_row(results, run) for _, run in runs.iterrows()],
        comparison_file=_describe_settings(results),
        screening=list(_screening_rows(results.screening, reported)),
        screening_metric=first.metric_title if results.screening else "",
        memory_title="peak memory of the process, MB",
    )


def _describe_settings(results: ComparisonResults) -> str:
    """Return the comparison file, and the overrides of the command line as a comment."""
    text = describe_comparison(results.file)
    given = results.comparison.last_overrides
    lines = "".join(f"#   {override}\n" for override in given)
    return text + (f"# Overrides of the command line:\n{lines}" if given else "")


def _run_row(results: ComparisonResults, run: pd.Series) -> RunRow:
    """Return a run as a row of the page; its value is the run's own first metric, if it has one."""
    fold = "" if pd.isna(run["fold"]) else f", fold {int(run['fold'])}"
    has_stages = len(results.comparison.arms[run["arm"]].stages) > 1
    stage = f", stage {run['stage']}" if has_stages else ""
    suffix = f"_{results.comparison.metrics[0]}"
    named = [n for n in run.index if str(n).endswith(suffix) and pd.notna(run[n])]
    return RunRow(
        arm=run["arm"],
        replicate=f"{run['phase']}, seed {run['seed']}{fold}{stage}",
        state="finished" if run["state"] == "done" else f"{run['state']} {run['error']}".strip(),
        value=float(run[named[-1]]) if named else math.nan,
        seconds_per_step=float(run["seconds_per_step"]),
        peak_megabytes=1024 * float(run["peak_memory_gib"]),
    )


def _screening_rows(
    screening: PhaseResults | None, reported: PhaseResults
) -> Iterator[ScreeningRow]:
    if screening is None:
        return
    first, chosen = screening.rows[0], reported.phase.arm_names
    for row in screening.rows:
        if (row.test_set, row.stratum, row.metric) == (first.test_set, ALL, first.metric):
            yield ScreeningRow(row.arm, row.value, row.num, row.arm in chosen)


def _summary(results: ComparisonResults, reported: PhaseResults) -> list[str]:
    """Return sentences about arms, replicates and steps."""
    comparison, seeds = results.comparison, reported.seeds
    arms = list(dict.fromkeys(row.arm for row in reported.rows))
    kind = "each with data of its own" if results.is_demo else "on the same held-out recordings"
    lines = [
        f"{len(arms)} arms; the control is {comparison.control}. {len(seeds)} of "
        f"{comparison.replicates} replicates, {kind}."
    ]
    if len({reported.steps[arm] for arm in arms}) > 1:
        text = ", ".join(f"{arm} {reported.steps[arm]}" for arm in arms)
        lines.append(f"Arms have different numbers of optimizer steps: {text}.")
    missing = [arm for arm in reported.phase.arm_names if arm not in arms]
    if missing:
        lines.append(f"No replicate succeeded of: {', '.join(missing)}.")
    undefined = {
        f"{row.metric_title} ({row.test_set})"
        for row in reported.rows
        if row.stratum == ALL and row.is_control and math.isnan(row.value)
    }
    if undefined:
        lines.append(f"Not defined for these data: {', '.join(sorted(undefined))}.")
    return lines


def log_comparison(results: ComparisonResults, folder: Path) -> None:
    """Print the results of the first metric in all test sets, and name the files."""
    assert results.reported is not None
    rows, first = results.reported.rows, results.reported.rows[0]
    shown = [row for row in rows if row.stratum == ALL and row.metric == first.metric]
    for test_set in dict.fromkeys(row.test_set for row in shown):
        log_line(f"{first.metric_title}, {test_set}")
        log_table(
            ["arm", "value", "difference", "95 % interval", "p (Holm)", ""],
            [_console_cells(row) for row in shown if row.test_set == test_set],
        )
    for line in _summary(results, results.reported):
        log_line(line)
    methods = ", ".join(sorted({_METHODS[row.method] for row in rows}))
    log_line(f"95 % intervals: {methods}; p-values are corrected for the number of arms (Holm)")
    for name in (COMPARISON_TABLE, RUNS_TABLE, FOREST_PLOT, PAGE):
        log_line(f"wrote {folder / name}")


def _console_cells(row: ComparisonRow) -> list[str]:
    value = "" if math.isnan(row.value) else f"{row.value:.4f}"
    difference = "" if math.isnan(row.difference) else f"{row.difference:+.4f}"
    has_interval = not math.isnan(row.low)
    interval = f"{row.low:+.4f} to {row.high:+.4f}" if has_interval else ""
    p_value = f"{row.p_holm:.3f}" if has_interval else ""
    return [row.arm, value, difference, interval, p_value, row.verdict]

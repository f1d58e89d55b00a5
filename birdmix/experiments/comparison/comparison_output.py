"""Output of a comparison: tables, forest plot, page and console lines.

Files of the folder:

comparison.csv   a row per test set, stratum, metric and arm: value, difference, interval, p-values
screening.csv    the same of the screening, if there is one
runs.csv         a row per run: state, seconds of a step, memory, metrics
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from birdmix.console import log_line, log_table
from birdmix.experiments.comparison.comparison_file import Comparison, describe_comparison
from birdmix.experiments.comparison.paired_scores import ALL
from birdmix.experiments.comparison.planned_runs import REPORTED, SCREENING, Phase
from birdmix.experiments.comparison.run_costs import peak_memory_gib, seconds_per_step
from birdmix.experiments.run_table import FAILED
from birdmix.experiments.table_escaping import escape_table_formulas
from birdmix.files import atomic_path
from birdmix.json_data import read_json
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS
from birdmix.ownership import OutputFiles
from birdmix.report.comparison_page import (
    ComparisonReport,
    RunRow,
    ScreeningRow,
    write_comparison_page,
)
from birdmix.report.comparison_row import ComparisonRow, statistics_statement
from birdmix.report.forest_plot import draw_forest_plot
from birdmix.training.metrics_log import FINAL_METRICS_FILE

COMPARISON_TABLE, SCREENING_TABLE, RUNS_TABLE = "comparison.csv", "screening.csv", "runs.csv"
FOREST_PLOT, PAGE = "forest_plot.png", "comparison.html"


@dataclass
class ComparisonResults:
    """What a comparison has found so far.

    Attributes:
        comparison: The comparison.
        file: Its file.
        steps: Number of optimizer steps by arm.
        is_demo: Whether each replicate has a demo of its own.
        screening: Results of the screening.
        reported: Results that are reported.
        phases: The phases that have results, with the seeds that are done.
    """

    comparison: Comparison
    file: Path
    steps: Mapping[str, int]
    is_demo: bool
    screening: Sequence[ComparisonRow] = ()
    reported: Sequence[ComparisonRow] = ()
    phases: dict[str, tuple[Phase, Sequence[int]]] = field(default_factory=dict)

    def add_phase(
        self, phase: Phase, seeds: Sequence[int], results: Sequence[ComparisonRow]
    ) -> None:
        """Add the results of the first replicates of a phase, or replace former ones."""
        self.phases[phase.name] = (phase, seeds)
        if phase.name == SCREENING:
            self.screening = results
        else:
            self.reported = results


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
    if results.screening:
        _write_table(folder / SCREENING_TABLE, _table_of_rows(results.screening))
    if not results.reported:
        return
    _write_table(folder / COMPARISON_TABLE, _table_of_rows(results.reported))
    of_all = [row for row in results.reported if row.stratum == ALL]
    title = f"Differences to {results.comparison.control}"
    with atomic_path(folder / FOREST_PLOT) as partial:
        draw_forest_plot(partial, of_all, title)
    write_comparison_page(folder / PAGE, _build_report(results, runs))


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
    for phase, seeds in results.phases.values():
        for run in phase.runs():
            if run.seed not in seeds or not run.directory.is_dir():
                continue
            state, error, metrics = _read_state(run.directory)
            costs = {
                "seconds_per_step": seconds_per_step(run.compose(), run.directory),
                "peak_memory_gib": peak_memory_gib(run.directory),
            }
            rows.append(
                {
                    "run": str(run.directory.relative_to(folder)),
                    "phase": phase.name,
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


def _build_report(results: ComparisonResults, runs: pd.DataFrame) -> ComparisonReport:
    """Return what the page shows."""
    metric = results.comparison.metrics[0]
    first = results.reported[0]
    return ComparisonReport(
        title=f"Comparison: {results.file.stem}",
        summary=_summary(results),
        rows=results.reported,
        headline=(first.test_set, first.metric),
        runs=[_run_row(results, run) for _, run in runs.iterrows()],
        comparison_file=describe_comparison(results.file),
        screening=list(_screening_rows(results)),
        screening_metric=COMPARISON_METRICS[metric].title if results.screening else "",
        memory_title="peak memory of the process, MB",
    )


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


def _screening_rows(results: ComparisonResults) -> Iterator[ScreeningRow]:
    if not results.screening:
        return
    first = results.screening[0]
    chosen = {arm.name for arm in results.phases[REPORTED][0].arms}
    for row in results.screening:
        if (row.test_set, row.stratum, row.metric) == (first.test_set, ALL, first.metric):
            yield ScreeningRow(row.arm, row.value, row.num, row.arm in chosen)


def _summary(results: ComparisonResults) -> list[str]:
    """Return sentences about arms, replicates and steps."""
    comparison = results.comparison
    arms = list(dict.fromkeys(row.arm for row in results.reported))
    _, seeds = results.phases[REPORTED]
    kind = "each with data of its own" if results.is_demo else "on the same held-out recordings"
    lines = [
        f"{len(arms)} arms; the control is {comparison.control}. {len(seeds)} of "
        f"{comparison.replicates} replicates, {kind}."
    ]
    steps = {arm: results.steps[arm] for arm in arms}
    if len(set(steps.values())) > 1:
        text = ", ".join(f"{arm} {count}" for arm, count in steps.items())
        lines.append(f"Arms have different numbers of optimizer steps: {text}.")
    missing = sorted(set(results.phases[REPORTED][0].arm_names) - set(arms))
    if missing:
        lines.append(f"No replicate succeeded of: {', '.join(missing)}.")
    return lines


def log_comparison(results: ComparisonResults, folder: Path) -> None:
    """Print the results of the first metric in all test sets, the statistics, and the files."""
    first = results.reported[0]
    shown = [r for r in results.reported if r.stratum == ALL and r.metric == first.metric]
    for test_set in dict.fromkeys(row.test_set for row in shown):
        log_line(f"{first.metric_title}, {test_set}")
        log_table(
            ["arm", "value", "difference", "95 % interval", "p (Holm)", ""],
            [_console_cells(row) for row in shown if row.test_set == test_set],
        )
    for line in (*_summary(results), *statistics_statement(results.reported)):
        log_line(line)
    for name in (COMPARISON_TABLE, RUNS_TABLE, FOREST_PLOT, PAGE):
        log_line(f"wrote {folder / name}")


def _console_cells(row: ComparisonRow) -> list[str]:
    value = "" if math.isnan(row.value) else f"{row.value:.4f}"
    difference = "" if math.isnan(row.difference) else f"{row.difference:+.4f}"
    has_interval = not math.isnan(row.low)
    interval = f"{row.low:+.4f} to {row.high:+.4f}" if has_interval else ""
    p_value = f"{row.p_holm:.3f}" if has_interval else ""
    return [row.arm, value, difference, interval, p_value, row.verdict]

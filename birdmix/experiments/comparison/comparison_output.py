"""Output of a comparison: tables, forest plot, page and console lines.

Files of the folder:

comparison.csv   a row per test set, stratum, metric and arm: value, difference, interval, p-values
screening.csv    the same of the screening, if there is one
runs.csv         a row per run: state, seconds of a step, memory, metrics
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from birdmix.config.run_config_file import CONFIG, read_config
from birdmix.console import log_line, log_table
from birdmix.experiments.comparison.comparison_file import Comparison
from birdmix.experiments.comparison.paired_scores import ALL, PairedResult
from birdmix.experiments.comparison.planned_runs import SCREENING, Phase
from birdmix.experiments.comparison.run_costs import peak_memory_gib, seconds_per_step
from birdmix.experiments.run_table import read_run_table
from birdmix.experiments.table_escaping import escape_table_formulas
from birdmix.files import atomic_path
from birdmix.metrics.paired_statistics import CONFIDENCE
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS
from birdmix.ownership import OutputFiles

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
    screening: Sequence[PairedResult] = ()
    reported: Sequence[PairedResult] = ()
    phases: dict[str, tuple[Phase, Sequence[int]]] = field(default_factory=dict)

    def add_phase(
        self, phase: Phase, seeds: Sequence[int], results: Sequence[PairedResult]
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
    tables = {COMPARISON_TABLE: results.reported, SCREENING_TABLE: results.screening}
    for name, each in tables.items():
        if each:
            _write_table(folder / name, pd.DataFrame(map(_result_row, each)))
    _write_table(folder / RUNS_TABLE, runs_table(results, folder))


def _write_table(file: Path, table: pd.DataFrame) -> None:
    with atomic_path(file) as partial:
        escape_table_formulas(table).to_csv(partial, index=False)


def _result_row(result: PairedResult) -> dict[str, object]:
    """Return a result as a row of a table."""
    difference = result.difference
    return {
        "set": result.set_name,
        "stratum": result.stratum,
        "metric": result.metric,
        "arm": result.arm,
        "value": result.value,
        "control_value": result.control_value,
        "difference": None if difference is None else difference.mean,
        "low": None if difference is None else difference.low,
        "high": None if difference is None else difference.high,
        "p": None if difference is None else difference.p,
        "p_holm": None if difference is None else result.p_holm,
        "method": "control" if difference is None else difference.method,
        "num": None if difference is None else difference.num,
        "verdict": verdict(result),
    }


def verdict(result: PairedResult) -> str:
    """Return in words what the interval and Holm's p-value of an arm say."""
    if result.difference is None:
        return "control"
    if math.isnan(result.p_holm):
        return "no interval"
    if result.p_holm >= 1 - CONFIDENCE:
        return "no difference shown"
    better = COMPARISON_METRICS[result.metric].better
    if better is None:
        return "differs"
    return "better" if (result.difference.mean > 0) == (better == "higher") else "worse"


def runs_table(results: ComparisonResults, folder: Path) -> pd.DataFrame:
    """Return a table of all runs that were started, in their order."""
    rows = []
    for phase, seeds in results.phases.values():
        for run in phase.runs():
            if run.seed not in seeds or not run.directory.is_dir():
                continue
            state = read_run_table([run.directory]).rows[0]
            memory = peak_memory_gib(run.directory)
            has_config = (run.directory / CONFIG).is_file()
            seconds = (
                seconds_per_step(read_config(run.directory), run.directory)
                if has_config
                else math.nan
            )
            rows.append(
                {
                    "run": str(run.directory.relative_to(folder)),
                    "phase": phase.name,
                    "arm": run.arm,
                    "seed": run.seed,
                    "fold": run.fold,
                    "stage": run.stage,
                    "state": state.state,
                    "error": state.error,
                    "steps": results.steps.get(run.arm) if run.is_last else None,
                    "seconds_per_step": seconds,
                    "peak_memory_gib": memory,
                }
                | {name: value for name, value in state.metrics.items() if name != "epoch"}
            )
    return pd.DataFrame(rows)


def log_comparison(results: ComparisonResults, folder: Path) -> None:
    """Print the results of the first metric in all test sets, and the files."""
    metric = results.comparison.metrics[0]
    shown = [r for r in results.reported if r.stratum == ALL and r.metric == metric]
    for set_name in dict.fromkeys(result.set_name for result in shown):
        log_line(f"{COMPARISON_METRICS[metric].title}, {set_name}")
        log_table(
            ["arm", "value", "difference", "95 % interval", "p (Holm)", ""],
            [_console_row(result) for result in shown if result.set_name == set_name],
        )
    for line in describe_statistics(results):
        log_line(line)
    for name in (COMPARISON_TABLE, RUNS_TABLE, FOREST_PLOT, PAGE):
        if (folder / name).is_file():
            log_line(f"wrote {folder / name}")


def _console_row(result: PairedResult) -> list[str]:
    difference = result.difference
    if difference is None:
        return [result.arm, f"{result.value:.4f}", "", "", "", "control"]
    has_interval = not math.isnan(difference.low)
    return [
        result.arm,
        f"{result.value:.4f}",
        f"{difference.mean:+.4f}",
        f"{difference.low:+.4f} to {difference.high:+.4f}" if has_interval else "none",
        f"{result.p_holm:.3f}" if has_interval else "",
        verdict(result),
    ]


def describe_statistics(results: ComparisonResults) -> list[str]:
    """Return sentences that state how intervals and p-values were computed."""
    compared = [r.difference for r in results.reported if r.difference is not None]
    num = max((difference.num for difference in compared), default=0)
    num_arms = len({result.arm for result in results.reported}) - 1
    if results.is_demo:
        lines = [
            f"Each of {num} replicates has its own data and training seed. Intervals are "
            "Student's, of the differences within replicates."
        ]
        if num == 1:
            lines = ["One replicate: there is no interval. Set replicates to 3 or more."]
    else:
        lines = [
            f"Metrics are means over {results.comparison.replicates} seeds, on the held-out rows "
            f"of all folds together. Intervals are those of a bootstrap over {num} groups, with "
            "the same rows for arm and control; folds do not count as independent."
        ]
    lines.append(f"p-values are corrected for {num_arms} arms by Holm's method.")
    steps = {arm: results.steps[arm] for arm in results.steps}
    if len(set(steps.values())) > 1:
        text = ", ".join(f"{arm} {count}" for arm, count in steps.items())
        lines.append(f"Arms have different numbers of optimizer steps: {text}.")
    return lines

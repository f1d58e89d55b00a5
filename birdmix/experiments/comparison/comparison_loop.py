"""Comparison of arms: trains all runs one after another, tests them, and writes tables and a page.

The same command continues an interrupted comparison: runs that have ended are kept, and the
interrupted one resumes from its checkpoint. Arms and replicates may be added to the file later.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from birdmix.config.resume_policy import result_changes
from birdmix.config.run_config_file import CONFIG, read_config
from birdmix.config.schema import Config
from birdmix.console import log_line, open_progress_bar, warnings_as_lines
from birdmix.experiments.comparison.comparable_arms import ComparableArms, check_settings
from birdmix.experiments.comparison.comparison_file import Arm, Comparison, read_comparison
from birdmix.experiments.comparison.comparison_output import (
    ComparisonResults,
    PhaseResults,
    comparison_output_files,
    log_comparison,
    write_comparison,
)
from birdmix.experiments.comparison.paired_scores import ALL, compare_scores
from birdmix.experiments.comparison.planned_runs import (
    SCREENING,
    Phase,
    PlannedRun,
    plan_phases,
)
from birdmix.experiments.comparison.run_costs import PeakMemoryFile
from birdmix.experiments.comparison.test_sets import TestSets
from birdmix.experiments.run_series import (
    check_single_process,
    end_of_time_limit,
    lock_folder,
    run_or_resume,
)
from birdmix.experiments.run_table import FAILED, write_failure
from birdmix.messages import first_few, first_line
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS
from birdmix.ownership import read_file_list
from birdmix.partial_files import remove_partials
from birdmix.report.comparison_row import ComparisonRow
from birdmix.training.metrics_log import FINAL_METRICS_FILE
from birdmix.training.stop_requests import RunStopped
from birdmix.user_errors import exit_with_message, is_user_error


def compare(
    file: Path,
    folder: Path,
    overrides: Sequence[str] = (),
    mixtures: Path | None = None,
    max_time: str | None = None,
) -> None:
    """Compare the arms of a file, or continue an interrupted comparison.

    Args:
        file: The comparison file, see ``comparison_file``.
        folder: Folder of the comparison.
        overrides: Overrides of all runs, after those of the file.
        mixtures: Folder of held-out mixtures to test on, or None.
        max_time: Time limit, such as ``90m``; None is no limit.

    Raises:
        ValueError: If the file or an arm is wrong, arms cannot be compared, the folder has runs
            with other settings, or no replicate of the control succeeded.
    """
    check_single_process("a comparison")
    comparison = read_comparison(file, overrides)
    ends_at = end_of_time_limit(max_time)
    files = comparison_output_files(folder)
    files.check()
    _check_folder(folder)
    series = ComparisonSeries(comparison, folder, mixtures, ends_at)
    series.check_settings()
    with lock_folder(folder, "comparison"), warnings_as_lines():
        files.register()
        remove_partials(folder)
        series.check_data()
        series.run(file)


class ComparisonSeries:
    """The runs of a comparison, one after another, and their results.

    Args:
        comparison: The comparison.
        folder: Its folder.
        mixtures: Folder of held-out mixtures, or None.
        ends_at: Time limit, by ``time.monotonic``.

    Raises:
        ValueError: If an override of the control is invalid, or folds do not fit the data.
    """

    def __init__(
        self, comparison: Comparison, folder: Path, mixtures: Path | None, ends_at: float
    ) -> None:
        self.comparison, self.folder, self.ends_at = comparison, folder, ends_at
        control = comparison.arms[comparison.control]
        alone = replace(comparison, arms={control.name: control}, screening=None)
        _, phase = plan_phases(alone, folder, [None], is_demo=False)
        config = next(phase.runs()).compose()
        self.is_demo = config.data.source == "demo"
        self.tests = TestSets(mixtures, config)
        folds = _choose_folds(comparison, config, self.tests.has_soundscapes)
        self.screening, self.reported = plan_phases(comparison, folder, folds, self.is_demo)
        self.steps: dict[str, dict[str, int]] = {}
        if self.screening is not None and not self.is_demo:
            raise ValueError(
                "screening: these data have the same held-out recordings in both rounds, so the "
                "arms that it keeps would look too good; remove it, and compare all arms at once"
            )

    @property
    def phases(self) -> list[Phase]:
        """The phases, in order."""
        return [phase for phase in (self.screening, self.reported) if phase is not None]

    def check_settings(self) -> None:
        """Check the settings of all arms, and those of runs that are in the folder already.

        Raises:
            ValueError: If a setting is wrong, or a former run has another.
        """
        for phase in self.phases:
            for arm in phase.arms:
                runs = list(phase.runs_of(arm, phase.seeds[0], phase.folds[0]))
                check_settings(
                    runs, self.tests.has_soundscapes, self.is_demo, self.comparison.different_steps
                )
            for run in phase.runs():
                _check_former_run(run)
        metric = self.comparison.metrics[0]
        if (
            COMPARISON_METRICS[metric].needs_decisions
            and not self.tests.has_soundscapes
            and len(self.reported.folds) == 1
        ):
            raise ValueError(
                f"metrics: {metric} needs thresholds that were fitted on other folds, and one "
                "fold is held out; put another metric first, or name more folds"
            )

    def check_data(self) -> None:
        """Check that arms have the same data and steps, and that mixtures are not trained on.

        Raises:
            ValueError: If they are not, or a former run had other data.
        """
        control = self.comparison.arms[self.comparison.control]
        for phase in self.phases:
            comparable = ComparableArms(
                control.name, self.comparison.different_steps, open_progress_bar
            )
            others = [arm for arm in phase.arms if arm.name != control.name]
            for arm in (control, *others):
                runs = list(phase.runs_of(arm, phase.seeds[0], phase.folds[0]))
                comparable.check(arm.name, runs)
            self.steps[phase.name] = comparable.steps
            for run in phase.runs():
                if run.seed == phase.seeds[0]:
                    self.tests.check(run, comparable.open(run.compose()))
                if not self.is_demo:  # a demo is determined by its settings
                    comparable.check_former_data(run)

    def run(self, file: Path) -> None:
        """Run the phases, and write their results after each replicate.

        Args:
            file: The comparison file, to be copied to the page.
        """
        results = ComparisonResults(self.comparison, file, self.is_demo)
        if self.screening is not None:
            self._run_phase(self.screening, results)
            assert results.screening is not None
            self.reported = replace(self.reported, arms=self._choose_arms(results.screening.rows))
            log_line(f"chosen by the screening: {', '.join(self.reported.arm_names)}")
        self._run_phase(self.reported, results)
        log_comparison(results, self.folder)

    def _run_phase(self, phase: Phase, results: ComparisonResults) -> None:
        """Run a phase; write the results so far after each replicate in which a run was new."""
        runs = list(phase.runs())
        for seed in phase.seeds:
            is_new = [
                self._run(run, phase, number, len(runs))
                for number, run in enumerate(runs, start=1)
                if run.seed == seed
            ]
            if not any(is_new) and seed != phase.seeds[-1]:
                continue
            seeds = [each for each in phase.seeds if each <= seed]
            rows = self._compare_scores(phase, seeds)
            done = PhaseResults(phase, seeds, rows, self.steps[phase.name])
            if phase.name == SCREENING:
                results.screening = done
            else:
                results.reported = done
            write_comparison(results, self.folder)

    def _run(self, run: PlannedRun, phase: Phase, number: int, count: int) -> bool:
        """Train and test one run, unless that was done before; a failure is recorded.

        Returns:
            Whether anything was done.
        """
        place = f"{phase.name}: run {number} of {count}: {run.name}"
        started_at = time.monotonic()
        is_trained = (run.directory / FINAL_METRICS_FILE).is_file()
        try:
            if run.init_from is not None and not (run.init_from / FINAL_METRICS_FILE).is_file():
                raise ValueError("the stage before it failed")
            if not is_trained:
                run_or_resume(
                    run.compose(),
                    run.directory,
                    self.ends_at,
                    "comparison",
                    lambda training: PeakMemoryFile(run.directory, training.fabric.device),
                )
            is_tested = run.is_last and self.tests.predict(run)
        except RunStopped as stopped:
            text = f"stopped in {run.name}, which is saved; the same command continues it"
            exit_with_message(text, stopped.status)
        except ValueError as error:
            if not is_user_error(error):
                raise
            write_failure(run.directory, error, run.overrides)
            log_line(f"{place}: failed: {first_line(error)}")
            return True
        (run.directory / FAILED).unlink(missing_ok=True)
        if not is_trained or is_tested:
            log_line(f"{place}: {time.monotonic() - started_at:.0f} s")
        return not is_trained or is_tested

    def _compare_scores(self, phase: Phase, seeds: Sequence[int]) -> list[ComparisonRow]:
        """Return the results of the replicates that have succeeded.

        Raises:
            ValueError: If none of the control has.
        """
        scores = {}
        for arm in phase.arms:
            replicates = {seed: self._last_runs(phase, arm.name, seed) for seed in seeds}
            done = {
                seed: self.tests.read_scores(runs)
                for seed, runs in replicates.items()
                if all((run.directory / FINAL_METRICS_FILE).is_file() for run in runs)
                and not any((run.directory / FAILED).is_file() for run in runs)
            }
            if done:
                scores[arm.name] = done
        if self.comparison.control not in scores:
            raise ValueError(
                f"no replicate of the control {self.comparison.control} succeeded; see "
                f"{self.folder / phase.name / self.comparison.control}/*/{FAILED}"
            )
        return compare_scores(
            scores,
            self.comparison.control,
            self.comparison.metrics,
            independent=self.is_demo,
            num_resamples=self.comparison.resamples,
        )

    def _last_runs(self, phase: Phase, arm: str, seed: int) -> list[PlannedRun]:
        """Return the runs of an arm whose models are tested, one for each fold."""
        return [run for run in phase.runs() if run.is_last and run.arm == arm and run.seed == seed]

    def _choose_arms(self, results: Sequence[ComparisonRow]) -> list[Arm]:
        """Return the control and the arms with the best mean of the first metric."""
        assert self.comparison.screening is not None
        control, first = self.comparison.control, results[0]
        if np.isnan(first.control_value):
            raise ValueError(
                f"{first.metric_title} is not defined for {first.test_set}, so it cannot choose "
                "the arms of a screening; put another metric first"
            )
        values = {
            row.arm: row.difference
            for row in results
            if (row.test_set, row.stratum, row.metric) == (first.test_set, ALL, first.metric)
            and not row.is_control
        }
        sign = -1 if first.better == "lower" else 1
        worst = -sign * np.inf
        ranked = sorted(values, key=lambda arm: -sign * np.nan_to_num(values[arm], nan=worst))
        kept = {control, *ranked[: self.comparison.screening.keep]}
        return [arm for arm in self.comparison.arms.values() if arm.name in kept]


def _choose_folds(
    comparison: Comparison, config: Config, has_soundscapes: bool
) -> list[int | None]:
    """Return the folds to hold out one after another; [None] for data with a split of their own."""
    if config.data.fold is None or config.data.source == "demo":
        if comparison.folds is not None:
            raise ValueError("folds: these data have no folds (data.fold=null); remove it")
        return [None]
    if comparison.folds is None:
        return [config.data.fold] if has_soundscapes else list(range(config.data.num_folds))
    beyond = [fold for fold in comparison.folds if fold >= config.data.num_folds]
    if beyond:
        raise ValueError(f"folds: {beyond[0]} is none of 0 .. {config.data.num_folds - 1}")
    return list(comparison.folds)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a comparison.

    Raises:
        ValueError: If it does.
    """
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if names - {".lock"} and read_file_list(folder) is None:
        raise ValueError(
            f"{folder}: it holds other files than those of a comparison; name a new or an empty "
            "folder for --out"
        )


def _check_former_run(run: PlannedRun) -> None:
    """Refuse a run directory with a run of other settings.

    Raises:
        ValueError: With the settings that differ.
    """
    if not (run.directory / CONFIG).is_file():
        return
    former, config = read_config(run.directory), run.compose()
    former.init_from = config.init_from  # the folder of the comparison may have moved
    changes = result_changes(former, config)
    if changes:
        raise ValueError(
            f"{run.directory} holds a run with other settings: {first_few(changes, 5)}; restore "
            "them, rename the arm, or name another folder"
        )

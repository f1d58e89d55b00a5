"""Hyper-parameter search: runs trials one after another, each in a run directory of its own.

The same command continues an interrupted search: ended trials are kept, and the interrupted trial
resumes from its checkpoint. Hydra's Optuna sweeper (1.3.0) is not used: it needs Optuna below 3 and
gets a result only after the end of a run, so it can neither prune nor resume a run.
"""

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from birdmix.config.composition import compose_config
from birdmix.config.resume_policy import result_changes
from birdmix.config.run_config_file import read_config, write_config
from birdmix.config.schema import Config
from birdmix.console import log_line
from birdmix.experiments.run_series import (
    check_single_process,
    end_of_time_limit,
    lock_folder,
    run_or_resume,
)
from birdmix.experiments.tuning.optuna_study import Pruned, PruningHook, build_study, check_optuna
from birdmix.experiments.tuning.search_space import (
    Space,
    covering_points,
    read_search_space,
    to_distributions,
    to_overrides,
)
from birdmix.experiments.tuning.trials import (
    TRIALS,
    Trial,
    best_trial,
    read_trials,
    write_trials_table,
)
from birdmix.files import write_text
from birdmix.messages import first_few, first_line
from birdmix.ownership import OutputFiles, read_file_list
from birdmix.partial_files import remove_partials
from birdmix.training.stop_requests import RunStopped
from birdmix.training.training_run import TrainingRun
from birdmix.user_errors import exit_with_message, is_user_error

if TYPE_CHECKING:
    from optuna import Study

# Files of the search space, and of the settings that all trials share.
_SPACE_FILE, _BASE_FILE = "space.yaml", "base.yaml"

# The search ends if this number of first trials fail with the same error.
_MAX_FIRST_FAILURES = 3


def tune(file: Path, overrides: Sequence[str], folder: Path, num_trials: int) -> None:
    """Search hyper-parameters, or continue an interrupted search.

    ``trainer.max_time`` is the time limit of the whole search.

    Args:
        file: YAML file of the search space.
        overrides: Overrides of all trials, as for ``birdmix train``.
        folder: Folder of the search.
        num_trials: Number of trials, including pruned and failed ones.

    Raises:
        ValueError: If the space or an override is invalid, the folder has another search, or the
            first trials all failed with the same error.
    """
    check_optuna()
    space = read_search_space(file)
    base = _shared_config(space, overrides)
    ends_at = end_of_time_limit(base.trainer.max_time)
    files = _output_files(folder)
    files.check()
    with lock_folder(folder, "search"):
        files.register()
        remove_partials(folder)
        _write_or_compare(folder, space, base)
        while True:
            trials = read_trials(folder)
            write_trials_table(folder, trials)
            ended = [trial for trial in trials if trial.has_ended]
            _check_first_errors(ended)
            if len(ended) >= num_trials:
                break
            study = build_study(folder, space, base.seed, ended)
            trial = next((trial for trial in trials if not trial.has_ended), None)
            if trial is None:
                trial = Trial(len(trials), study.ask(to_distributions(space)).params)
                _check_unused(trial.run_directory_in(folder))
                trial.write(folder)
            _run_trial(folder, overrides, trial, study, ends_at)
            _log_trial(folder, trial.number, num_trials)
    _log_best(folder, overrides)


def _run_trial(
    folder: Path, overrides: Sequence[str], trial: Trial, study: "Study", ends_at: float
) -> None:
    """Run or resume a trial, and write its result to its directory.

    Args:
        folder: Folder of the search.
        overrides: Overrides of all trials.
        trial: The trial.
        study: The trials that have ended.
        ends_at: Time limit of the search, by ``time.monotonic``.
    """
    config = compose_config([*overrides, *to_overrides(trial.params)])
    directory = trial.run_directory_in(folder)
    started_at = time.monotonic()
    metric = ""

    def make_pruning(training: TrainingRun) -> PruningHook:
        nonlocal metric
        if training.monitor is None:
            raise ValueError("a search needs a validation set; hold out a fold with data.fold=0")
        metric = training.monitor
        return PruningHook(study, training)

    try:
        final = run_or_resume(config, directory, ends_at, "search", make_pruning)
        if metric not in final:
            raise ValueError(
                f"the last epoch has no {metric}; set validation.monitor to another metric"
            )
        trial = replace(trial, state="complete", value=final[metric])
    except Pruned:
        trial = replace(trial, state="pruned", metric=metric)
        values = trial.metric_by_epoch(folder)
        trial = replace(trial, value=values[max(values)])
    except RunStopped as stopped:
        text = f"stopped in trial {trial.number}, which is saved; the same command continues it"
        exit_with_message(text, stopped.status)
    except ValueError as error:
        if not is_user_error(error):
            raise
        trial = replace(trial, state="failed", error=first_line(error))
    replace(trial, metric=metric, seconds=time.monotonic() - started_at).write(folder)


def _shared_config(space: Space, overrides: Sequence[str]) -> Config:
    """Return the settings of all trials; check the bounds and choices of the space before any work.

    Raises:
        ValueError: If a bound or choice is not a valid setting, an override is also in the space,
            or there are several processes.
    """
    overridden = {override.lstrip("+").partition("=")[0] for override in overrides}
    for key in overridden & space.keys():
        raise ValueError(
            f"{key} is in the overrides and in the search space; remove it from one of them"
        )
    check_single_process("a search")
    for point in covering_points(space):
        compose_config([*overrides, *to_overrides(point)])
    return compose_config(list(overrides))


def _output_files(folder: Path) -> OutputFiles:
    """Return the output files of a search; those of older versions, without a list, are allowed."""

    def allows(file: Path) -> bool:
        if read_file_list(folder) is not None or not (folder / _BASE_FILE).is_file():
            return False
        try:
            read_search_space(folder / _SPACE_FILE)
            read_config(folder, _BASE_FILE)
        except Exception:  # libraries raise various errors for foreign files
            return False
        return True

    names = (_SPACE_FILE, _BASE_FILE, TRIALS)
    return OutputFiles(folder, names, remedy="name another folder for --out", may_replace=allows)


def _check_unused(directory: Path) -> None:
    """Raise a ValueError if the directory of a new trial exists and is not empty."""
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise ValueError(f"{directory}: exists and is not a trial; move it elsewhere")


def _write_or_compare(folder: Path, space: Space, base: Config) -> None:
    """Write space and settings of a new search, or compare them with those of a continued one.

    Raises:
        ValueError: If the folder has a search with another space or other settings.
    """
    if not (folder / _BASE_FILE).is_file():
        write_text(folder / _SPACE_FILE, OmegaConf.to_yaml(OmegaConf.create(space)))
        write_config(folder, base, _BASE_FILE)  # last: with this file the folder is a search
        return
    former = read_search_space(folder / _SPACE_FILE)
    changes = [
        f"{key} {former.get(key)} -> {space.get(key)}"
        for key in dict.fromkeys([*former, *space])
        if former.get(key) != space.get(key)
    ]
    changes += result_changes(read_config(folder, _BASE_FILE), base)
    if changes:
        raise ValueError(
            f"--out={folder} holds a search with other settings: {first_few(changes, 12)}; "
            "restore them, or name another folder"
        )


def _check_first_errors(ended: Sequence[Trial]) -> None:
    """Raise a ValueError if the first trials all failed with the same error."""
    first = ended[:_MAX_FIRST_FAILURES]
    errors = {trial.error for trial in first}
    if len(first) == _MAX_FIRST_FAILURES and len(errors) == 1 and errors != {""}:
        raise ValueError(
            f"the first {_MAX_FIRST_FAILURES} trials failed with the same error: {errors.pop()}; "
            "fix the cause, and start again with another --out"
        )


def _log_trial(folder: Path, number: int, num_trials: int) -> None:
    """Print state, metric, settings and duration of a trial, and the best trial so far."""
    trials = read_trials(folder)
    trial, best = trials[number], best_trial(trials)
    value = "" if trial.value is None else f"  {trial.metric} {trial.value:.4f}"
    best_value = f"  (best: {best.value:.4f}, trial {best.number})" if best else ""
    log_line(
        f"trial {number} of {num_trials}: {trial.state}{value}{best_value}  "
        f"{' '.join(f'{key}={_format_value(value)}' for key, value in trial.params.items())}  "
        f"{trial.seconds:.0f} s" + (f"\n  {trial.error}" if trial.error else "")
    )


def _format_value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _log_best(folder: Path, overrides: Sequence[str]) -> None:
    """Print the number of trials, and the best one with the command that trains it again."""
    trials = read_trials(folder)
    states = [trial.state for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    log_line(f"wrote {folder / TRIALS}  {len(trials)} trials: {counts}")
    best = best_trial(trials)
    if best is None:
        log_line("no trial is complete")
        return
    log_line(
        f"best: trial {best.number}, {best.metric} {best.value:.4f}, "
        f"in {best.run_directory_in(folder)}"
    )
    log_line(f"  {shlex.join(['birdmix', 'train', *overrides, *to_overrides(best.params)])}")

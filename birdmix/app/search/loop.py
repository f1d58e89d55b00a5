"""A search of settings with Optuna: trials one after another, each a run directory.

Whatever ends a search, the same command goes on with it: ended trials stay, and the one that was
cut off resumes from its checkpoint. Hydra's Optuna sweeper (1.3.0) wants Optuna below 3, and sees a
run only when it is over: it could neither give one up nor go on with one.
"""

import fcntl
import gc
import math
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from omegaconf import OmegaConf

from birdmix.app.configure import CONFIG, compose_config, read_config, write_config
from birdmix.app.console import say, speaking
from birdmix.app.errors import end, is_for_users
from birdmix.app.resume import harmful_changes
from birdmix.app.run import run
from birdmix.app.schema import Config
from birdmix.app.search.space import Space, as_overrides, corners, distributions, read_space
from birdmix.app.search.study import Pruned, Pruning, need_optuna, study_of
from birdmix.app.search.trials import TRIALS, Trial, best_of, read_trials, write_table
from birdmix.duration import seconds_of
from birdmix.files import write_text
from birdmix.ownership import OutputFiles, read_list
from birdmix.partials import remove_partials
from birdmix.suggest import first_few, first_line
from birdmix.training.run import Training
from birdmix.training.stops import TIME_IS_OVER, Stopped

if TYPE_CHECKING:
    from optuna import Study

# What a search was begun with.
_SPACE, _BASE = "space.yaml", "base.yaml"

# As many trials that fail alike at the beginning tell that every one would.
_HOPELESS = 3


def search(file: Path, overrides: Sequence[str], folder: Path, num_trials: int) -> None:
    """Try settings until there are so many trials, or go on with a search that ended early.

    ``trainer.max_time`` limits the whole search.

    Args:
        file: The space, YAML.
        overrides: What all trials have in common, as ``train.py`` takes it.
        folder: Of the search.
        num_trials: Trials in all, those that were pruned or failed counted too.

    Raises:
        ValueError: If the space or an override is wrong, the folder holds another search, or the
            first trials all failed in the same way.
    """
    need_optuna()
    space = read_space(file)
    base = _checked(space, overrides)
    limit = base.trainer.max_time
    ends_at = math.inf if limit is None else time.monotonic() + seconds_of(limit)
    files = _files(folder)
    files.check()
    with _alone(folder):
        files.claim()
        remove_partials(folder)
        _open(folder, space, base)
        while True:
            trials = read_trials(folder)
            write_table(folder, trials)
            ended = [trial for trial in trials if trial.has_ended]
            _give_up_on_hopeless(ended)
            if len(ended) >= num_trials:
                break
            study = study_of(folder, space, base.seed, ended)
            trial = next((each for each in trials if not each.has_ended), None)
            if trial is None:
                trial = Trial(len(trials), study.ask(distributions(space)).params)
                _refuse_taken(trial.directory(folder))
                trial.write(folder)
            _try(folder, overrides, trial, study, ends_at)
            _tell(folder, trial.number, num_trials)
    _tell_best(folder, overrides)


def _try(
    folder: Path, overrides: Sequence[str], trial: Trial, study: "Study", ends_at: float
) -> None:
    """Run a trial to its end, from where it stands, and write down what became of it."""
    config = compose_config([*overrides, *as_overrides(trial.params)])
    directory = trial.directory(folder)
    config.run_dir = str(directory)
    if (directory / CONFIG).is_file():
        config.resume = str(directory)
    began = time.monotonic()
    if ends_at < math.inf:
        if began >= ends_at:
            end("the search's time is over; the same command goes on", TIME_IS_OVER)
        config.trainer.max_time = f"{math.ceil(ends_at - began)}s"
    figure = ""

    def listen(training: Training) -> Pruning:
        nonlocal figure
        if training.monitor is None:
            raise ValueError("a search needs something to validate on; hold out data.fold=0")
        figure = training.monitor
        return Pruning(study, training)

    try:
        with speaking(False):
            final = run(config, directory, listen)
        if figure not in final:
            raise ValueError(f"the last epoch has no {figure}; choose another validation.monitor")
        trial = replace(trial, state="complete", value=final[figure])
    except Pruned:
        trial = replace(trial, state="pruned", figure=figure)
        values = trial.values(folder)
        trial = replace(trial, value=values[max(values)])
    except Stopped as stopped:
        text = f"stopped in trial {trial.number}, which was saved; the same command goes on"
        end(text, stopped.status)
    except ValueError as error:
        if not is_for_users(error):
            raise
        trial = replace(trial, state="failed", error=first_line(error))
    replace(trial, figure=figure, seconds=time.monotonic() - began).write(folder)
    gc.collect()  # loaders, optimizers and models refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _checked(space: Space, overrides: Sequence[str]) -> Config:
    """Return the settings that all trials have in common; try the space's corners before any work.

    Raises:
        ValueError: If a corner is no configuration.
    """
    said = {override.lstrip("+").partition("=")[0] for override in overrides}
    for key in said & space.keys():
        raise ValueError(f"{key} is searched; leave it out of the overrides or out of the space")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a search is one process; start it without torchrun")
    for point in corners(space):
        compose_config([*overrides, *as_overrides(point)])
    return compose_config(list(overrides))


def _files(folder: Path) -> OutputFiles:
    """Return the files of a search; one of before there were lists has read its own again."""

    def allows(file: Path) -> bool:
        if read_list(folder) is not None or not (folder / _BASE).is_file():
            return False
        try:
            read_space(folder / _SPACE)
            read_config(folder, _BASE)
        except Exception:  # whatever a foreign file makes a library raise
            return False
        return True

    names = (_SPACE, _BASE, TRIALS)
    return OutputFiles(folder, names, remedy="name another folder for --out", allows=allows)


def _refuse_taken(directory: Path) -> None:
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise ValueError(f"{directory}: it is there and is no trial; move it away")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against a second search in it; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder}: another search is at work here") from error
        yield


def _open(folder: Path, space: Space, base: Config) -> None:
    """Write what the search begins with, or refuse to go on with something else.

    Raises:
        ValueError: If the folder holds a search of another space, or with other settings.
    """
    if not (folder / _BASE).is_file():
        write_text(folder / _SPACE, OmegaConf.to_yaml(OmegaConf.create(space)))
        write_config(folder, base, _BASE)  # the last word: from here on it is a search
        return
    own = read_space(folder / _SPACE)
    changes = [
        f"{key} {own.get(key)} -> {space.get(key)}"
        for key in dict.fromkeys([*own, *space])
        if own.get(key) != space.get(key)
    ]
    changes += harmful_changes(read_config(folder, _BASE), base)
    if changes:
        raise ValueError(
            f"--out={folder} holds a search with other settings: {first_few(changes, 12)}; put "
            "them back, or name another folder"
        )


def _give_up_on_hopeless(ended: Sequence[Trial]) -> None:
    first = ended[:_HOPELESS]
    errors = {trial.error for trial in first}
    if len(first) == _HOPELESS and len(errors) == 1 and errors != {""}:
        raise ValueError(
            f"the first {_HOPELESS} trials failed alike: {errors.pop()}; mend that, and start "
            "again with another --out"
        )


def _tell(folder: Path, number: int, num_trials: int) -> None:
    trials = read_trials(folder)
    trial, best = trials[number], best_of(trials)
    value = "" if trial.value is None else f"  {trial.figure} {trial.value:.4f}"
    leader = f"  (best: {best.value:.4f}, trial {best.number})" if best else ""
    say(
        f"trial {number} of {num_trials}: {trial.state}{value}{leader}  "
        f"{' '.join(f'{key}={_short(value)}' for key, value in trial.params.items())}  "
        f"{trial.seconds:.0f} s" + (f"\n  {trial.error}" if trial.error else "")
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tell_best(folder: Path, overrides: Sequence[str]) -> None:
    trials = read_trials(folder)
    states = [trial.state for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    say(f"wrote {folder / TRIALS}  {len(trials)} trials: {counts}")
    best = best_of(trials)
    if best is None:
        say("no trial is complete")
        return
    say(f"best: trial {best.number}, {best.figure} {best.value:.4f}, in {best.directory(folder)}")
    say(f"  {shlex.join(['python', 'train.py', *overrides, *as_overrides(best.params)])}")

"""Optuna study of a search: suggests the settings of a trial, and prunes running trials.

The study is built again from the trials' files before every trial. A suggestion is thus a function
of the seed, the trial's number and the trials before it, also after the search was killed.

Source: Bergstra et al. 2011, NeurIPS, "Algorithms for Hyper-Parameter Optimization" (TPE); Golovin
et al. 2017, KDD, "Google Vizier" (the median rule). Departure: the sampler gets a new seed
for every trial.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birdmix.experiments.tuning.search_space import Space, to_distributions
from birdmix.experiments.tuning.trials import Trial
from birdmix.random_keys import integer_seed
from birdmix.training.monitor import lower_is_better
from birdmix.training.run_position import TrainingHook
from birdmix.training.training_run import TrainingRun

if TYPE_CHECKING:
    from optuna import Study


def check_optuna() -> None:
    """Check that Optuna is installed.

    Raises:
        ValueError: If it is not installed; the message names the command that installs it.
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f"a search needs a package that is not installed ({error}); "
            "run: pip install 'birdmix[tune]'"
        ) from error


def build_study(folder: Path, space: Space, seed: int, ended: Sequence[Trial]) -> "Study":
    """Return an Optuna study of the trials that have ended.

    Args:
        folder: Folder of the search.
        space: The search space.
        seed: Seed of the search.
        ended: Trials that have ended.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    states = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
    }
    metric = next((trial.metric for trial in ended if trial.metric), "")
    study = optuna.create_study(
        direction="minimize" if lower_is_better(metric) else "maximize",
        sampler=optuna.samplers.TPESampler(
            seed=integer_seed(seed, "search", len(ended)) % 2**32  # 32 bits for numpy's RandomState
        ),
    )
    for trial in ended:
        study.add_trial(
            optuna.trial.create_trial(
                state=states[trial.state],
                params=trial.params,
                distributions=to_distributions(space),
                value=trial.value,
                intermediate_values={}
                if trial.state == "failed"
                else trial.metric_by_epoch(folder),
            )
        )
    return study


class Pruned(Exception):  # noqa: N818 - not an error
    """A trial was pruned: its metric was worse than the median of the others at the same epoch."""


class PruningHook(TrainingHook):
    """Hook of the training loop that prunes the trial by the median rule.

    After a quarter of the epochs, and with five complete trials to compare with, a trial is pruned
    if its best metric so far is worse than the median of theirs at the same epoch.

    Args:
        study: The trials that have ended.
        training: The training of this trial.
    """

    def __init__(self, study: "Study", training: TrainingRun) -> None:
        from optuna.pruners import MedianPruner

        self.study, self.training = study, training
        self.pruner = MedianPruner(n_warmup_steps=training.trainer.max_epochs // 4 + 1)

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Compare the trial with the others at this epoch.

        Raises:
            Pruned: If the trial is pruned.
        """
        from optuna.trial import TrialState, create_trial

        monitored = enumerate(self.training.position.monitored, start=1)
        values = {epoch: value for epoch, value in monitored if not math.isnan(value)}
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=values)
        if not self.training.is_done and values and self.pruner.prune(self.study, trial):
            raise Pruned

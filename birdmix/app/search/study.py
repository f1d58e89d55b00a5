"""What Optuna says: which settings to try next, and which trial to give up.

What has been tried stands in the trials' own files, and the study is made from them anew for every
trial: the next suggestion is a function of the seed, the trial's number and the trials before it,
however often the search was killed.

Source: Bergstra et al. 2011, NeurIPS, "Algorithms for Hyper-Parameter Optimization" (TPE); Golovin
et al. 2017, KDD, "Google Vizier" (the median rule). Departure: the sampler is seeded afresh for
every trial.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birdmix.app.search.space import Space, distributions
from birdmix.app.search.trials import Trial
from birdmix.keys import integer_seed
from birdmix.training.monitor import lower_is_better
from birdmix.training.position import Position
from birdmix.training.run import Training

if TYPE_CHECKING:
    from optuna import Study


def need_optuna() -> None:
    """Refuse to search without Optuna.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f"a search needs a package that is not installed ({error}); "
            "run: pip install -e '.[search]'"
        ) from error


def study_of(folder: Path, space: Space, seed: int, ended: Sequence[Trial]) -> "Study":
    """Return the ended trials as a study of Optuna, for its next suggestion or its pictures."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    states = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
    }
    figure = next((trial.figure for trial in ended if trial.figure), "")
    study = optuna.create_study(
        direction="minimize" if lower_is_better(figure) else "maximize",
        sampler=optuna.samplers.TPESampler(
            seed=integer_seed(seed, "search", len(ended)) % 2**32  # numpy's old generator
        ),
    )
    for trial in ended:
        study.add_trial(
            optuna.trial.create_trial(
                state=states[trial.state],
                params=trial.params,
                distributions=distributions(space),
                value=trial.value,
                intermediate_values={} if trial.state == "failed" else trial.values(folder),
            )
        )
    return study


class Pruned(Exception):  # noqa: N818 - an end in order, not an error
    """A trial was given up: at the same epoch, half of the others were better."""


class Pruning:
    """A hook of the loop: gives the trial up by the median rule.

    That is: after a quarter of the epochs, and with five complete trials to compare with, its best
    figure so far is worse than the median of theirs at the same epoch.

    Args:
        study: The trials before.
        training: What is trained.
    """

    def __init__(self, study: "Study", training: Training) -> None:
        from optuna.pruners import MedianPruner

        self.study, self.training = study, training
        self.pruner = MedianPruner(n_warmup_steps=training.trainer.max_epochs // 4 + 1)

    def on_batch(self, position: Position, num_samples: int) -> None:
        """Nothing to decide."""

    def on_validation(self) -> None:
        """Nothing to decide."""

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Decide.

        Raises:
            Pruned: If the trial is given up.
        """
        from optuna.trial import TrialState, create_trial

        monitored = enumerate(self.training.position.monitored, start=1)
        values = {epoch: value for epoch, value in monitored if not math.isnan(value)}
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=values)
        if not self.training.is_done and values and self.pruner.prune(self.study, trial):
            raise Pruned

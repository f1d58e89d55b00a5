"""The test sets of a comparison: which there are, and what each run predicts for them."""

from collections.abc import Sequence
from pathlib import Path

from birdmix.competitions import competition_of_folder
from birdmix.config.schema import Config
from birdmix.experiments.comparison.mixture_predictions import (
    predict_mixtures,
    read_mixture_scores,
)
from birdmix.experiments.comparison.planned_runs import PlannedRun
from birdmix.experiments.comparison.scored_sets import (
    HELD_OUT_RECORDINGS,
    TEST_SOUNDSCAPES,
    ScoredSet,
    join_folds,
    read_held_out,
    read_soundscapes,
    thresholds_of_other_folds,
)
from birdmix.labels import Labels
from birdmix.loading.run_data import RunData
from birdmix.recordings.data_splits import HELD_OUT
from birdmix.recordings.mixture_table import MixtureSets, read_mixtures
from birdmix.recordings.recordings_table import concatenate


class TestSets:
    """The test sets of a comparison.

    Soundscapes of a competition whose solution is known, if there are any; else the held-out
    recordings of each fold and, if a folder of them is named, the mixtures made from these.

    Args:
        mixtures: Folder of held-out mixtures, or None.
        config: Settings of a run.

    Attributes:
        has_soundscapes: Whether soundscapes are the test set.

    Raises:
        ValueError: If mixtures are named for data with test soundscapes.
    """

    __test__ = False  # no test class of pytest

    def __init__(self, mixtures: Path | None, config: Config) -> None:
        self.folder = mixtures
        self.has_soundscapes = _has_solution(config)
        self._labels: Labels | None = None
        self._mixtures: MixtureSets | None = None
        self._group_of_path: dict[str, str] = {}
        if mixtures is not None and self.has_soundscapes:
            raise ValueError(
                f"--mixtures {mixtures}: these data are tested on soundscapes; remove the option"
            )

    def check(self, run: PlannedRun, data: RunData) -> None:
        """Read the mixtures and the groups of the held-out recordings for a run to come.

        Args:
            run: The run.
            data: Its data.

        Raises:
            ValueError: If there is nothing to test on, or mixtures are damaged, have other classes,
                or hold recordings that the run trains on.
        """
        self._labels = data.labels
        if self.has_soundscapes:
            return
        held_out = data.validation.get(HELD_OUT)
        if held_out is None:
            raise ValueError(
                "there is nothing to test on: no fold is held out (data.fold=null), no row has "
                "split=test, and there is no solution.csv"
            )
        self._group_of_path |= dict(zip(held_out.paths, held_out.groups, strict=True))
        if self.folder is None:
            return
        if self._mixtures is None:
            self._mixtures = read_mixtures(self.folder, data.labels)
        trained_on = concatenate([data.train, *data.pools.values()])
        self._mixtures_of(run).check_not_trained_on(trained_on)

    def predict(self, run: PlannedRun) -> bool:
        """Predict what a run itself has not predicted: the mixtures of the fold it holds out.

        Returns:
            Whether anything was predicted now.
        """
        if self._mixtures is None:
            return False
        return predict_mixtures(run.directory, self._mixtures_of(run))

    def read_scores(self, runs: Sequence[PlannedRun]) -> dict[str, ScoredSet]:
        """Read the scores of a replicate of an arm, by test set; the first one leads the output.

        Args:
            runs: Its runs that are tested, one for each fold.
        """
        assert self._labels is not None
        if self.has_soundscapes:
            return {TEST_SOUNDSCAPES: read_soundscapes(runs[0].compose(), self._labels)}
        directories = {run.fold: run.directory for run in runs}
        held_out = read_held_out(directories, self._labels, self._group_of_path)
        if self._mixtures is None:
            return {HELD_OUT_RECORDINGS: held_out}
        thresholds = thresholds_of_other_folds(held_out)
        by_fold = [
            read_mixture_scores(
                run.directory,
                self._mixtures_of(run),
                None if thresholds is None or run.fold is None else thresholds[run.fold],
            )
            for run in runs
        ]
        joined = {
            name: join_folds([scores[name] for scores in by_fold])
            for name in _MIXTURE_ORDER
            if name in by_fold[0]
        }
        return {**joined, HELD_OUT_RECORDINGS: held_out}

    def _mixtures_of(self, run: PlannedRun) -> MixtureSets:
        assert self._mixtures is not None
        if run.fold is None:
            raise ValueError(
                f"--mixtures {self.folder}: no fold is held out (data.fold=null), so no mixture is "
                "of held-out recordings; set data.fold to a number"
            )
        return self._mixtures.take_folds([run.fold])


# The hardest set leads, with single windows beside it.
_MIXTURE_ORDER = ["three_or_four", "single", "two_or_three"]


def _has_solution(config: Config) -> bool:
    """Return whether a run predicts test soundscapes whose solution is known."""
    if config.data.source == "demo":
        return True
    if config.data.source != "birdclef" or config.data.root is None:
        return False
    root = Path(config.data.root)
    competition = competition_of_folder(root)
    return (
        competition.cell_type == "probability"
        and (root / competition.solution).is_file()
        and (root / competition.sample_submission).is_file()
    )

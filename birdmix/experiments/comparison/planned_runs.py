"""The runs of a comparison: an arm with a seed, a fold and a stage each, in an order."""

import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from birdmix.config.composition import compose_config
from birdmix.config.schema import Config
from birdmix.experiments.comparison.comparison_file import Arm, Comparison

#: Phases of a comparison: names of the folders of their runs.
SCREENING, REPORTED = "screening", "replicates"


@dataclass(frozen=True)
class PlannedRun:
    """A run of a comparison.

    Attributes:
        arm: Name of the arm.
        seed: Seed of training, and of the demo's data.
        fold: The fold that is held out; None if the data have a split of their own.
        stage: Number of the stage, from 1.
        is_last: Whether it is the last stage, whose model is tested.
        directory: Run directory.
        overrides: Overrides of the phase and of the arm's stage.
        demo: Folder of the replicate's own demo; None if the data are no demo.
        init_from: Run directory of the stage before; None for the first stage.
    """

    arm: str
    seed: int
    fold: int | None
    stage: int
    is_last: bool
    directory: Path
    overrides: tuple[str, ...]
    demo: Path | None
    init_from: Path | None

    @property
    def name(self) -> str:
        """Name of the run, for messages."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        stage = "" if self.is_last and self.stage == 1 else f", stage {self.stage}"
        return f"{self.arm}, seed {self.seed}{fold}{stage}"

    def compose(self) -> Config:
        """Compose the settings of the run.

        Raises:
            ValueError: If an override is invalid; with the name of the arm.
        """
        try:
            config = copy.deepcopy(_compose(self.overrides))
            data, model = config.data, config.model
            if self.demo is not None:
                demo = replace(data.demo, seed=self.seed)
                data = replace(data, demo=demo, root=str(self.demo))
            if self.fold is not None:
                data = replace(data, fold=self.fold)
            if self.init_from is not None:
                model = replace(model, pretrained=False, weights=None)
            init_from = None if self.init_from is None else str(self.init_from)
            return replace(
                config,
                seed=self.seed,
                run_dir=str(self.directory),
                init_from=init_from,
                data=data,
                model=model,
            )
        except ValueError as error:
            raise ValueError(f"arm {self.arm}: {error}") from error


@dataclass(frozen=True)
class Phase:
    """A phase of a comparison.

    Attributes:
        name: ``SCREENING`` or ``REPORTED``.
        arms: Its arms, in the order of the file.
        seeds: Its seeds.
        folds: The folds to hold out, or [None].
        overrides: Overrides of all its runs, which arms may replace.
        last_overrides: Overrides of all its runs, which replace those of arms.
        folder: Folder of the comparison.
        is_demo: Whether each seed makes its own demo.
    """

    name: str
    arms: Sequence[Arm]
    seeds: Sequence[int]
    folds: Sequence[int | None]
    overrides: Sequence[str]
    last_overrides: Sequence[str]
    folder: Path
    is_demo: bool

    @property
    def arm_names(self) -> list[str]:
        """Names of its arms."""
        return [arm.name for arm in self.arms]

    def runs(self) -> Iterator[PlannedRun]:
        """Yield the runs in their order: replicate by replicate, so that each is soon complete."""
        for seed in self.seeds:
            for fold in self.folds:
                for arm in self.arms:
                    yield from self.runs_of(arm, seed, fold)

    def runs_of(self, arm: Arm, seed: int, fold: int | None) -> Iterator[PlannedRun]:
        """Yield the runs of an arm's stages.

        Args:
            arm: The arm.
            seed: Seed of the replicate.
            fold: Fold to hold out.
        """
        before: Path | None = None
        for stage, overrides in enumerate(arm.stages, start=1):
            is_last = stage == len(arm.stages)
            directory = self._directory(arm, seed, fold, stage, is_last)
            yield PlannedRun(
                arm=arm.name,
                seed=seed,
                fold=fold,
                stage=stage,
                is_last=is_last,
                directory=directory,
                overrides=_last_of_each_key([*self.overrides, *overrides, *self.last_overrides]),
                demo=self.folder / "demos" / f"seed-{seed}" if self.is_demo else None,
                init_from=before,
            )
            before = directory

    def _directory(self, arm: Arm, seed: int, fold: int | None, stage: int, is_last: bool) -> Path:
        name = f"seed-{seed}" if fold is None else f"seed-{seed}-fold-{fold}"
        name += "" if is_last else f"-stage-{stage}"
        return self.folder / self.name / arm.name / name


def plan_phases(
    comparison: Comparison, folder: Path, folds: Sequence[int | None], is_demo: bool
) -> tuple[Phase | None, Phase]:
    """Return the screening, if there is one, and the phase that is reported, with all arms.

    Args:
        comparison: The comparison.
        folder: Its folder.
        folds: The folds to hold out, or [None].
        is_demo: Whether each seed makes its own demo.
    """
    arms, screening = list(comparison.arms.values()), comparison.screening
    reported = Phase(
        REPORTED,
        arms,
        comparison.seeds,
        folds,
        comparison.overrides,
        comparison.last_overrides,
        folder,
        is_demo,
    )
    if screening is None:
        return None, reported
    last_overrides = (*screening.overrides, *comparison.last_overrides)
    return replace(
        reported, name=SCREENING, seeds=screening.seeds, last_overrides=last_overrides
    ), reported


@functools.cache
def _compose(overrides: tuple[str, ...]) -> Config:
    return compose_config(list(overrides))


def _last_of_each_key(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return overrides without those whose key is set again later; Hydra refuses some of these."""
    by_key = {override.lstrip("+").partition("=")[0]: override for override in overrides}
    return tuple(by_key.values())

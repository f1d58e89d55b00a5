"""Truth and logits of the test sets of a comparison, read from the files of its runs.

Test sets: the soundscapes of a competition whose solution is known (those of the demo are), the
held-out recordings of all folds together, and held-out mixtures.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdmix.bundle.manifest import read_manifest
from birdmix.competitions import competition_of_folder
from birdmix.config.schema import Config
from birdmix.experiments.run_directory import SUBMISSION
from birdmix.kaggle.submission_csv import read_aligned
from birdmix.labels import Labels
from birdmix.metrics.threshold_metrics import best_f1_thresholds
from birdmix.recordings.data_splits import HELD_OUT
from birdmix.recordings.demo import demo_test_snr
from birdmix.training.out_of_fold import OUT_OF_FOLD
from birdmix.training.thresholds import Thresholds
from birdmix.windows import logit, probability

#: Names of test sets that no mixtures are made for.
TEST_SOUNDSCAPES, HELD_OUT_RECORDINGS = "test_soundscapes", "held_out"


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """A test set with the logits of one replicate of an arm.

    Attributes:
        truth: Which classes are present, bool [N, C]; any value where not known.
        known: Which of them are known, bool [N, C].
        logits: Logits, float64 [N, C].
        groups: Groups of each row: recordists, or other sources of its sound.
        keys: Identity of each row.
        decisions: Which classes are detected, at thresholds that were fitted on other rows, bool
            [N, C]; None if there are no such rows.
        num_sources: Number of sources in each row, int64 [N]; None is unknown.
        snr_db: Signal-to-noise ratio of each class that is present, in dB, float64 [N, C]; None is
            unknown.
        fold: Fold of each row, int64 [N]; -1 for none.
    """

    truth: np.ndarray
    known: np.ndarray
    logits: np.ndarray
    groups: Sequence[tuple[str, ...]]
    keys: Sequence[str]
    decisions: np.ndarray | None = None
    num_sources: np.ndarray | None = None
    snr_db: np.ndarray | None = None
    fold: np.ndarray | None = None

    def with_thresholds(self, thresholds: np.ndarray) -> "ScoredSet":
        """Return the set with decisions at thresholds of the probability, [C] or [N, C]."""
        return replace(self, decisions=probability(self.logits) >= thresholds)


def read_soundscapes(config: Config, labels: Labels) -> ScoredSet:
    """Read the predictions of a run for the test soundscapes, with the bundle's thresholds.

    Args:
        config: Settings of the run.
        labels: Its classes.
    """
    root, directory = Path(str(config.data.root)), Path(config.run_dir)
    competition = competition_of_folder(root)
    truth, submitted = read_aligned(directory / SUBMISSION, root / competition.solution)
    codes = list(labels.codes)
    known = np.repeat([[code in truth.columns for code in codes]], len(truth), axis=0)
    positive = truth.reindex(columns=codes, fill_value=0).to_numpy() >= 0.5
    submitted = submitted.reindex(columns=codes, fill_value=0.5)
    row_ids = [competition.parse_row_id(str(row_id)) for row_id in truth.index]
    scored = ScoredSet(
        positive,
        known,
        logit(submitted.to_numpy(np.float64)),
        [(row_id.soundscape,) for row_id in row_ids],
        [str(row_id) for row_id in truth.index],
        num_sources=positive.sum(axis=1),
    )
    if config.data.source == "demo":
        snr = demo_test_snr(config.data.demo)
        table = pd.DataFrame.from_dict(
            {row_id: snr[str(row_id)] for row_id in truth.index}, orient="index", columns=codes
        )
        scored = replace(scored, snr_db=table.to_numpy(np.float64))
    thresholds = read_manifest(directory / "bundle").thresholds
    if thresholds is None:
        return scored
    values = [np.nan if value is None else value for value in thresholds]
    return scored.with_thresholds(np.array(values))


def read_held_out(
    directories: dict[int | None, Path], labels: Labels, group_of_path: dict[str, str]
) -> ScoredSet:
    """Read the predictions for the held-out recordings of all folds.

    Decisions of a fold are at the thresholds of the best F1 in the other folds.

    Args:
        directories: Run directory by the fold that it holds out.
        labels: The classes.
        group_of_path: Group of each recording by its path.

    Raises:
        ValueError: If a run was tested on recordings that are not held out now.
    """
    tables = {fold: _read_fold(directory) for fold, directory in directories.items()}
    table = pd.concat(tables.values(), ignore_index=True)
    logits, truth = (
        table[[f"{kind}:{code}" for code in labels.codes]].to_numpy(np.float64)
        for kind in ("logit", "truth")
    )
    unknown = [path for path in table["path"] if path not in group_of_path]
    if unknown:
        raise ValueError(
            f"{unknown[0]}: a run in {next(iter(directories.values())).parent} was tested on this "
            "recording, which is not held out now; restore the data, or name another folder for "
            "--out"
        )
    start_seconds = table.get("start_seconds", pd.Series(np.nan, table.index))
    number = [-1 if fold is None else fold for fold in tables]
    folds = np.repeat(number, [len(each) for each in tables.values()])
    scored = ScoredSet(
        truth >= 0.5,
        ~np.isnan(truth),
        logits,
        [(group_of_path[path],) for path in table["path"]],
        [f"{path} {start}" for path, start in zip(table["path"], start_seconds, strict=True)],
        fold=folds,
    )
    thresholds = thresholds_of_other_folds(scored)
    if thresholds is None:
        return scored
    return scored.with_thresholds(np.stack([thresholds[fold] for fold in folds.tolist()]))


def _read_fold(directory: Path) -> pd.DataFrame:
    table = pd.read_parquet(directory / OUT_OF_FOLD)
    return table[table["set"] == HELD_OUT]


def thresholds_of_other_folds(held_out: ScoredSet) -> dict[int, np.ndarray] | None:
    """Fit thresholds of the best F1 for each fold on the rows of all other folds.

    Args:
        held_out: Rows of all folds.

    Returns:
        Thresholds of the probability, float64 [C], by fold; None if there is one fold only.
    """
    assert held_out.fold is not None
    folds = np.unique(held_out.fold).tolist()
    if len(folds) == 1:
        return None
    thresholds = {}
    for fold in folds:
        others = held_out.fold != fold
        truth, known = held_out.truth[others], held_out.known[others]
        fitted = best_f1_thresholds(truth, probability(held_out.logits[others]), known)
        thresholds[fold] = Thresholds(fitted, (truth & known).any(axis=0)).per_class
    return thresholds


def join_folds(parts: Sequence[ScoredSet]) -> ScoredSet:
    """Join the rows of several folds; they have the same fields.

    Args:
        parts: Rows of each fold.
    """
    joined: dict[str, Any] = {}
    for field in fields(ScoredSet):
        values = [getattr(part, field.name) for part in parts]
        if field.name in ("groups", "keys"):
            joined[field.name] = [each for value in values for each in value]
        elif any(value is None for value in values):
            joined[field.name] = None
        else:
            joined[field.name] = np.concatenate(values)
    return ScoredSet(**joined)

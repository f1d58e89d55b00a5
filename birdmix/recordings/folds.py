"""Folds: split by group, stratified by label, never by segment."""

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from birdmix.recordings.table import Recordings


def split(recordings: Recordings, num_folds: int, fold: int) -> tuple[Recordings, Recordings]:
    """Split recordings into those to train on and those held out.

    Every group stands on one side. The folds depend on the table alone, not on a seed, so that
    runs of different seeds are comparable.

    Args:
        recordings: All recordings.
        num_folds: Number of folds.
        fold: The fold held out.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    groups = recordings.table["group"].to_numpy(str)
    num_groups = len(np.unique(groups))
    if num_groups < num_folds:
        raise ValueError(
            f"data.num_folds={num_folds}, but the recordings form only {num_groups} groups; "
            "lower data.num_folds, or train on everything with data.fold=null"
        )
    first_label = np.array([codes[0] if codes else "" for codes in recordings.table["codes"]])
    if np.unique(first_label, return_counts=True)[1].max() < num_folds:
        folds = GroupKFold(num_folds).split(groups, groups=groups)  # too few to stratify
    else:
        folds = StratifiedGroupKFold(num_folds).split(first_label, first_label, groups)
    train, held_out = list(folds)[fold]
    return recordings.take(train), recordings.take(held_out)

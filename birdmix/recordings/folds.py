"""Folds: recordings split by group, stratified by all labels.

Shapes: N rows, G groups, C classes, K folds.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from birdmix.recordings.recordings_table import Recordings


def split_by_fold(
    recordings: Recordings, num_folds: int, fold: int
) -> tuple[Recordings, Recordings]:
    """Split recordings into those to train on and those held out.

    No group is in both. The folds depend on the recordings only, not on a seed, so that runs with
    different seeds are comparable.

    Args:
        recordings: All recordings.
        num_folds: Number of folds K.
        fold: The fold held out, in [0, K).

    Returns:
        Recordings to train on, and recordings held out.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    held_out = assign_folds(recordings, num_folds) == fold
    return recordings.take(~held_out), recordings.take(held_out)


def assign_folds(recordings: Recordings, num_folds: int) -> np.ndarray:
    """Return the fold of each row, int64 [N]; see ``split_by_fold``.

    Groups are assigned one by one, those with rare labels first, and large ones before small ones.
    Each goes to the fold that is furthest below its share of the group's rarest label, and among
    equal ones to the fold that is furthest below its share of rows. Source: iterative
    stratification, Sechidis et al. 2011; departure: groups instead of single rows, in an order that
    is fixed beforehand.

    Args:
        recordings: All recordings.
        num_folds: Number of folds K.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    group, names = pd.factorize(np.array(recordings.groups, object), sort=True)
    if len(names) < num_folds:
        raise ValueError(
            f"data.num_folds={num_folds}: the recordings form only {len(names)} groups; lower "
            "data.num_folds, or choose another data.group_by (data.fold=null holds none out, "
            "except soundscapes if they are in a pool)"
        )
    counts = _count_labels(recordings, group, len(names))
    rarity = np.argsort(np.argsort(counts.sum(axis=0), kind="stable"))
    rank = rarity[counts.indices]
    lowest = np.minimum.reduceat(rank, counts.indptr[:-1])  # every group has an entry
    at_rarest = rank == np.repeat(lowest, np.diff(counts.indptr))
    rarest, num_with_rarest = counts.indices[at_rarest], counts.data[at_rarest]
    order = np.lexsort((-num_with_rarest, lowest))
    return _assign_groups_to_folds(counts, rarest, order, np.bincount(group), num_folds)[group]


def _count_labels(recordings: Recordings, group: np.ndarray, num_groups: int) -> csr_array:
    """Count the rows of each group with each label, [G, C + 1]; the last column: without labels."""
    offsets, label = recordings.ragged_column("label")
    num_labels = np.diff(offsets)
    empty = np.flatnonzero(num_labels == 0)
    rows = np.concatenate([np.repeat(group, num_labels), group[empty]])
    columns = np.concatenate([label, np.full(len(empty), len(recordings.labels))])
    shape = (num_groups, len(recordings.labels) + 1)
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)


def _assign_groups_to_folds(
    counts: csr_array, rarest: np.ndarray, order: np.ndarray, sizes: np.ndarray, num_folds: int
) -> np.ndarray:
    """Return the fold of each group, int64 [G].

    Args:
        counts: Rows of each group with each label, [G, C + 1].
        rarest: Rarest label of each group, [G].
        order: Order in which groups are assigned, [G].
        sizes: Rows of each group, [G].
        num_folds: Number of folds K.
    """
    # Lists instead of arrays: indexing them is faster, and a million groups are assigned in a loop.
    missing_labels = [[total / num_folds] * num_folds for total in counts.sum(axis=0).tolist()]
    missing_rows = [sizes.sum() / num_folds] * num_folds
    offsets, labels, label_rows = (
        array.tolist() for array in (counts.indptr, counts.indices, counts.data)
    )
    rarest_labels, num_rows = rarest.tolist(), sizes.tolist()
    folds = np.empty(len(order), np.int64)
    for group in order.tolist():
        missing = missing_labels[rarest_labels[group]]
        fold = max(range(num_folds), key=lambda k: (missing[k], missing_rows[k]))
        folds[group] = fold
        missing_rows[fold] -= num_rows[group]
        for entry in range(offsets[group], offsets[group + 1]):
            missing_labels[labels[entry]][fold] -= label_rows[entry]
    return folds


def check_splits_disjoint(train: Recordings, held_out: Recordings) -> None:
    """Check that no group or recording is both in training and in validation.

    Args:
        train: Recordings to train on.
        held_out: Recordings to validate on.

    Raises:
        ValueError: If there is one; the error lists the first three.
    """
    for kind, train_names, held_out_names in (
        ("groups", train.groups, held_out.groups),
        ("recordings", train.paths, held_out.paths),
    ):
        shared = sorted(set(train_names) & set(held_out_names))
        if shared:
            raise ValueError(
                f"column 'split': {len(shared)} {kind} are both in training and in validation, "
                "which makes metrics too good: "
                f"{', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}; correct the "
                "column, or remove it to split by group with data.fold"
            )


def labels_in_few_groups(recordings: Recordings, num_groups: int) -> Sequence[str]:
    """Return the codes of labels that occur, but in fewer than ``num_groups`` groups.

    Args:
        recordings: All recordings.
        num_groups: Number of groups from which on a label is not returned.
    """
    group, names = pd.factorize(np.array(recordings.groups, object))
    present = (_count_labels(recordings, group, len(names)) > 0).sum(axis=0)[:-1]
    codes = recordings.labels.codes
    return [codes[column] for column in np.flatnonzero((present > 0) & (present < num_groups))]

"""Folds: split by group, stratified by all labels, never by segment.

Shapes: N rows, G groups, C classes, K folds.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from birdmix.recordings.table import Recordings


def split(recordings: Recordings, num_folds: int, fold: int) -> tuple[Recordings, Recordings]:
    """Split recordings into those to train on and those held out.

    Every group stands on one side. The folds depend on the recordings alone, not on a seed, so
    that runs of different seeds are comparable.

    Args:
        recordings: All recordings.
        num_folds: Number of folds K.
        fold: The fold held out.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    held_out = fold_of_rows(recordings, num_folds) == fold
    return recordings.take(~held_out), recordings.take(held_out)


def fold_of_rows(recordings: Recordings, num_folds: int) -> np.ndarray:
    """Return the fold of each row, int64 [N]; see ``split``.

    Groups are dealt out one by one, those with rare labels first and the large ones before the
    small: each goes to the fold that lacks most of its rarest label, and of equals to the one that
    lacks most rows. Source: iterative stratification, Sechidis et al. 2011; departure: groups
    instead of single rows, in an order that is fixed beforehand.
    """
    group, names = pd.factorize(np.array(recordings.groups, object), sort=True)
    if len(names) < num_folds:
        raise ValueError(
            f"data.num_folds={num_folds}, but the recordings form only {len(names)} groups; lower "
            "data.num_folds, or choose another data.group_by (data.fold=null holds none out, but "
            "for a pool of soundscapes)"
        )
    counts = _label_counts(recordings, group, len(names))
    rarity = np.argsort(np.argsort(counts.sum(axis=0), kind="stable"))
    rank = rarity[counts.indices]
    lowest = np.minimum.reduceat(rank, counts.indptr[:-1])  # every group has an entry
    at_rarest = rank == np.repeat(lowest, np.diff(counts.indptr))
    rarest, of_rarest = counts.indices[at_rarest], counts.data[at_rarest]
    order = np.lexsort((-of_rarest, lowest))
    return _dealt(counts, rarest, order, np.bincount(group), num_folds)[group]


def _label_counts(recordings: Recordings, group: np.ndarray, num_groups: int) -> csr_array:
    """Return how many rows of each group hold each label, [G, C + 1]; the last is to hold none."""
    offsets, label = recordings.ragged("label")
    num_labels = np.diff(offsets)
    empty = np.flatnonzero(num_labels == 0)
    rows = np.concatenate([np.repeat(group, num_labels), group[empty]])
    columns = np.concatenate([label, np.full(len(empty), len(recordings.labels))])
    shape = (num_groups, len(recordings.labels) + 1)
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)


def _dealt(
    counts: csr_array, rarest: np.ndarray, order: np.ndarray, sizes: np.ndarray, num_folds: int
) -> np.ndarray:
    """Return the fold of each group, int64 [G]."""
    # Plain lists: a million groups are dealt one after the other.
    lacking = [[total / num_folds] * num_folds for total in counts.sum(axis=0).tolist()]
    rows_lacking = [sizes.sum() / num_folds] * num_folds
    begins, labels, numbers = (
        each.tolist() for each in (counts.indptr, counts.indices, counts.data)
    )
    first, num_rows = rarest.tolist(), sizes.tolist()
    fold_of = np.empty(len(order), np.int64)
    for at in order.tolist():
        wanted = lacking[first[at]]
        fold = max(range(num_folds), key=lambda k: (wanted[k], rows_lacking[k]))
        fold_of[at] = fold
        rows_lacking[fold] -= num_rows[at]
        for entry in range(begins[at], begins[at + 1]):
            lacking[labels[entry]][fold] -= numbers[entry]
    return fold_of


def refuse_shared(train: Recordings, held_out: Recordings) -> None:
    """Refuse a split in which one group or recording stands on both sides.

    Raises:
        ValueError: That names some of them.
    """
    for what, sides in (
        ("groups", (train.groups, held_out.groups)),
        ("recordings", (train.paths, held_out.paths)),
    ):
        shared = sorted(set(sides[0]) & set(sides[1]))
        if shared:
            raise ValueError(
                f"{len(shared)} {what} stand on both sides of the split, so that validation would "
                f"flatter: {', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}; mend the "
                "column 'split', or leave it out and let data.fold split by group"
            )


def labels_in_few_groups(recordings: Recordings, num_groups: int) -> Sequence[str]:
    """Return the labels that some recordings hold, but in fewer groups than asked."""
    group, names = pd.factorize(np.array(recordings.groups, object))
    present = (_label_counts(recordings, group, len(names)) > 0).sum(axis=0)[:-1]
    codes = recordings.labels.codes
    return [codes[column] for column in np.flatnonzero((present > 0) & (present < num_groups))]

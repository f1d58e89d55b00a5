"""Several models as one: their labels aligned by code, their scores combined.

Shapes: R rows, C classes of all models together, N all rows of a folder.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from birdmix.bundle.manifest import Manifest
from birdmix.inference.rows import RowScores
from birdmix.labels import Labels
from birdmix.text import nfc
from birdmix.windows import logit, probability

#: Where neither a bundle nor the user says from which probability a species is called.
THRESHOLD = 0.5

# Rows that are combined at a time.
_ROWS = 256


def joint_labels(manifests: Sequence[Manifest]) -> Labels:
    """Return the codes of all models, each once, in the order in which they are met."""
    known: dict[str, tuple[str, str]] = {}
    for manifest in manifests:
        for code, name in zip(manifest.labels.codes, manifest.labels.names, strict=True):
            known.setdefault(nfc(code), (code, name))
    return Labels(
        tuple(code for code, _ in known.values()), tuple(name for _, name in known.values())
    )


def joined(models: Sequence[RowScores], combine: str, power: float) -> np.ndarray:
    """Return what several models say of a recording as one, float32 [R, C]; see ``combined``.

    They give their scores up on the way: those of the rows are never there twice.
    """
    num_rows = min(each.num_rows for each in models)  # two rates may differ by a row of few samples
    side_by_side = len(models) if combine == "rank" else 1
    score = np.empty((num_rows, side_by_side * models[0].num_classes), np.float32)
    done = 0
    for pieces in zip(*(each.give_up() for each in models), strict=False):
        length = min(map(len, pieces))
        for begin in range(0, length, _ROWS):
            rows = slice(begin, min(begin + _ROWS, length))
            some = combined([piece[rows] for piece in pieces], combine, power)
            score[done : done + len(some)] = some
            done += len(some)
    return score


def combined(scores: Sequence[np.ndarray], combine: str, power: float) -> np.ndarray:
    """Return the mean over the models that know a species, as logits, float32 [R, C].

    Args:
        scores: Of each model, float32 [R, C], NaN for species it does not know.
        combine: logit, or power: the mean of probabilities to a power, its root taken; or rank:
            nothing yet, they stand side by side, float32 [R, models * C].
        power: That power.
    """
    if len(scores) == 1:
        return scores[0]
    if combine == "rank":
        return np.concatenate(scores, axis=1)
    if combine == "logit":
        return np.asarray(np.nanmean(scores, axis=0, dtype=np.float64), np.float32)
    known = [np.where(np.isnan(each), np.nan, probability(each)) for each in scores]
    mean = np.nanmean(np.power(known, power), axis=0) ** (1 / power)
    return logit(mean).astype(np.float32)


def joint_thresholds(manifests: Sequence[Manifest], labels: Labels) -> np.ndarray | None:
    """Return the mean of the models' thresholds, in logits; NaN where no model ever calls.

    Returns:
        Float64 [C]; None if no model has any.
    """
    fitted = [each for each in manifests if each.thresholds is not None]
    if not fitted:
        return None
    total, count = np.zeros(len(labels)), np.zeros(len(labels))
    told = np.zeros(len(labels), bool)
    for manifest in fitted:
        columns = [labels.column(code) for code in manifest.labels.codes]
        values = np.array(manifest.thresholds, np.float64)  # None becomes NaN
        told[columns] = True
        total[columns] += np.where(np.isnan(values), 0, logit(values).astype(np.float32))
        count[columns] += ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean = probability(total / count)
    return np.where(count > 0, mean, np.where(told, np.nan, THRESHOLD))


class Ranks:
    """Where a score stands among all of its species' scores in a folder, model by model.

    They lie in a file that has no name, not in memory.

    Args:
        folder: Where that file lies; it is gone when the ranks are.
        num_rows: Rows N of all recordings.
        num_models: Models whose columns stand side by side.
        num_classes: Classes C.

    Raises:
        OSError: If the disk has no room for it.
    """

    def __init__(self, folder: Path, num_rows: int, num_models: int, num_classes: int) -> None:
        self.num_models, self.num_classes = num_models, num_classes
        shape = (num_models * num_classes, num_rows)
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), 4 * shape[0] * shape[1], folder)
            self.scores = np.memmap(file, np.float32, "w+", shape=shape)
        self._filled = 0
        self._known = np.zeros(shape[0], np.int64)  # scores of each column that are none of NaN

    def add(self, score: np.ndarray) -> None:
        """Take the scores of a recording, float32 [R, models * C], NaN for unknown species."""
        self.scores[:, self._filled : self._filled + len(score)] = score.T
        self._filled += len(score)

    def sort(self) -> None:
        """Sort, once all are there."""
        for number, column in enumerate(np.asarray(self.scores)):
            column.sort()
            self._known[number] = np.searchsorted(column, np.nan)  # which stands after all numbers

    def mean(self, score: np.ndarray) -> np.ndarray:
        """Return the mean rank over models as a logit, float32 [R, C]; equals share theirs.

        NaN for a species that no model knows.
        """
        rank = np.full(score.shape, np.nan)
        for column in np.flatnonzero(self._known):
            ordered = np.asarray(self.scores[column, : self._known[column]])
            below = np.searchsorted(ordered, score[:, column], "left")
            up_to = np.searchsorted(ordered, score[:, column], "right")
            rank[:, column] = (below + up_to) / 2 / len(ordered)
        rank[np.isnan(score)] = np.nan
        by_model = rank.reshape(-1, self.num_models, self.num_classes)
        with np.errstate(invalid="ignore"):
            mean = np.nansum(by_model, axis=1) / (~np.isnan(by_model)).sum(axis=1)
        return logit(mean).astype(np.float32)


def _reserve(file: int, num_bytes: int, folder: Path) -> None:
    """Have the disk keep room for a file: else a full one would end the process by a signal."""
    if not hasattr(os, "posix_fallocate") or not num_bytes:  # not everywhere
        return
    try:
        os.posix_fallocate(file, 0, num_bytes)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({num_bytes} bytes)", str(folder)) from error

"""Several models as one: their labels aligned by code, their logits combined.

Shapes: W windows, M models, C classes of all models together, N windows of all recordings.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from birdmix.bundle.manifest import Manifest
from birdmix.inference.detections import DEFAULT_THRESHOLD
from birdmix.inference.window_logits import WindowLogits
from birdmix.labels import Labels
from birdmix.text import nfc
from birdmix.windows import logit, probability

# Windows that are combined at a time.
_BLOCK = 256


def union_of_labels(manifests: Sequence[Manifest]) -> Labels:
    """Return the codes of all models, each once, in the order of their first occurrence."""
    species: dict[str, tuple[str, str]] = {}
    for manifest in manifests:
        for code, name in zip(manifest.labels.codes, manifest.labels.names, strict=True):
            species.setdefault(nfc(code), (code, name))
    return Labels(
        tuple(code for code, _ in species.values()), tuple(name for _, name in species.values())
    )


def combine_recording_logits(
    models: Sequence[WindowLogits], combine: str, power: float
) -> np.ndarray:
    """Combine the models' logits of a recording; see ``combine_logits``.

    Each chunk of the models' logits is freed once it is combined, so that memory never holds all
    logits twice.

    Args:
        models: Logits of each model.
        combine: logit, power or rank.
        power: Exponent of combine=power.

    Returns:
        Float32 [W, C], or [W, M, C] with combine=rank.
    """
    # Of two sample rates, one may yield a window more, of few samples.
    num_windows = min(each.num_windows for each in models)
    side_by_side = (len(models),) if combine == "rank" else ()
    combined = np.empty((num_windows, *side_by_side, models[0].num_classes), np.float32)
    done = 0
    for chunks in zip(*(each.pop_chunks() for each in models), strict=False):
        length = min(map(len, chunks))
        for begin in range(0, length, _BLOCK):
            windows = slice(begin, min(begin + _BLOCK, length))
            block = combine_logits([chunk[windows] for chunk in chunks], combine, power)
            combined[done : done + len(block)] = block
            done += len(block)
    return combined


def combine_logits(logits: Sequence[np.ndarray], combine: str, power: float) -> np.ndarray:
    """Return the mean over the models that have a species, as logits.

    Args:
        logits: Of each model, float32 [W, C], NaN for species that it does not have.
        combine: logit; or power: the mean of probabilities to a power, and its root; or rank: the
            logits of all models side by side, to be ranked later.
        power: Exponent of combine=power.

    Returns:
        Float32 [W, C], or [W, M, C] with combine=rank.
    """
    if combine == "rank":
        return np.stack(logits, axis=1)
    if len(logits) == 1:
        return logits[0]
    if combine == "logit":
        return np.asarray(np.nanmean(logits, axis=0, dtype=np.float64), np.float32)
    probabilities = [np.where(np.isnan(each), np.nan, probability(each)) for each in logits]
    mean = np.nanmean(np.power(probabilities, power), axis=0) ** (1 / power)
    return logit(mean).astype(np.float32)


def mean_thresholds(manifests: Sequence[Manifest], labels: Labels) -> np.ndarray | None:
    """Return the mean of the models' thresholds, in logits, as probabilities.

    Args:
        manifests: Of the models.
        labels: The codes of all models.

    Returns:
        Float64 [C]; NaN for a class that is never detected by the models that have thresholds,
        ``DEFAULT_THRESHOLD`` for a class that none of these has. None if no model has thresholds.
    """
    fitted = [each for each in manifests if each.thresholds is not None]
    if not fitted:
        return None
    total, count = np.zeros(len(labels)), np.zeros(len(labels))
    in_fitted = np.zeros(len(labels), bool)
    for manifest in fitted:
        columns = [labels.column(code) for code in manifest.labels.codes]
        values = np.array(manifest.thresholds, np.float64)  # None becomes NaN
        in_fitted[columns] = True
        total[columns] += np.where(np.isnan(values), 0, logit(values).astype(np.float32))
        count[columns] += ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean = probability(total / count)
    return np.where(count > 0, mean, np.where(in_fitted, np.nan, DEFAULT_THRESHOLD))


class Ranks:
    """Ranks of logits among all windows' logits of a species, model by model.

    The logits are kept in an unnamed temporary file, not in memory.

    Args:
        folder: Folder of that file, which is removed with the ranks.
        num_windows: Windows N of all recordings.
        num_models: Models M.
        num_classes: Classes C.

    Raises:
        OSError: If the disk has not enough space for it.
    """

    def __init__(self, folder: Path, num_windows: int, num_models: int, num_classes: int) -> None:
        self.num_models, self.num_classes = num_models, num_classes
        shape = (num_models * num_classes, num_windows)
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve_space(file.fileno(), 4 * shape[0] * shape[1], folder)
            self.columns = np.memmap(file, np.float32, "w+", shape=shape)
        self._num_added = 0
        self._num_known = np.zeros(shape[0], np.int64)  # logits of each column that are not NaN

    def add(self, logits: np.ndarray) -> None:
        """Add the logits of a recording, float32 [W, M, C], NaN for unknown species."""
        columns = logits.reshape(len(logits), -1).T
        self.columns[:, self._num_added : self._num_added + len(logits)] = columns
        self._num_added += len(logits)

    def sort(self) -> None:
        """Sort the columns, once all recordings are added."""
        for number, column in enumerate(np.asarray(self.columns)):
            column.sort()
            self._num_known[number] = np.searchsorted(column, np.nan)  # NaN sorts behind numbers

    def mean_over_models(self, logits: np.ndarray) -> np.ndarray:
        """Return the mean rank over models, in (0, 1), as a logit; ties share their mean rank.

        Args:
            logits: Float32 [W, M, C].

        Returns:
            Float32 [W, C], NaN for a species that no model has.
        """
        logits = logits.reshape(len(logits), -1)
        rank = np.full(logits.shape, np.nan)
        for column in np.flatnonzero(self._num_known):
            ordered = np.asarray(self.columns[column, : self._num_known[column]])
            below = np.searchsorted(ordered, logits[:, column], "left")
            up_to = np.searchsorted(ordered, logits[:, column], "right")
            rank[:, column] = (below + up_to) / 2 / len(ordered)
        rank[np.isnan(logits)] = np.nan
        by_model = rank.reshape(-1, self.num_models, self.num_classes)
        with np.errstate(invalid="ignore"):
            mean = np.nansum(by_model, axis=1) / (~np.isnan(by_model)).sum(axis=1)
        return logit(mean).astype(np.float32)


def _reserve_space(file: int, num_bytes: int, folder: Path) -> None:
    """Reserve disk space for a file: on a full disk, a write to its map would kill the process."""
    if not hasattr(os, "posix_fallocate") or not num_bytes:  # not on every system
        return
    try:
        os.posix_fallocate(file, 0, num_bytes)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({num_bytes} bytes)", str(folder)) from error

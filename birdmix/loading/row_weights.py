"""Weights of rows in random draws: of training recordings per epoch, and of the rows of pools.

Shapes: N rows, C classes.
"""

import numpy as np
import pandas as pd

from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DRAWS_BY_LABEL, DataSettings


def compute_draws_per_epoch(recordings: Recordings, settings: DataSettings) -> np.ndarray:
    """Return the mean number of draws of each row per epoch, float64 [N].

    For all samplers but uniform it depends on the frequency of the row's rarest label, without
    labels whose target is less than half of the row's largest. Rows without labels count as rows of
    one common additional label.

    Args:
        recordings: Table of N rows.
        settings: The settings sampler, cap and segments_per_recording.
    """
    num_labels = np.diff(recordings.ragged_column("label")[0])
    row, label = _main_labels(recordings)
    counts = np.bincount(label, minlength=len(recordings.labels))
    rarest_count = np.where(num_labels > 0, np.inf, (num_labels == 0).sum())
    np.minimum.at(rarest_count, row, counts[label])
    mean_draws = settings.segments_per_recording
    if settings.sampler == "uniform":
        return np.full(len(rarest_count), float(mean_draws))
    if settings.sampler == "capped":
        return mean_draws * np.minimum(1, float(settings.cap or 1) / rarest_count)
    rate = 1 / rarest_count if settings.sampler == "inverse" else 1 / np.sqrt(rarest_count)
    return mean_draws * len(rate) * rate / rate.sum()


def compute_pool_weights(recordings: Recordings, settings: DataSettings, name: str) -> np.ndarray:
    """Return the weight of each row of a pool in random draws, float64 [N].

    Args:
        recordings: Table of the pool, N rows.
        settings: The data settings, with the pool's ``draw``: uniform (all equal); class (the sum
            over the row's classes of 1 / rows of the class); probability (the sum over classes of
            the largest target in the recording, divided by its number of rows); group (1 / sqrt of
            the number of rows of its group). A row's classes are those with at least half of its
            largest target. Sources: probability, the 1st places of BirdCLEF 2025 and 2026; group,
            the 3rd place of 2026.
        name: Name of the pool.

    Raises:
        ValueError: If a draw by labels finds no labels.
    """
    draw = settings.pools[name].draw
    if draw == "uniform":
        return np.ones(len(recordings))
    if draw == "group":
        group, _ = pd.factorize(np.array(recordings.groups, object))
        return 1 / np.sqrt(np.bincount(group)[group])
    assert draw in DRAWS_BY_LABEL
    weights = _class_weights(recordings) if draw == "class" else _probability_weights(recordings)
    if not weights.any():
        raise ValueError(
            f"data.pools.{name}.draw={draw}: none of the pool's {len(recordings)} rows has a "
            "label; use uniform or group"
        )
    return weights


def find_primary_classes(recordings: Recordings) -> np.ndarray:
    """Return the class of each row's largest target, int64 [N]; -1 for a row without labels.

    Of several largest ones it is the first in the order of the label set, as in ``DrawContext``.
    """
    row, label, value = _labels_of_rows(recordings)
    order = np.lexsort((label, -value, row))
    rows, first = np.unique(row[order], return_index=True)
    primary = np.full(len(recordings), -1)
    primary[rows] = label[order][first]
    return primary


def _labels_of_rows(recordings: Recordings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, label and target value of every label of every row."""
    offsets, label = recordings.ragged_column("label")
    row = np.repeat(np.arange(len(recordings)), np.diff(offsets))
    return row, label, recordings.ragged_column("value")[1]


def _main_labels(recordings: Recordings) -> tuple[np.ndarray, np.ndarray]:
    """Return row and label of every label with at least half of the row's largest target."""
    row, label, value = _labels_of_rows(recordings)
    largest = np.zeros(len(recordings))
    np.maximum.at(largest, row, value)
    is_main = value >= largest[row] / 2
    return row[is_main], label[is_main]


def _class_weights(recordings: Recordings) -> np.ndarray:
    row, label = _main_labels(recordings)
    counts = np.bincount(label, minlength=len(recordings.labels))
    return np.bincount(row, weights=1 / counts[label], minlength=len(recordings))


def _probability_weights(recordings: Recordings) -> np.ndarray:
    recording, _ = pd.factorize(np.array(recordings.paths, object))
    num_rows = np.bincount(recording)
    row, label, value = _labels_of_rows(recordings)
    pairs, pair = np.unique(recording[row] * len(recordings.labels) + label, return_inverse=True)
    largest = np.zeros(len(pairs))
    np.maximum.at(largest, pair, value)
    of_recording = pairs // len(recordings.labels)
    sums = np.bincount(of_recording, weights=largest, minlength=len(num_rows))
    return (sums / num_rows)[recording]

"""Data splits: recordings to train on, to validate on, and to mix in."""

import os
import warnings
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from birdmix.recordings.folds import check_splits_disjoint, split_by_fold
from birdmix.recordings.recordings_table import Recordings, SourceRecordings, concatenate
from birdmix.recordings.settings import DataSettings

#: Names of validation sets: held-out recordings, and labelled soundscapes.
HELD_OUT, SOUNDSCAPES = "validation", "validation_soundscape"


@dataclass(frozen=True)
class DataSplits:
    """The splits of a run's data; held-out recordings are neither trained on nor mixed in.

    Attributes:
        train: Recordings to train on.
        validation: Recordings to validate on, by the prefix of their metrics.
        mix_pool: Recordings to mix in (the mix pool), by source.
    """

    train: Recordings
    validation: dict[str, Recordings]
    mix_pool: dict[str, Recordings]


def split_data(
    source: SourceRecordings,
    settings: DataSettings,
    pseudo: Recordings | None = None,
    background: Recordings | None = None,
    excluded: Collection[str] = (),
) -> DataSplits:
    """Split the data of a run; all tables have one root and one label set.

    Args:
        source: The data source.
        settings: Folds and mix pool.
        pseudo: Windows with pseudo labels, to train on unless they are a source of the mix pool.
        background: Recordings without birds.
        excluded: Paths that are excluded from the source, hence from the other tables too.

    Raises:
        ValueError: If a group is both in training and in validation, or a source of the mix pool
            is missing or empty.
    """
    train, held_out, test_paths = _split_recordings(source.recordings, settings)
    validation = {} if held_out is None else {HELD_OUT: held_out}
    soundscapes, pool_soundscapes = _split_soundscapes(source, settings)
    if soundscapes is not None:
        validation[SOUNDSCAPES] = soundscapes
    held_back = {path for recordings in validation.values() for path in recordings.paths}
    held_back |= {*test_paths, *excluded}
    additional = {
        name: _remove_paths(name, recordings, held_back)
        for name, recordings in (("background", background), ("pseudo", pseudo))
    }
    if additional["pseudo"] is not None and "pseudo" not in settings.mix_pool.sources:
        train = concatenate([train, additional["pseudo"]])
    pool = {}
    for name in settings.mix_pool.sources:
        recordings = {**additional, "soundscapes": pool_soundscapes}.get(name)
        if recordings is None or not len(recordings):
            raise ValueError(f"data.mix_pool.sources: this data has no {name} to mix in")
        pool[name] = recordings
    return DataSplits(train, validation, pool)


def _split_recordings(
    recordings: Recordings, settings: DataSettings
) -> tuple[Recordings, Recordings | None, list[str]]:
    """Return recordings to train on, recordings held out, and paths of test recordings.

    The table's column ``split`` decides; without one, the folds do.
    """
    given = recordings.table["split"].to_pylist()
    if any(name is not None for name in given):
        names = np.array(given, object)
        train, held_out, test = (
            recordings.take(names == name) for name in ("train", "validation", "test")
        )
        if not len(train):
            raise ValueError("column 'split': no row is 'train'; mark the rows to train on")
        check_splits_disjoint(train, held_out)
        return train, held_out if len(held_out) else None, test.paths
    if settings.fold is None:
        return recordings, None, []
    return *split_by_fold(recordings, settings.num_folds, settings.fold), []


def _split_soundscapes(
    source: SourceRecordings, settings: DataSettings
) -> tuple[Recordings | None, Recordings | None]:
    """Return the soundscapes to validate on, and those of the mix pool."""
    soundscapes = source.soundscapes
    if soundscapes is None or "soundscapes" not in settings.mix_pool.sources:
        return soundscapes, None
    pool, held_out = split_by_fold(soundscapes, settings.num_folds, settings.fold or 0)
    return held_out, pool


def _remove_paths(
    name: str, recordings: Recordings | None, held_back: Collection[str]
) -> Recordings | None:
    """Remove held-back recordings, comparing real paths (links resolved), with a warning."""
    if recordings is None:
        return None
    root = recordings.root
    real_held_back = {os.path.realpath(root / path) for path in held_back}
    real_paths = {path: os.path.realpath(root / path) for path in set(recordings.paths)}
    kept = np.array([real_paths[path] not in real_held_back for path in recordings.paths], bool)
    if not kept.all():
        warnings.warn(
            f"{name}: {int((~kept).sum())} rows are of recordings for validation or test, or "
            "excluded ones, and are left out",
            stacklevel=2,
        )
    return recordings.take(kept)

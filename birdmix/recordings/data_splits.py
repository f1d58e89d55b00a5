"""Data splits: recordings to train on, to validate on, and of pools."""

import os
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from birdmix.recordings.folds import check_splits_disjoint, split_by_fold
from birdmix.recordings.recordings_table import Recordings, SourceRecordings, concatenate
from birdmix.recordings.settings import DataSettings

#: Names of validation sets: held-out recordings, and labelled soundscapes.
HELD_OUT, SOUNDSCAPES = "validation", "validation_soundscape"


@dataclass(frozen=True)
class DataSplits:
    """The splits of a run's data; no batch of training has held-out recordings.

    Attributes:
        train: Recordings to train on.
        validation: Recordings to validate on, by the prefix of their metrics.
        pools: Recordings of each pool by name, in the order of ``data.pools``.
    """

    train: Recordings
    validation: dict[str, Recordings]
    pools: dict[str, Recordings]


def split_data(
    source: SourceRecordings,
    settings: DataSettings,
    pseudo: Recordings | None = None,
    pool_folders: Mapping[str, Recordings] | None = None,
    excluded: Collection[str] = (),
) -> DataSplits:
    """Split the data of a run; all tables have one root and one label set.

    Args:
        source: The data source.
        settings: Folds and pools.
        pseudo: Windows with pseudo labels, to train on unless a pool has them.
        pool_folders: Recordings of the pools that have a folder of their own, by pool.
        excluded: Paths that are excluded from the source, hence from the other tables too.

    Raises:
        ValueError: If a group is both in training and in validation, or a pool has no recordings.
    """
    train, held_out, test_paths = _split_recordings(source.recordings, settings)
    validation = {} if held_out is None else {HELD_OUT: held_out}
    soundscapes, pool_soundscapes = _split_soundscapes(source, settings)
    if soundscapes is not None:
        validation[SOUNDSCAPES] = soundscapes
    held_back = {path for recordings in validation.values() for path in recordings.paths}
    held_back |= {*test_paths, *excluded}
    held_out_groups = {name for recordings in validation.values() for name in recordings.groups}
    if pseudo is not None:
        pseudo = _remove_paths("pseudo", pseudo, held_back)
        if "pseudo" not in map(settings.pool_source, settings.pools):
            train = concatenate([train, pseudo])
    tables = {"soundscapes": pool_soundscapes, "pseudo": pseudo, "recordings": train}
    pools = {}
    for name in settings.pools:
        pool_source = settings.pool_source(name)
        if pool_folders is not None and name in pool_folders:
            recordings = _remove_paths(f"data.pools.{name}", pool_folders[name], held_back)
            if pool_source == "folder":
                recordings = _remove_groups(name, recordings, held_out_groups)
        else:
            found = tables[pool_source]
            if found is None:
                raise ValueError(
                    f"data.pools.{name}: this data has no {pool_source}; remove the pool"
                )
            recordings = found
        if not len(recordings):
            raise ValueError(
                f"data.pools.{name}: none of its recordings are left to train with; add others, or "
                "remove the pool"
            )
        pools[name] = recordings
    return DataSplits(train, validation, pools)


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
    """Return the soundscapes to validate on, and those of pools."""
    soundscapes = source.soundscapes
    if soundscapes is None or "soundscapes" not in map(settings.pool_source, settings.pools):
        return soundscapes, None
    pool, held_out = split_by_fold(soundscapes, settings.num_folds, settings.fold or 0)
    return held_out, pool


def _remove_paths(name: str, recordings: Recordings, held_back: Collection[str]) -> Recordings:
    """Remove held-back recordings, comparing real paths (links resolved), with a warning."""
    root = recordings.root
    real_held_back = {os.path.realpath(root / path) for path in held_back}
    real_paths = {path: os.path.realpath(root / path) for path in set(recordings.paths)}
    kept = np.array([real_paths[path] not in real_held_back for path in recordings.paths], bool)
    return _take_with_warning(
        name, recordings, kept, "recordings for validation or test, or excluded ones"
    )


def _remove_groups(name: str, recordings: Recordings, held_out: Collection[str]) -> Recordings:
    """Remove labelled recordings of groups that are validated on, with a warning."""
    kept = np.array([group not in held_out for group in recordings.groups], bool)
    return _take_with_warning(f"data.pools.{name}", recordings, kept, "groups for validation")


def _take_with_warning(
    name: str, recordings: Recordings, kept: np.ndarray, others: str
) -> Recordings:
    """Return the rows to keep, bool [N]; warn of the rest, which are of ``others``."""
    if not kept.all():
        warnings.warn(
            f"{name}: {int((~kept).sum())} rows are of {others}, and are left out",
            stacklevel=3,
        )
    return recordings.take(kept)

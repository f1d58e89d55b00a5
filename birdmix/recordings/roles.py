"""Who does what: recordings to train on, to be judged by, and to mix in."""

import os
import warnings
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from birdmix.recordings.folds import refuse_shared, split
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings, concatenated


@dataclass(frozen=True)
class Roles:
    """The parts of a run's data; no recording that is held back trains or is mixed in.

    Attributes:
        train: To train on.
        validation: To be judged by, by the name that begins their metrics.
        pool: To mix in, by source.
    """

    train: Recordings
    validation: dict[str, Recordings]
    pool: dict[str, Recordings]


def deal(
    source: DataSource,
    settings: DataSettings,
    pseudo: Recordings | None = None,
    background: Recordings | None = None,
    excluded: Collection[str] = (),
) -> Roles:
    """Deal out what was read; all tables have one root and one label set.

    Args:
        source: The source.
        settings: Split, folds and pool.
        pseudo: Windows with soft labels; they train, if the pool does not take them.
        background: Recordings without birds.
        excluded: Paths that are left out of the source, and so of the others too.

    Raises:
        ValueError: If one group stands on both sides, or a source of the pool is not there.
    """
    train, held_out, kept_for_tests = _sides(source.recordings, settings)
    validation = {} if held_out is None else {"validation": held_out}
    soundscapes, pooled = _soundscapes(source, settings)
    if soundscapes is not None:
        validation["validation_soundscape"] = soundscapes
    held_back = {path for each in validation.values() for path in each.paths}
    held_back |= {*kept_for_tests, *excluded}
    others = {
        name: _without(name, recordings, held_back)
        for name, recordings in (("background", background), ("pseudo", pseudo))
    }
    if others["pseudo"] is not None and "pseudo" not in settings.pool.sources:
        train = concatenated([train, others["pseudo"]])
    pool = {}
    for name in settings.pool.sources:
        recordings = {**others, "soundscapes": pooled}.get(name)
        if recordings is None or not len(recordings):
            raise ValueError(f"data.pool.sources: this data has no {name} to mix in")
        pool[name] = recordings
    return Roles(train, validation, pool)


def _sides(
    recordings: Recordings, settings: DataSettings
) -> tuple[Recordings, Recordings | None, list[str]]:
    """Return those to train on, those held out, and the paths of those kept for tests.

    As the table says, or else by folds.
    """
    given = recordings.table["split"].to_pylist()
    if any(side is not None for side in given):
        names = np.array(given, object)
        train, held_out, test = (
            recordings.take(names == name) for name in ("train", "validation", "test")
        )
        if not len(train):
            raise ValueError("the column 'split' gives no recording to train on")
        refuse_shared(train, held_out)
        return train, held_out if len(held_out) else None, test.paths
    if settings.fold is None:
        return recordings, None, []
    return *split(recordings, settings.num_folds, settings.fold), []


def _soundscapes(
    source: DataSource, settings: DataSettings
) -> tuple[Recordings | None, Recordings | None]:
    """Return the soundscapes that judge, and those of the pool."""
    soundscapes = source.soundscapes
    if soundscapes is None or "soundscapes" not in settings.pool.sources:
        return soundscapes, None
    pooled, judging = split(soundscapes, settings.num_folds, settings.fold or 0)
    return judging, pooled


def _without(
    name: str, recordings: Recordings | None, held_back: Collection[str]
) -> Recordings | None:
    """Leave out what is held back, whatever path leads to it."""
    if recordings is None:
        return None
    root = recordings.root
    real = {os.path.realpath(root / path) for path in held_back}
    places = {path: os.path.realpath(root / path) for path in set(recordings.paths)}
    kept = np.array([places[path] not in real for path in recordings.paths], bool)
    if not kept.all():
        warnings.warn(
            f"{int((~kept).sum())} rows of {name} are of recordings that validate, test or are "
            "excluded, and are left out",
            stacklevel=2,
        )
    return recordings.take(kept)

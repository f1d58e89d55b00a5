"""Who does what: recordings to train on, to be judged by, and to mix in."""

import warnings
from dataclasses import dataclass

import numpy as np

from birdmix.recordings.folds import refuse_shared, split
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings, concatenated


@dataclass(frozen=True)
class Roles:
    """The parts of a run's data; no recording that judges trains or is mixed in.

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
) -> Roles:
    """Deal out what was read; all tables have one root and one label set.

    Args:
        source: The source.
        settings: Split, folds and pool.
        pseudo: Windows with soft labels; they train, if the pool does not take them.
        background: Recordings without birds.

    Raises:
        ValueError: If one group stands on both sides, or a source of the pool is not there.
    """
    train, held_out = _sides(source.recordings, settings)
    validation = {} if held_out is None else {"validation": held_out}
    pool: dict[str, Recordings | None] = {"background": background}
    soundscapes = source.soundscapes
    if soundscapes is not None and "soundscapes" in settings.pool.sources:
        pool["soundscapes"], soundscapes = split(
            soundscapes, settings.num_folds, settings.fold or 0
        )
    if soundscapes is not None:
        validation["validation_soundscape"] = soundscapes
    if pseudo is not None:
        pseudo = _without_judges(pseudo, validation)
        if "pseudo" in settings.pool.sources:
            pool["pseudo"] = pseudo
        else:
            train = concatenated([train, pseudo])
    chosen = {}
    for name in settings.pool.sources:
        recordings = pool.get(name)
        if recordings is None or not len(recordings):
            raise ValueError(f"data.pool.sources: this data has no {name} to mix in")
        chosen[name] = recordings
    return Roles(train, validation, chosen)


def _sides(recordings: Recordings, settings: DataSettings) -> tuple[Recordings, Recordings | None]:
    """Return those to train on and those held out: as the table says, or else by folds."""
    given = np.array(recordings.table["split"].to_pylist(), object)
    if (given != None).any():  # noqa: E711
        train, held_out = (recordings.take(given == name) for name in ("train", "validation"))
        if not len(train):
            raise ValueError("the column 'split' gives no recording to train on")
        refuse_shared(train, held_out)
        return train, held_out if len(held_out) else None
    if settings.fold is None:
        return recordings, None
    return split(recordings, settings.num_folds, settings.fold)


def _without_judges(pseudo: Recordings, validation: dict[str, Recordings]) -> Recordings:
    """Leave out windows of recordings that the run is judged by."""
    judges = {path for each in validation.values() for path in each.paths}
    kept = np.array([path not in judges for path in pseudo.paths], bool)
    if not kept.all():
        warnings.warn(
            f"{int((~kept).sum())} pseudo-labelled windows are of recordings that validate, and "
            "are left out",
            stacklevel=2,
        )
    return pseudo.take(kept)

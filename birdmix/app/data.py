"""A run's data: read, opened, dealt out and told."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.app.console import progress, say, warn
from birdmix.labels import Labels
from birdmix.loading.store import Store, open_store
from birdmix.recordings.demo import ensure_demo
from birdmix.recordings.folds import labels_in_few_groups
from birdmix.recordings.pseudo import read_pseudo
from birdmix.recordings.readers import excluded_of, read_background, read_source
from birdmix.recordings.roles import Roles, deal
from birdmix.recordings.settings import DataSettings, DemoSettings
from birdmix.recordings.table import DataSource, Recordings, concatenated
from birdmix.suggest import first_few
from birdmix.training.processes import Processes


@dataclass(frozen=True)
class Data(Roles):
    """A run's data.

    Attributes:
        store: Where the samples of all of them come from.
    """

    store: Store

    @property
    def labels(self) -> Labels:
        """The label set."""
        return self.train.labels


def open_data(settings: DataSettings, sample_rate: int, processes: Processes | None = None) -> Data:
    """Read the recordings, split them and open them; the demo is made first if need be."""
    if settings.source == "demo" and settings.root is not None:
        if processes is None or processes.is_first:
            _make_demo(Path(settings.root), settings.demo)
        if processes is not None:
            processes.gather(None)  # the others wait until it is made
    source = read_source(settings)
    root, labels = source.recordings.root, source.recordings.labels
    others: list[Recordings | None] = [source.soundscapes, None, None]
    if settings.pseudo.table is not None:
        others[1] = read_pseudo(settings.pseudo, labels, settings.follow_links).rebased(root)
    if "background" in settings.pool.sources:
        others[2] = read_background(settings, labels).rebased(root)
    tables = [source.recordings, *others]
    paths = [path for table in tables if table is not None for path in table.paths]
    with progress("opening recordings") as on_progress:
        store, bad = open_store(root, paths, settings, sample_rate, on_progress)
    recordings, soundscapes, pseudo, background = (_but(bad, table) for table in tables)
    assert recordings is not None
    found = DataSource(recordings, soundscapes)
    roles = deal(found, settings, pseudo, background, excluded_of(settings))
    _tell(roles, settings)
    return Data(roles.train, roles.validation, roles.pool, store)


def _but(bad: set[str], recordings: Recordings | None) -> Recordings | None:
    if recordings is None or not bad:
        return recordings
    return recordings.take(np.array([path not in bad for path in recordings.paths], bool))


def _make_demo(root: Path, settings: DemoSettings) -> None:
    with progress("singing the demo") as on_progress:
        if ensure_demo(root, settings, on_progress):
            say(f"made a demo of synthetic birds in {root}")


def _tell(roles: Roles, settings: DataSettings) -> None:
    """Say what is there, and what is rare."""
    train = roles.train
    parts = [f"{len(train)} recordings of {len(train.labels)} classes to train on"]
    words = {
        "validation": "held out",
        "validation_soundscape": "labelled soundscape windows",
    }
    parts += [f"{len(each)} {words[name]}" for name, each in roles.validation.items()]
    parts += [f"{len(each)} of {name} to mix in" for name, each in roles.pool.items()]
    say(", ".join(parts))
    _warn_of_no_negatives(train, settings)
    none = train.label_counts() == 0
    _tell_labels("no recording to train on for", train, none, "birdmix doctor")
    held_out = roles.validation.get("validation")
    if held_out is not None:
        absent = (held_out.label_counts() == 0) & (train.label_counts() > 0)
        what = "no recording held out, so no figure of its own, for"
        _tell_labels(what, train, absent, "truth:LABEL in out_of_fold.parquet")
        few = labels_in_few_groups(concatenated([train, held_out]), settings.num_folds)
        if few:
            say(
                f"in fewer groups than there are folds: {len(few)} classes: "
                f"{first_few(few, 5, 'birdmix doctor')}"
            )


def _warn_of_no_negatives(train: Recordings, settings: DataSettings) -> None:
    """Say if no segment will tell that a label is absent."""
    spans = train.ragged("annotated")[1]
    if settings.annotated == "whole_file" or not train.has_events:
        return
    if not (spans["end"] - spans["start"] >= settings.segment_seconds).any():
        warn(
            f"nothing that was looked at is as long as a segment ({settings.segment_seconds:g} s), "
            "so no label is ever known to be absent; set data.annotated to whole_file or to a "
            "table of what was looked through, or lower data.segment_seconds"
        )


def _tell_labels(what: str, recordings: Recordings, labels: np.ndarray, whole: str) -> None:
    codes = [recordings.labels.codes[column] for column in np.flatnonzero(labels)]
    if codes:
        say(f"{what} {len(codes)} classes: {first_few(codes, 5, whole)}")

"""The data of a run: recordings read, split by use, and opened for decoding.

Shapes: N rows, C classes.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from birdmix.labels import Labels
from birdmix.loading.audio_store import AudioStore, open_store
from birdmix.messages import first_few
from birdmix.recordings.data_splits import HELD_OUT, SOUNDSCAPES, DataSplits, split_data
from birdmix.recordings.demo import ensure_demo
from birdmix.recordings.folds import labels_in_few_groups
from birdmix.recordings.metadata import assign_groups_by_name
from birdmix.recordings.pseudo_labels import read_pseudo_labels
from birdmix.recordings.recordings_table import Recordings, SourceRecordings, concatenate
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_exclude_list, read_pool_folder, read_source
from birdmix.threads import OnItemDone, OpenBar

#: Names of validation data by the prefix of their metrics, for messages.
_VALIDATION_NAMES = {
    HELD_OUT: "held out",
    SOUNDSCAPES: "labelled soundscape windows",
}


@dataclass(frozen=True)
class RunData(DataSplits):
    """The data of a run.

    Attributes:
        store: The samples of all recordings.
    """

    store: AudioStore

    @property
    def labels(self) -> Labels:
        """The label set, C classes."""
        return self.train.labels

    @cached_property
    def batch_rows(self) -> Recordings:
        """The rows that batches are drawn from: the training table, then the table of each pool.

        ``DrawContext.row`` and the keys of segments are row numbers in this table.
        """
        return concatenate([self.train, *self.pools.values()]) if self.pools else self.train

    @property
    def digests(self) -> list[str]:
        """Digest of each table of recordings: training data, pools, validation data."""
        tables = (self.train, *self.pools.values(), *self.validation.values())
        return [recordings.digest() for recordings in tables]

    @property
    def first_rows(self) -> dict[str, int]:
        """Number of the first row of each pool in ``batch_rows``."""
        sizes = [len(self.train), *map(len, self.pools.values())]
        return dict(zip(self.pools, np.cumsum(sizes).tolist(), strict=False))


def open_hidden_bar(description: str) -> AbstractContextManager[OnItemDone]:
    """Return a progress bar that is not shown.

    Args:
        description: Description; not used.
    """
    return nullcontext(lambda done, total: None)


def make_demo_if_missing(
    settings: DataSettings, open_bar: OpenBar = open_hidden_bar
) -> Path | None:
    """Make the demo data set if it is the data source and not complete yet.

    Args:
        settings: The data settings.
        open_bar: Opens a progress bar.

    Returns:
        The folder of the demo if it was made now, else None.

    Raises:
        ValueError: If the folder holds a file that birdmix did not write.
    """
    if settings.source != "demo" or settings.root is None:
        return None
    root = Path(settings.root)
    with open_bar("making the demo") as on_progress:
        return root if ensure_demo(root, settings.demo, on_progress) else None


def open_data(
    settings: DataSettings, sample_rate: int, open_bar: OpenBar = open_hidden_bar
) -> RunData:
    """Read the tables of a data source, split them, and open the recordings.

    The demo is made first if it is absent. Recordings that yield no samples are left out.

    Args:
        settings: The data settings.
        sample_rate: Sample rate of the segments in Hz.
        open_bar: Opens a progress bar.

    Raises:
        ValueError: If a table or a recording is wrong; the message names it.
    """
    make_demo_if_missing(settings, open_bar)
    source = read_source(settings)
    root, labels = source.recordings.root, source.recordings.labels

    def place(recordings: Recordings) -> Recordings:
        """Return recordings of another folder with paths relative to the root, in groups."""
        recordings = recordings.with_paths_relative_to(root)
        groups = assign_groups_by_name(recordings.paths, settings.group_by, settings.group_pattern)
        return recordings.with_groups(groups)

    pseudo = None
    if settings.pseudo.table is not None:
        pseudo = place(read_pseudo_labels(settings.pseudo, labels, settings.follow_links))
    pool_folders = {
        name: place(read_pool_folder(settings, name, labels))
        for name, pool in settings.pools.items()
        if pool.root is not None
    }
    tables = [source.recordings, source.soundscapes, pseudo, *pool_folders.values()]
    paths = [path for table in tables if table is not None for path in table.paths]
    with open_bar("opening recordings") as on_progress:
        store, unreadable = open_store(root, paths, settings, sample_rate, on_progress)

    def drop_unreadable(recordings: Recordings) -> Recordings:
        is_readable = [path not in unreadable for path in recordings.paths]
        return recordings.take(np.array(is_readable, bool)) if unreadable else recordings

    soundscapes = source.soundscapes
    splits = split_data(
        SourceRecordings(
            drop_unreadable(source.recordings),
            None if soundscapes is None else drop_unreadable(soundscapes),
        ),
        settings,
        None if pseudo is None else drop_unreadable(pseudo),
        {name: drop_unreadable(table) for name, table in pool_folders.items()},
        read_exclude_list(settings),
    )
    return RunData(splits.train, splits.validation, splits.pools, store)


def describe_data(data: DataSplits, settings: DataSettings) -> Iterator[str]:
    """Yield lines about a run's data: numbers of recordings, and classes with few of them.

    Args:
        data: The data of a run.
        settings: The data settings.
    """
    train = data.train
    parts = [f"{len(train)} recordings of {len(train.labels)} classes to train on"]
    parts += [f"{len(table)} {_VALIDATION_NAMES[name]}" for name, table in data.validation.items()]
    parts += [f"{len(table)} in pool {name}" for name, table in data.pools.items()]
    yield ", ".join(parts)
    absent = train.label_target_sums() == 0
    yield from _describe_classes("no training recording for", train, absent, "birdmix doctor")
    held_out = data.validation.get(HELD_OUT)
    if held_out is None:
        return
    not_held_out = (held_out.label_target_sums() == 0) & (train.label_target_sums() > 0)
    problem = "no held-out recording, hence no metric, for"
    yield from _describe_classes(problem, train, not_held_out, "truth:LABEL in out_of_fold.parquet")
    few = labels_in_few_groups(concatenate([train, held_out]), settings.num_folds)
    if few:
        yield (
            f"in fewer groups than there are folds: {len(few)} classes: "
            f"{first_few(few, 5, 'birdmix doctor')}"
        )


def describe_missing_negatives(train: Recordings, settings: DataSettings) -> str:
    """Return a warning if no label is known to be absent in any segment, else ""."""
    spans = train.ragged_column("annotated")[1]
    if settings.annotated == "whole_file" or not train.has_any_events:
        return ""
    if (spans["end"] - spans["start"] >= settings.segment_seconds).any():
        return ""
    return (
        f"no annotated span is as long as a segment ({settings.segment_seconds:g} s), so no "
        "label is ever known to be absent; set data.annotated to whole_file or to a table of "
        "the annotated spans, or lower data.segment_seconds"
    )


def _describe_classes(
    problem: str, recordings: Recordings, labels: np.ndarray, complete_list: str
) -> Iterator[str]:
    """Yield a line that lists classes with a problem; nothing if there are none.

    Args:
        problem: Beginning of the line.
        recordings: Recordings, for the label set.
        labels: Which classes have the problem, bool [C].
        complete_list: Where all of them are listed.
    """
    codes = [recordings.labels.codes[column] for column in np.flatnonzero(labels)]
    if codes:
        yield f"{problem} {len(codes)} classes: {first_few(codes, 5, complete_list)}"

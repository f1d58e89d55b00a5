"""The data settings: where recordings come from, how they are split and how they are loaded."""

import re
from dataclasses import dataclass, field

from birdmix.recordings.demo import DemoSettings
from birdmix.suggest import check_choice

SOURCES = ("demo", "folder", "csv", "birdclef")


@dataclass
class DataSettings:
    """Recordings and the way to batches.

    Attributes:
        source: demo, folder, csv or birdclef; chosen by the group, ``data=folder``.
        root: Folder of the recordings (for csv: null is the table's own folder).
        table: CSV of path, labels and optionally group, weight, start, end (seconds).
        group_pattern: Regular expression found in a file's name; its first group, or the whole
            match, is the recording's group. For sources that give none.
        secondary_value: Target of a secondary label, in [0, 1].
        num_folds: Folds that the recordings are split into, by group and stratified by label.
        fold: Fold held out for validation; null trains on everything.
        segment_seconds: Length of a training segment.
        segments_per_recording: Segments drawn from each recording in an epoch.
        batch_size: Segments in a batch.
        drop_last: Whether an epoch's last, short batch is left out.
        num_workers: Loader processes; 0 loads in the training process.
        memory_gib: Recordings are decoded once and kept in memory (16 bit) if they fit into this;
            otherwise segments are read from disk each time.
        max_bad_fraction: Share of recordings that may yield no samples before a run refuses.
        demo: The demo that ``data=demo`` makes.
    """

    source: str = "demo"
    root: str | None = None
    table: str | None = None
    group_pattern: str | None = None
    secondary_value: float = 0.9
    num_folds: int = 5
    fold: int | None = 0
    segment_seconds: float = 5.0
    segments_per_recording: int = 1
    batch_size: int = 32
    drop_last: bool = True
    num_workers: int = 0
    memory_gib: float = 4.0
    max_bad_fraction: float = 0.05
    demo: DemoSettings = field(default_factory=DemoSettings)

    def __post_init__(self) -> None:
        check_choice("source", self.source, SOURCES)
        for name in ("num_folds", "segments_per_recording", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        for name in ("secondary_value", "max_bad_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1]")
        if self.num_workers < 0:
            raise ValueError(f"num_workers={self.num_workers}: it cannot be negative")
        if not self.segment_seconds > 0:
            raise ValueError(f"segment_seconds={self.segment_seconds}: it must be above 0")
        if self.fold is not None and self.num_folds < 2:
            raise ValueError(f"num_folds={self.num_folds}: at least 2, or no fold: data.fold=null")
        if self.table is not None and self.source != "csv":
            raise ValueError(f"table={self.table}: only data=csv reads a table")
        if self.group_pattern is not None:
            try:
                re.compile(self.group_pattern)
            except re.error as error:
                raise ValueError(
                    f"group_pattern={self.group_pattern!r} is no regular expression: {error}"
                ) from error
        if self.fold is not None and not 0 <= self.fold < self.num_folds:
            raise ValueError(
                f"fold={self.fold}: it is one of 0 .. {self.num_folds - 1} (num_folds - 1), or null"
            )

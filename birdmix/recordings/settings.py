"""The data settings: where recordings come from, how they are split and how they are loaded."""

import re
from dataclasses import dataclass, field
from typing import Any

from birdmix.recordings.columns import GROUPS, SECONDARY
from birdmix.suggest import check_choice

SOURCES = ("demo", "folder", "csv", "birdclef", "selections")
CHOICES = ("random", "start", "energy", "event")
SHORT = ("loop", "pad", "gaps")
SAMPLERS = ("uniform", "inverse", "sqrt", "capped")
CACHES = ("memory", "pcm", "none")
POOLS = ("background", "soundscapes", "pseudo")


@dataclass
class DemoSettings:
    """What the demo holds and how hard it is.

    Attributes:
        seed: Seed of every random choice.
        recordings_per_species: Focal recordings of each of the 12 species.
        validation_soundscapes: Labelled soundscapes of 60 s to validate on.
        test_soundscapes: Soundscapes of 60 s to test on.
        snr_min_db: Lowest ratio of song to background in soundscapes, in dB.
        snr_max_db: Highest ratio of song to background in soundscapes, in dB.
        individual_spread: Factor on how much birds of a species differ in pitch and pace; 0: alike.
        num_threads: Threads to make it with; they do not change what is made.

    Raises:
        ValueError: If a value is out of range.
    """

    seed: int = 0
    recordings_per_species: int = 24
    validation_soundscapes: int = 8
    test_soundscapes: int = 16
    snr_min_db: float = -5.0
    snr_max_db: float = 20.0
    individual_spread: float = 1.0
    num_threads: int = 2

    def __post_init__(self) -> None:
        for name in ("recordings_per_species", "validation_soundscapes", "test_soundscapes"):
            if not 1 <= getattr(self, name) <= 9999:
                raise ValueError(f"{name} must be between 1 and 9999, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {self.num_threads}")
        if not 0 <= self.individual_spread <= 3:
            raise ValueError(
                f"individual_spread must be between 0 and 3, got {self.individual_spread}"
            )
        if not -40 <= self.snr_min_db <= self.snr_max_db <= 40:
            raise ValueError(
                "snr_min_db must not exceed snr_max_db, both between -40 and 40, "
                f"got {self.snr_min_db} and {self.snr_max_db}"
            )


@dataclass
class PseudoSettings:
    """Soft labels of an earlier model: to train on, or to mix in if ``data.pool`` takes them.

    Attributes:
        table: ``scores.csv`` or ``scores.parquet`` of ``birdmix predict``; null: none.
        root: Folder that was listened to; null is the table's own.
        threshold: Probabilities below it are no label.
        cap: The labels of a window add up to this at most, scaled down alike; null: no cap.
        weight: Weight of each window in the loss.
    """

    table: str | None = None
    root: str | None = None
    threshold: float = 0.05
    cap: float | None = 0.75
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold={self.threshold}: it lies in [0, 1)")
        if self.cap is not None and not self.cap > 0:
            raise ValueError(f"cap={self.cap}: it must be above 0; null sets none")
        if not self.weight >= 0:
            raise ValueError(f"weight={self.weight}: it cannot be negative")


@dataclass
class PoolSettings:
    """Recordings that are only mixed in: each batch brings some for ``mix.inject``.

    Attributes:
        sources: Any of background (recordings without birds), soundscapes (the source's labelled
            ones, but for a fold that is validated on) and pseudo (``data.pseudo``).
        background: Folder of the background.
        size: Segments a batch brings, cut anywhere and looped if they are too short; null is as
            many as the batch itself.
    """

    sources: list[str] = field(default_factory=list)
    background: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for name in self.sources:
            check_choice("sources", name, POOLS)
        if ("background" in self.sources) is not (self.background is not None):
            raise ValueError(
                f"background={self.background}: it names the folder of sources=[background]"
            )
        if self.size is not None and not self.sources:
            raise ValueError(f"size={self.size}: there is no pool; set sources")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size={self.size}: it must be at least 1; sources=[] is no pool")


@dataclass
class DataSettings:
    """Recordings and the way to batches.

    Attributes:
        source: demo, folder, csv, birdclef or selections; chosen by the group, ``data=folder``.
        root: Folder of the recordings (null: the table's own folder).
        table: For csv: path, labels and more. For selections: path, start, end and label.
        exclude: List of recordings to leave out, a path in each line (``birdmix doctor`` makes it).
        follow_links: Whether links may lead out of the root.
        label_separator: For folder: what joins several labels in a folder's name; null: nothing.
        negative: For folder: names of folders in which there is no bird.
        group_by: What stands on one side of a split only: group, recordist, site, date or
            recording; auto is the first of them that the source has.
        group_pattern: Regular expression found in a file's name; its first group, or the whole
            match, is the recording's group. For sources that give none.
        secondary: Secondary labels are positive, soft, unknown (left out of the loss) or ignored
            (ignore).
        secondary_value: Target of a soft secondary label, in [0, 1].
        label_column: For selections: column of the labels; null: the one that is named like it.
        label_map: For selections: CSV of name and code; null: names are codes.
        annotated: For selections: where somebody has looked for events, so that silence is none:
            whole_file, events (only where one was marked), or a CSV of path, start and end.
        min_overlap_seconds: An event is in a segment that holds this much of it, or all of it;
            with less of it the segment's label is unknown.
        num_folds: Folds that the recordings are split into, by group and stratified by labels.
        fold: Fold held out for validation; null trains on everything.
        segment_seconds: Length of a training segment.
        segment: Where it is cut: random, from the start, by energy (of four places, the louder the
            likelier) or around an event.
        short: What fills up a recording that is shorter: loop, pad (silence around it) or gaps
            (repeated with silence between).
        self_sum_seconds: Recordings with several labels add up their consecutive segments over
            this many seconds, so that each holds more of what is labelled; null: none does.
        segments_per_recording: Segments drawn from a recording in an epoch, on average.
        sampler: How often a recording comes up: uniform; inverse or sqrt, by the frequency (or its
            root) of its rarest label; capped, less often if its rarest label has more than ``cap``
            recordings, so that ``cap`` of them come up in an epoch.
        cap: For sampler=capped.
        augment: Transforms of segments before they are mixed, by the name of their class:
            ``[{_target_: audiomentations.Gain, p: 0.5}]``.
        augment_mixed: Transforms of waveforms after they are mixed; on a GPU they are fetched.
        batch_size: Segments in a batch.
        drop_last: Whether an epoch's last, short batch is left out.
        num_workers: Loader processes; 0 loads in the training process.
        cache: memory decodes once and keeps what fits into ``memory_gib``; pcm decodes once into
            files of 16-bit samples, which later runs read again; none reads the recordings.
        cache_dir: Folder of these files.
        memory_gib: Memory for recordings in 16 bit; if they do not fit, segments are read from
            disk each time.
        max_bad_fraction: Share of recordings that may yield no samples before a run refuses.
        pseudo: Soft labels of an earlier model.
        pool: Recordings that are only mixed in.
        demo: The demo that ``data=demo`` makes.
    """

    source: str = "demo"
    root: str | None = None
    table: str | None = None
    exclude: str | None = None
    follow_links: bool = False
    label_separator: str | None = None
    negative: list[str] = field(default_factory=list)
    group_by: str = "auto"
    group_pattern: str | None = None
    secondary: str = "soft"
    secondary_value: float = 0.9
    label_column: str | None = None
    label_map: str | None = None
    annotated: str = "whole_file"
    min_overlap_seconds: float = 0.2
    num_folds: int = 5
    fold: int | None = 0
    segment_seconds: float = 5.0
    segment: str = "random"
    short: str = "loop"
    self_sum_seconds: float | None = None
    segments_per_recording: int = 1
    sampler: str = "uniform"
    cap: int | None = None
    augment: list[dict[str, Any]] = field(default_factory=list)
    augment_mixed: list[dict[str, Any]] = field(default_factory=list)
    batch_size: int = 32
    drop_last: bool = True
    num_workers: int = 0
    cache: str = "memory"
    cache_dir: str = "data/cache"
    memory_gib: float = 4.0
    max_bad_fraction: float = 0.05
    pseudo: PseudoSettings = field(default_factory=PseudoSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    demo: DemoSettings = field(default_factory=DemoSettings)

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_numbers()
        self._check_together()

    def _check_choices(self) -> None:
        check_choice("source", self.source, SOURCES)
        check_choice("group_by", self.group_by, ("auto", *GROUPS))
        check_choice("secondary", self.secondary, SECONDARY)
        check_choice("segment", self.segment, CHOICES)
        check_choice("short", self.short, SHORT)
        check_choice("sampler", self.sampler, SAMPLERS)
        check_choice("cache", self.cache, CACHES)

    def _check_numbers(self) -> None:
        for name in ("num_folds", "segments_per_recording", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        for name in ("secondary_value", "max_bad_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1]")
        for name in ("num_workers", "min_overlap_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it cannot be negative")
        if not self.segment_seconds > 0:
            raise ValueError(f"segment_seconds={self.segment_seconds}: it must be above 0")
        if self.self_sum_seconds is not None and self.self_sum_seconds < self.segment_seconds:
            raise ValueError(
                f"self_sum_seconds={self.self_sum_seconds}: it is not below segment_seconds; null "
                "sums nothing"
            )

    def _check_together(self) -> None:
        if self.group_pattern is not None:
            try:
                re.compile(self.group_pattern)
            except re.error as error:
                raise ValueError(
                    f"group_pattern={self.group_pattern!r} is no regular expression: {error}"
                ) from error
        if (self.cap is None) is (self.sampler == "capped") or (self.cap or 1) < 1:
            raise ValueError(f"cap={self.cap}: a number of recordings, for sampler=capped alone")
        if self.fold is not None and self.num_folds < 2:
            raise ValueError(f"num_folds={self.num_folds}: at least 2, or no fold: data.fold=null")
        if self.fold is not None and not 0 <= self.fold < self.num_folds:
            raise ValueError(
                f"fold={self.fold}: it is one of 0 .. {self.num_folds - 1} (num_folds - 1), or null"
            )
        if "pseudo" in self.pool.sources and self.pseudo.table is None:
            raise ValueError("pool.sources=pseudo needs data.pseudo.table=FILE")

"""Settings of ``data``: data source, splits, pools, segments, sampler and loading."""

import re
from dataclasses import dataclass, field
from typing import Any

from birdmix.messages import check_choice, did_you_mean
from birdmix.recordings.metadata import GROUPS, SECONDARY

SOURCES = ("demo", "folder", "csv", "birdclef", "selections")
#: Sources that may have a validation set without a fold: soundscapes, or a column ``split``.
SOURCES_WITH_SPLITS = ("demo", "csv", "birdclef")
#: Sources that may have labelled soundscapes.
SOURCES_WITH_SOUNDSCAPES = ("demo", "birdclef")
SEGMENT_POSITIONS = ("random", "start", "energy", "event")
FILL_METHODS = ("loop", "pad", "gaps")
SAMPLERS = ("uniform", "inverse", "sqrt", "capped")
CACHES = ("memory", "pcm", "none")
POOL_SOURCES = ("background", "soundscapes", "pseudo", "recordings", "folder")
#: Sources of pools that have a folder of their own.
_POOL_SOURCES_WITH_ROOT = ("background", "folder")
DRAWS = ("uniform", "class", "probability", "group")
#: Draws whose weights come from labels.
DRAWS_BY_LABEL = ("class", "probability")


@dataclass
class DemoSettings:
    """Size and difficulty of the demo.

    Attributes:
        seed: Seed of all random choices.
        recordings_per_species: Number of focal recordings of each of the 12 species.
        validation_soundscapes: Number of labelled soundscapes of 60 s to validate on.
        test_soundscapes: Number of soundscapes of 60 s to test on.
        snr_min_db: Lowest signal-to-noise ratio of a song in soundscapes, in dB.
        snr_max_db: Highest signal-to-noise ratio of a song in soundscapes, in dB.
        individual_spread: Factor for differences in pitch and tempo between birds of a species, in
            [0, 3]; 0 makes them equal.
        num_processes: Most processes that make the demo, with at least 300 s of sound each, or
            threads if it is smaller; they do not change the result. None is one for each processor.

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
    num_processes: int | None = None

    def __post_init__(self) -> None:
        for name in ("recordings_per_species", "validation_soundscapes", "test_soundscapes"):
            if not 1 <= getattr(self, name) <= 9999:
                raise ValueError(f"{name} must be between 1 and 9999, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.num_processes is not None and self.num_processes < 1:
            raise ValueError(f"num_processes must be at least 1, got {self.num_processes}")
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
    """Pseudo labels: probabilities predicted by an earlier model, used as soft labels.

    Their windows are trained on, unless they are a pool of ``data.pools``.

    Attributes:
        table: ``probabilities.csv`` or ``probabilities.parquet`` of ``birdmix predict``; null: no
            pseudo labels.
        root: Folder of the predicted recordings; null: the table's folder.
        threshold: Probabilities below this become 0, in [0, 1).
        cap: Maximum sum of a window's probabilities, which are scaled down by a common factor if
            they exceed it; null: no maximum.
        weight: Weight of each window in the loss.

    Raises:
        ValueError: If a value is out of range.
    """

    table: str | None = None
    root: str | None = None
    threshold: float = 0.05
    cap: float | None = 0.75
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold={self.threshold}: it must be in [0, 1)")
        if self.cap is not None and not self.cap > 0:
            raise ValueError(f"cap={self.cap}: it must be above 0, or null for no cap")
        if not self.weight >= 0:
            raise ValueError(f"weight={self.weight}: it must not be negative")


@dataclass
class PoolSettings:
    """A pool: a second source of segments beside the training recordings.

    Its segments are mixed into batches (config group ``mix``), are a part of each batch
    (``data.batch_shares``), or replace training examples (``data.substitution``). Segments to mix
    in have random positions and are looped if too short.

    Attributes:
        source: background (recordings without labels), soundscapes (labelled soundscapes of the
            data source, except one fold to validate on), pseudo (windows of ``data.pseudo``),
            recordings (the training recordings) or folder (a folder for each class); null: the
            pool's name.
        root: Folder of a background or folder pool.
        size: Segments per batch of all processes, if the pool is mixed in; null: as many as
            ``data.batch_size``.
        draw: How often a row is drawn: uniform (each once before any twice); class (each class
            equally often); probability (each recording in proportion to the sum of its classes'
            largest targets, then any of its rows); group (each row in proportion to 1 / sqrt of
            the number of rows of its group).

    Raises:
        ValueError: If a value is unknown or out of range.
    """

    source: str | None = None
    root: str | None = None
    size: int | None = None
    draw: str = "uniform"

    def __post_init__(self) -> None:
        if self.source is not None:
            check_choice("source", self.source, POOL_SOURCES)
        check_choice("draw", self.draw, DRAWS)
        if self.size is not None and self.size < 1:
            raise ValueError(f"size={self.size}: it must be at least 1")


@dataclass
class SubstitutionSettings:
    """Substitution: training examples are replaced by windows of a pool with the same class.

    The class of an example or window is that of its largest target, the first in the order of the
    labels if several are largest. Examples whose class has no window stay.

    Attributes:
        pool: Pool of ``data.pools`` that has the windows; null: none.
        prob: Probability that an example is replaced, in [0, 1].

    Raises:
        ValueError: If the probability is out of range, or above 0 without a pool.
    """

    pool: str | None = None
    prob: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob={self.prob}: it must be in [0, 1]")
        if self.prob and self.pool is None:
            raise ValueError(f"prob={self.prob}: set pool to the pool that has the windows")


@dataclass
class DataSettings:
    """Settings of the data, from recordings to batches.

    Attributes:
        source: Data source: demo, folder, csv, birdclef or selections; set it with ``data=SOURCE``.
        root: Folder of the recordings; null: the folder of ``table``.
        table: For csv: table with the columns path, labels and optional others. For selections:
            table with the columns path, start, end and label.
        exclude: Text file with the paths of recordings to leave out, one per line (``birdmix
            doctor`` writes one).
        follow_links: Whether links may lead out of ``root``.
        label_separator: For folder: separator of several labels in a folder's name; null: a folder
            has one label.
        negative: For folder: names of the folders whose recordings have no label.
        group_by: What must not be in both training and validation: group, recordist, site, date or
            recording; auto: the first of them that the source has.
        group_pattern: For sources without a column group: regular expression searched in file
            names; its first group, or else the whole match, is the recording's group.
        secondary: Treatment of secondary labels: positive (target 1), soft (target
            ``secondary_value``), unknown (left out of the loss) or ignore (target 0). With the
            last two a CSV's classes are those of the column ``labels``.
        secondary_value: Target of a soft secondary label, in [0, 1].
        label_column: For selections: column of the labels; null: the only column with a common
            name, such as label or species.
        label_map: For selections: CSV with the columns name and code that maps annotated names to
            label codes; null: the names are the codes.
        annotated: For selections: spans that were annotated, where labels without an event are
            known to be absent; elsewhere they are unknown. whole_file: all of each recording;
            events: only the events themselves; or a CSV with the columns path, start and end.
        min_overlap_seconds: Overlap of an event with a segment, in seconds, from which on the
            segment has its label; an event that lies within the segment always counts. With a
            smaller overlap the label is unknown.
        num_folds: Number of folds, split by group and stratified by labels.
        fold: Fold held out for validation; null: train on all recordings.
        segment_seconds: Length of a training segment in seconds.
        segment: Position of training segments: random, start (of the recording), energy (the
            louder of four random positions are more likely) or event (around a random event).
        short: How recordings shorter than a segment are filled up: loop (repeated), pad (silence
            around them) or gaps (repeated with silence between).
        self_sum_seconds: For recordings with several labels: sum the consecutive segments of this
            many seconds, so that the sum holds more of the labelled sounds; null: off.
        segments_per_recording: Mean number of segments drawn from a recording per epoch.
        sampler: How often a recording is drawn: uniform; inverse or sqrt: by the inverse frequency
            of its rarest label, or the root of it; capped: about ``cap`` times per epoch for all
            recordings of a label with more than ``cap`` recordings.
        cap: For sampler=capped: number of recordings per label and epoch.
        augment: Transforms of segments by audiomentations, before mixing and in the loader's
            processes: ``[{_target_: audiomentations.Gain, p: 0.5}]``. The group ``augment`` has
            those of mixed batches on the training device.
        batch_size: Number of segments in a batch.
        drop_last: Whether to leave out an epoch's last batch if it is incomplete.
        num_workers: Number of loader processes; 0: load in the training process.
        cache: memory: decode all recordings once and keep them in memory, if they fit into
            ``memory_gib``; pcm: decode once into 16-bit files, which later runs reuse; none: decode
            each segment from its recording.
        cache_dir: Folder of the files of cache=pcm.
        memory_gib: For cache=memory: memory for decoded recordings (16 bit) in GiB; if they need
            more, segments are decoded from disk.
        max_bad_fraction: Fraction of recordings that may be unreadable before a run stops, in
            [0, 1].
        pseudo: Pseudo labels of an earlier model.
        pools: Further sources of segments, by names of your choice.
        batch_shares: Share of each batch that is segments of a pool, by name of the pool; they are
            trained on like training recordings, which fill the rest of the batch.
        substitution: Replacement of training examples by windows of a pool.
        demo: Demo data set that ``data=demo`` makes.

    Raises:
        ValueError: If a value is unknown or out of range, or values do not fit together.
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
    batch_size: int = 32
    drop_last: bool = True
    num_workers: int = 0
    cache: str = "memory"
    cache_dir: str = "data/cache"
    memory_gib: float = 4.0
    max_bad_fraction: float = 0.05
    pseudo: PseudoSettings = field(default_factory=PseudoSettings)
    pools: dict[str, PoolSettings] = field(default_factory=dict)
    batch_shares: dict[str, float] = field(default_factory=dict)
    substitution: SubstitutionSettings = field(default_factory=SubstitutionSettings)
    demo: DemoSettings = field(default_factory=DemoSettings)

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_numbers()
        self._check_combinations()
        self._check_batch_shares()
        if self.substitution.pool is not None:
            self._check_labelled_pool("substitution.pool", self.substitution.pool)
        self._check_pools()

    def _check_choices(self) -> None:
        check_choice("source", self.source, SOURCES)
        check_choice("group_by", self.group_by, ("auto", *GROUPS))
        check_choice("secondary", self.secondary, SECONDARY)
        check_choice("segment", self.segment, SEGMENT_POSITIONS)
        check_choice("short", self.short, FILL_METHODS)
        check_choice("sampler", self.sampler, SAMPLERS)
        check_choice("cache", self.cache, CACHES)

    def _check_numbers(self) -> None:
        for name in ("num_folds", "segments_per_recording", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        for name in ("secondary_value", "max_bad_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be in [0, 1]")
        for name in ("num_workers", "min_overlap_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must not be negative")
        if not self.segment_seconds > 0:
            raise ValueError(f"segment_seconds={self.segment_seconds}: it must be above 0")
        if self.self_sum_seconds is not None and self.self_sum_seconds < self.segment_seconds:
            raise ValueError(
                f"self_sum_seconds={self.self_sum_seconds}: it must not be below segment_seconds="
                f"{self.segment_seconds}; use null to turn it off"
            )

    def _check_combinations(self) -> None:
        if self.group_pattern is not None:
            try:
                re.compile(self.group_pattern)
            except re.error as error:
                raise ValueError(
                    f"group_pattern={self.group_pattern!r}: not a regular expression: {error}"
                ) from error
        if (self.cap is None) is (self.sampler == "capped") or (self.cap or 1) < 1:
            raise ValueError(
                f"cap={self.cap}: set it to a number of recordings above 0 with sampler=capped, "
                "and to null with other samplers"
            )
        if self.fold is not None and self.num_folds < 2:
            raise ValueError(
                f"num_folds={self.num_folds}: it must be at least 2, unless data.fold=null"
            )
        if self.fold is not None and not 0 <= self.fold < self.num_folds:
            raise ValueError(
                f"fold={self.fold}: it must be in 0 .. {self.num_folds - 1} (num_folds - 1), or "
                "null"
            )

    def _check_pools(self) -> None:
        for name, pool in self.pools.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ValueError(
                    f"pools: '{name}' is no name of a pool; use letters, digits and _, as in "
                    "pools={noise: {source: background, root: DIR}}"
                )
            source = self.pool_source(name)
            if source not in POOL_SOURCES:
                raise ValueError(
                    f"pools.{name}.source: it is not set, and the name is no source; set it to one "
                    f"of {', '.join(POOL_SOURCES)}"
                )
            if (source in _POOL_SOURCES_WITH_ROOT) is not (pool.root is not None):
                raise ValueError(
                    f"pools.{name}.root={pool.root}: set it to a folder if and only if the source "
                    f"is {' or '.join(_POOL_SOURCES_WITH_ROOT)}; here it is {source}"
                )
            if source == "background" and pool.draw in DRAWS_BY_LABEL:
                raise ValueError(
                    f"pools.{name}.draw={pool.draw}: background recordings have no classes; use "
                    "uniform or group"
                )
            if source == "soundscapes" and self.source not in SOURCES_WITH_SOUNDSCAPES:
                raise ValueError(
                    f"pools.{name}.source=soundscapes: only data="
                    f"{' and data='.join(SOURCES_WITH_SOUNDSCAPES)} have labelled soundscapes; use "
                    "source=folder or background with root=DIR"
                )
            if source == "pseudo" and self.pseudo.table is None:
                raise ValueError(f"pools.{name}.source=pseudo: it needs data.pseudo.table=FILE")

    def _check_batch_shares(self) -> None:
        for name, share in self.batch_shares.items():
            self._check_labelled_pool("batch_shares", name)
            if not 0 <= share < 1:
                raise ValueError(f"batch_shares.{name}={share}: it must be in [0, 1)")
        num_from_pools = sum(self.batch_quotas.values())
        if num_from_pools >= self.batch_size:
            raise ValueError(
                f"batch_shares={dict(self.batch_shares)}: they take {num_from_pools} of the "
                f"{self.batch_size} segments of a batch and leave none for training recordings; "
                "lower them, or raise data.batch_size"
            )

    def _check_labelled_pool(self, key: str, name: str) -> None:
        """Refuse a name that is no pool, or a pool without labels."""
        if name not in self.pools:
            raise ValueError(f"{key}: there is no pool '{name}'{did_you_mean(name, self.pools)}")
        if self.pool_source(name) == "background":
            raise ValueError(
                f"{key}: the pool '{name}' is background recordings, which have no labels to "
                "train on; name a labelled pool"
            )

    def pool_source(self, name: str) -> str:
        """Return the source of a pool."""
        return self.pools[name].source or name

    def pool_size(self, name: str) -> int:
        """Return the number of a pool's segments per batch of all processes, if it is mixed in."""
        return self.pools[name].size or self.batch_size

    @property
    def batch_quotas(self) -> dict[str, int]:
        """Segments of each batch that come from a pool, by pool; at least 1 for a share above 0."""
        return {
            name: max(round(share * self.batch_size), 1)
            for name, share in self.batch_shares.items()
            if share > 0
        }

"""Test mixtures that ``birdmix mixtures`` made: the rules of their sets, and their table, read.

Shapes: N mixtures of a set, C classes.
"""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.json_data import parse_dataclass, read_json
from birdmix.labels import Labels
from birdmix.messages import first_few
from birdmix.recordings.metadata import LABEL_SEPARATOR
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.text_table import TextTable
from birdmix.text import nfc

#: Version of the files; increased when older programs would misread them.
FORMAT = 1

MANIFEST, TABLE = "mixtures.json", "mixtures.csv"

#: Columns of the table. Cells of several values have them in the order of ``labels``, with ``;``
#: between; ``join_values`` joins and ``split_values`` splits them.
COLUMNS = (
    *("path", "set", "fold", "labels", "unknown_labels", "num_sources"),
    *("sources", "starts_seconds", "groups", "gains_db", "levels_db", "snr_db"),
    *("bed", "bed_start_seconds", "bed_group", "bed_gain_db", "bed_level_db", "scale_db"),
)


class MixtureRule(NamedTuple):
    """Rule of a set of mixtures.

    Attributes:
        min_sources: Fewest sources.
        max_sources: Most sources; each number from the fewest to the most occurs equally often.
        spread_db: Largest difference between the levels of two sources, in dB.
        has_bed: Whether there is noise of another recording below them.
    """

    min_sources: int
    max_sources: int
    spread_db: float = 0.0
    has_bed: bool = False


#: The sets by name, from the easiest to the hardest.
MIXTURE_RULES = {
    "single": MixtureRule(1, 1),
    "two_or_three": MixtureRule(2, 3, 6.0),
    "three_or_four": MixtureRule(3, 4, 12.0, has_bed=True),
}


@dataclass(frozen=True)
class MixtureManifest:
    """Content of ``mixtures.json``.

    Attributes:
        format: Version of the files, see ``FORMAT``.
        seed: Seed of all random choices.
        per_class: How often each class was asked for in a set of a fold.
        sample_rate: Sample rate of the files in Hz.
        seconds: Length of each file in seconds.
        labels: Label codes of the data.
        source: ``data.source``.
        root: ``data.root`` as it was given; None if the table's folder is the root.
        table: ``data.table``.
        num_folds: ``data.num_folds``.
        group_by: ``data.group_by``.
        group_pattern: ``data.group_pattern``.
        beds: Folder of the noise recordings; None: recordings of the fold.
        recordings: Digest of the recordings table (``Recordings.digest``).
        counts: Number of mixtures by set.
        digest: SHA-256 of all samples before encoding and of the table.
    """

    format: int
    seed: int
    per_class: int
    sample_rate: int
    seconds: float
    labels: tuple[str, ...]
    source: str
    root: str | None
    table: str | None
    num_folds: int
    group_by: str
    group_pattern: str | None
    beds: str | None
    recordings: str
    counts: dict[str, int]
    digest: str


@dataclass(frozen=True)
class MixtureSet:
    """The mixtures of a set.

    Attributes:
        paths: Sound files, absolute, [N].
        fold: Fold that each one's recordings are held out in, int64 [N].
        truth: 1 for classes of sources, else 0, float32 [N, C].
        known: False for classes that may be in the mixture too, bool [N, C].
        num_sources: Number of sources, int64 [N].
        snr_db: Level of each source above everything else in the mixture, float64 [N, C]; NaN where
            a class is absent, or nothing else is in the file (the set ``single``).
        groups: Groups of the sources of each mixture.
        sources: Recordings of the sources of each mixture, relative to the data root.
        beds: Recording of each noise bed, likewise; empty if there is none.
        bed_groups: Its group.
    """

    paths: tuple[Path, ...]
    fold: np.ndarray
    truth: np.ndarray
    known: np.ndarray
    num_sources: np.ndarray
    snr_db: np.ndarray
    groups: tuple[tuple[str, ...], ...]
    sources: tuple[tuple[str, ...], ...]
    beds: tuple[str, ...]
    bed_groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> "MixtureSet":
        """Return some of the mixtures, by positions or by a boolean mask [N]."""
        rows = np.arange(len(self))[rows]

        def pick(values: tuple) -> tuple:
            return tuple(values[row] for row in rows.tolist())

        return MixtureSet(
            paths=pick(self.paths),
            fold=self.fold[rows],
            truth=self.truth[rows],
            known=self.known[rows],
            num_sources=self.num_sources[rows],
            snr_db=self.snr_db[rows],
            groups=pick(self.groups),
            sources=pick(self.sources),
            beds=pick(self.beds),
            bed_groups=pick(self.bed_groups),
        )


@dataclass(frozen=True)
class MixtureSets:
    """Sets of mixtures in a folder.

    Attributes:
        folder: The folder.
        manifest: How they were made.
        labels: The label set of ``truth``, C classes.
        sets: The sets by name, in the order of ``MIXTURE_RULES``; each has at least one mixture.
    """

    folder: Path
    manifest: MixtureManifest
    labels: Labels
    sets: dict[str, MixtureSet]

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that have mixtures, in order."""
        return tuple(sorted({int(fold) for each in self.sets.values() for fold in each.fold}))

    def take_folds(self, folds: Collection[int]) -> "MixtureSets":
        """Return the mixtures of some folds.

        Raises:
            ValueError: If a set has no mixtures of one of them.
        """
        for name, each in self.sets.items():
            for fold in folds:
                if fold not in each.fold:
                    raise ValueError(
                        f"{self.folder}: the set {name} has no mixtures of fold {fold}; make them "
                        f"with birdmix mixtures --fold {fold}, or without --fold"
                    )
        chosen = np.array(sorted(folds), np.int64)
        return replace(
            self,
            sets={name: s.take(np.isin(s.fold, chosen)) for name, s in self.sets.items()},
        )

    def check_not_trained_on(self, train: Recordings) -> None:
        """Check that no recording or group of the mixtures is trained on.

        Args:
            train: All rows that a run trains on, those of its pools included.

        Raises:
            ValueError: With the first mixture that shares a recording or group with them.
        """
        paths, groups = set(map(nfc, train.paths)), set(map(nfc, train.groups))
        for each in self.sets.values():
            for row, file in enumerate(each.paths):
                recordings = [*each.sources[row], each.beds[row]]
                row_groups = [*each.groups[row], each.bed_groups[row]]
                for path, group in zip(recordings, row_groups, strict=True):
                    if not path or (path not in paths and group not in groups):
                        continue
                    shared = f"{path}" if path in paths else f"group '{group}' of {path}"
                    raise ValueError(
                        f"{file}: {shared} is in this mixture and is trained on, which makes "
                        f"metrics too good; it is held out in fold {each.fold[row]} of "
                        f"{self.manifest.num_folds}: use the mixtures of the fold that the run "
                        "holds out"
                    )


def join_values(values: Sequence[str]) -> str:
    """Join values to the text of a cell; a ``;`` within one becomes ``%3B``, a ``%`` ``%25``."""
    return LABEL_SEPARATOR.join(v.replace("%", "%25").replace(";", "%3B") for v in values)


def split_values(cell: str) -> tuple[str, ...]:
    """Split the text of a cell that ``join_values`` joined."""
    parts = cell.split(LABEL_SEPARATOR) if cell else []
    return tuple(part.strip().replace("%3B", ";").replace("%25", "%") for part in parts)


def read_mixtures(folder: Path, labels: Labels) -> MixtureSets:
    """Read a folder that ``birdmix mixtures`` wrote.

    Args:
        folder: The folder.
        labels: Label set of the models to test; its codes must be those of the mixtures.

    Raises:
        ValueError: If it is no such folder, its classes are others, or a row is damaged.
    """
    folder = Path(os.path.abspath(folder))
    manifest = _read_manifest(folder)
    _check_labels(folder, manifest, labels)
    table = TextTable(folder / TABLE, COLUMNS, hint=_REMEDY)
    for name in sorted(set(table.text_column("set")) - set(MIXTURE_RULES)):
        table.raise_if_any_wrong(
            np.array(table.text_column("set")) == name,
            f"set '{name}' is unknown; {_REMEDY}",
        )
    table.raise_if_any_repeated(table.text_column("path"), problem="the same path occurs")
    every = _read_rows(folder, table, labels, manifest.num_folds)
    names = np.array(table.text_column("set"))
    sets = {name: every.take(names == name) for name in MIXTURE_RULES if (names == name).any()}
    return MixtureSets(folder, manifest, labels, sets)


_REMEDY = "make the mixtures again with birdmix mixtures"


def _read_manifest(folder: Path) -> MixtureManifest:
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"{folder}: no {MANIFEST}, so these are no test mixtures; name a folder that "
            "birdmix mixtures wrote"
        )
    try:
        content = read_json(file)
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise ValueError(f"format {found}, where {FORMAT} is read")
        return parse_dataclass(MixtureManifest, content)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; {_REMEDY}") from error


def _check_labels(folder: Path, manifest: MixtureManifest, labels: Labels) -> None:
    made, asked = set(map(nfc, manifest.labels)), set(map(nfc, labels.codes))
    if made != asked:
        differences = [
            f"{len(codes)} {where}: {first_few(sorted(codes), 5)}"
            for where, codes in (("only there", made - asked), ("only here", asked - made))
            if codes
        ]
        raise ValueError(
            f"{folder}: the mixtures have other classes than this run ({'; '.join(differences)}); "
            "make mixtures with the data settings of the run"
        )


def _read_rows(folder: Path, table: TextTable, labels: Labels, num_folds: int) -> MixtureSet:
    """Read and check all rows as one set."""
    paths = tuple(folder / path for path in table.text_column("path"))
    for row, path in enumerate(paths):
        if not path.is_file():
            raise ValueError(f"{table.location(row)}: no such file: {path}; {_REMEDY}")

    def parse(name: str, function: Callable[[str], object]) -> list:
        def with_column(cell: str) -> object:
            try:
                return function(cell)
            except ValueError as error:
                raise ValueError(f"{name} '{cell}': {error}; {_REMEDY}") from error

        return table.parse_column(name, with_column)

    codes = parse("labels", lambda cell: _parse_labels(cell, labels))
    unknown = parse("unknown_labels", lambda cell: _parse_labels(cell, labels))
    fold = np.array(parse("fold", lambda cell: _parse_whole(cell, 0, num_folds - 1)), np.int64)
    num_sources = np.array(parse("num_sources", lambda cell: _parse_whole(cell, 1, 99)), np.int64)
    snr_db = parse("snr_db", _parse_numbers)
    sources, groups = parse("sources", split_values), parse("groups", split_values)
    for name, values in (
        ("labels", codes),
        ("sources", sources),
        ("groups", groups),
        ("snr_db", snr_db),
    ):
        wrong = np.array([len(v) for v in values]) != num_sources
        table.raise_if_any_wrong(
            wrong, f"{name} has not as many values as num_sources states; {_REMEDY}"
        )
    truth = np.zeros((len(table), len(labels)), np.float32)
    known = np.ones_like(truth, bool)
    snr = np.full(truth.shape, np.nan)
    for row in range(len(table)):
        known[row, unknown[row]] = False
        known[row, codes[row]] = True
        truth[row, codes[row]] = 1
        snr[row, codes[row]] = snr_db[row]
    return MixtureSet(
        paths=paths,
        fold=fold,
        truth=truth,
        known=known,
        num_sources=num_sources,
        snr_db=snr,
        groups=tuple(groups),
        sources=tuple(sources),
        beds=tuple(_unescape(cell) for cell in table.text_column("bed")),
        bed_groups=tuple(_unescape(cell) for cell in table.text_column("bed_group")),
    )


def _unescape(cell: str) -> str:
    return "".join(split_values(cell))


def _parse_labels(cell: str, labels: Labels) -> list[int]:
    return [labels.column(code) for code in split_values(cell)]


def _parse_whole(cell: str, lowest: int, highest: int) -> int:
    if not cell.strip().isdecimal() or not lowest <= int(cell) <= highest:
        raise ValueError(f"it must be a whole number in {lowest} .. {highest}")
    return int(cell)


def _parse_numbers(cell: str) -> list[float]:
    """Return the numbers of a cell; a blank one is one NaN: a source that is alone."""
    try:
        numbers = [float(part) for part in cell.split(LABEL_SEPARATOR)] if cell else [np.nan]
    except ValueError:
        raise ValueError("it must be numbers with ; between them") from None
    if cell and not np.isfinite(numbers).all():
        raise ValueError("its numbers must be finite")
    return numbers

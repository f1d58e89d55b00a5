"""Plans of test mixtures: which recordings of a fold are sources, how loud, over which noise bed.

A mixture is a function of the seed, the fold, the set and its number, and of the mixtures before it
in its set, so that classes, groups and recordings occur equally often.

Shapes: N rows, C classes, G groups.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from birdmix import random_keys
from birdmix.loading.mixture_windows import MIN_CONTRAST_DB, MIN_LEVEL_DB, MixtureWindows
from birdmix.messages import check_choice
from birdmix.recordings.mixture_table import MIXTURE_RULES, MixtureRule
from birdmix.recordings.recordings_table import Recordings

#: The weakest source is this much louder than the noise bed, in dB: drawn uniformly.
BED_BELOW_WEAKEST_DB = (0.0, 10.0)

# Fewest recordings of a class to choose from, if it has them: distinct groups must be left.
_MIN_POOL = 16

# Recordings that are searched for a quiet part before the best of them is taken.
_NUM_BEDS_SEARCHED = 8


@dataclass(frozen=True)
class MixtureSettings:
    """Settings of test mixtures.

    Attributes:
        seed: Seed of all random choices.
        sets: Sets to make, names of ``MIXTURE_RULES``; empty: all.
        folds: Folds to make; empty: all.
        per_class: How often each class occurs in a set of a fold.
        beds: Folder of noise recordings without any of the classes; None: the held-out recordings.

    Raises:
        ValueError: If a value is unknown or out of range.
    """

    seed: int = 0
    sets: tuple[str, ...] = ()
    folds: tuple[int, ...] = ()
    per_class: int = 20
    beds: Path | None = None

    def __post_init__(self) -> None:
        for name in self.sets:
            check_choice("--set", name, MIXTURE_RULES)
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: it cannot be negative")
        if self.per_class < 1:
            raise ValueError(f"--per-class {self.per_class}: it must be at least 1")

    @property
    def rules(self) -> dict[str, MixtureRule]:
        """The rule of each set to make, in the order of ``MIXTURE_RULES``."""
        return {k: rule for k, rule in MIXTURE_RULES.items() if not self.sets or k in self.sets}


@dataclass(frozen=True)
class SourcePlan:
    """A source of a mixture.

    Attributes:
        row: Row of its recording.
        start: First sample of its window.
        level_db: Level in the mixture relative to a common reference, in dB, at most 0.
    """

    row: int
    start: int
    level_db: float


@dataclass(frozen=True)
class MixturePlan:
    """A test mixture.

    Attributes:
        set_name: Its set.
        fold: The fold that all of its recordings are held out in.
        number: Its number in the set and fold, from 0.
        sources: One window, or several of distinct classes and groups.
        bed_row: Row of the recording of the noise bed; None: no bed.
        bed_below_db: Level of the bed below the weakest source, in dB.
    """

    set_name: str
    fold: int
    number: int
    sources: tuple[SourcePlan, ...]
    bed_row: int | None = None
    bed_below_db: float = 0.0

    def rng(self, seed: int, purpose: str, *position: int) -> np.random.Generator:
        """Return a generator of this mixture for a purpose."""
        set_number = list(MIXTURE_RULES).index(self.set_name)
        return random_keys.generator(seed, purpose, self.fold, set_number, self.number, *position)


@dataclass(frozen=True)
class HeldOutFold:
    """Recordings of one fold.

    Attributes:
        fold: Number of the fold.
        recordings: The table of all recordings, N rows, each with one label or none.
        rows: Rows of the fold.
        bed_rows: Rows of noise recordings, of this fold or of a folder of their own.
    """

    fold: int
    recordings: Recordings
    rows: np.ndarray
    bed_rows: np.ndarray

    def rows_by_class(self) -> dict[int, list[int]]:
        """Return the labelled rows of the fold by class, classes in their order."""
        offsets, columns = self.recordings.ragged_column("label")
        labelled = [row for row in self.rows.tolist() if offsets[row + 1] > offsets[row]]
        classes = sorted({int(columns[offsets[row]]) for row in labelled})
        return {c: [row for row in labelled if columns[offsets[row]] == c] for c in classes}


def check_fold(fold: HeldOutFold, rules: dict[str, MixtureRule]) -> None:
    """Check that a fold has enough classes, groups and recordings for some sets.

    Raises:
        ValueError: With the fold, the set, what is missing and the remedy.
    """
    reasons = {name: _reason_against(fold, rule) for name, rule in rules.items()}
    possible = [f"--set {name}" for name, reason in reasons.items() if not reason]
    for name, reason in reasons.items():
        if reason:
            options = f", or make the other sets only: {' '.join(possible)}" if possible else ""
            raise ValueError(
                f"fold {fold.fold}: {reason}, which {name} needs; lower data.num_folds, or set "
                f"data.group_by or data.group_pattern so that groups are smaller{options}"
            )


def _reason_against(fold: HeldOutFold, rule: MixtureRule) -> str:
    """Return what a fold lacks for mixtures by a rule; empty if nothing."""
    by_class, groups = fold.rows_by_class(), fold.recordings.groups
    num_groups = len({groups[row] for row in fold.rows})
    num_paths = len({fold.recordings.paths[row] for row in fold.rows})
    if _most_distinct_sources(by_class, groups) < rule.max_sources:
        return (
            f"its {len(by_class)} classes and {num_groups} groups have no {rule.max_sources} "
            "recordings of distinct classes and groups"
        )
    if rule.has_bed and not len(fold.bed_rows) and num_paths <= rule.max_sources:
        return (
            f"its {num_paths} recordings include none beside {rule.max_sources} sources as a "
            "noise bed (--beds DIR names others)"
        )
    return ""


def _most_distinct_sources(by_class: dict[int, list[int]], groups: Sequence[str]) -> int:
    """Return how many recordings of distinct classes and distinct groups there are at most."""
    if not by_class:
        return 0
    numbers = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    pairs = {
        (at, numbers[groups[row]]) for at, rows in enumerate(by_class.values()) for row in rows
    }
    graph = csr_array(
        (np.ones(len(pairs), np.int8), tuple(np.array(sorted(pairs)).T)),
        shape=(len(by_class), len(numbers)),
    )
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


class MixturePlanner:
    """Planner of the sets of one fold.

    Of each class, no more recordings are considered than a set can use, from as many groups as
    possible: in large data most need not be decoded.

    Args:
        fold: The recordings.
        windows: Their windows.
        settings: Seed and numbers.
    """

    def __init__(
        self, fold: HeldOutFold, windows: MixtureWindows, settings: MixtureSettings
    ) -> None:
        self.fold, self.windows, self.settings = fold, windows, settings
        self.paths, self.groups = fold.recordings.paths, fold.recordings.groups
        self.by_class = {c: self._choose_pool(c, rows) for c, rows in fold.rows_by_class().items()}
        self.class_of_row = {row: c for c, rows in self.by_class.items() for row in rows}
        self._class_uses: Counter[int] = Counter()
        self._group_uses: Counter[tuple[int, str]] = Counter()  # by class and group
        self._row_uses: Counter[int] = Counter()
        self._bed_uses: Counter[int] = Counter()

    def _choose_pool(self, label: int, rows: Sequence[int]) -> list[int]:
        """Return rows of a class to choose from, drawn as evenly from groups as possible."""
        rng = random_keys.generator(self.settings.seed, "mixture pool", self.fold.fold, label)
        num_before: Counter[str] = Counter()
        ranked = []
        for order, row in enumerate(rng.permutation(rows).tolist()):
            ranked.append((num_before[self.groups[row]], order, row))
            num_before[self.groups[row]] += 1
        size = max(self.settings.per_class, _MIN_POOL)
        return sorted(row for _, _, row in sorted(ranked)[:size])

    def plan(self, set_name: str) -> Iterator[MixturePlan]:
        """Yield the mixtures of a set in order.

        Raises:
            ValueError: If too few recordings are audible.
        """
        for counter in (self._class_uses, self._group_uses, self._row_uses, self._bed_uses):
            counter.clear()
        rule = MIXTURE_RULES[set_name]
        if rule.max_sources == 1:
            yield from self._plan_single_windows(set_name)
            return
        num_sources = self.settings.per_class * len(self.by_class)
        num_choices = rule.max_sources - rule.min_sources + 1
        number = 0
        while num_sources > 0:
            plan = self._plan_mixture(set_name, number, rule.min_sources + number % num_choices)
            num_sources -= len(plan.sources)
            number += 1
            yield plan

    def _plan_single_windows(self, set_name: str) -> Iterator[MixturePlan]:
        """Yield windows of each class, none twice, as evenly from groups as possible."""
        number = 0
        for label, rows in self.by_class.items():
            left = set(rows)
            for _ in range(self.settings.per_class):
                plan = MixturePlan(set_name, self.fold.fold, number, ())
                noise = self._draw_noise(plan)
                while left:
                    row = min(left, key=lambda row: self._rank(label, row, noise))
                    starts = self.windows.search(row).starts[self._row_uses[row] :]
                    if starts:
                        break
                    left.remove(row)
                if not left:
                    break
                self._count(label, row)
                number += 1
                yield replace(plan, sources=(SourcePlan(row, starts[0], 0.0),))

    def _plan_mixture(self, set_name: str, number: int, num_sources: int) -> MixturePlan:
        """Choose the sources of a mixture, their windows and levels, and its bed."""
        rule, plan = MIXTURE_RULES[set_name], MixturePlan(set_name, self.fold.fold, number, ())
        noise = self._draw_noise(plan)
        rng = plan.rng(self.settings.seed, "mixture sources")
        class_noise = dict(zip(self.by_class, rng.random(len(self.by_class)), strict=True))
        order = sorted(self.by_class, key=lambda c: (self._class_uses[c], class_noise[c]))
        rows = self._choose_rows(order, num_sources, noise, [])
        if rows is None:
            raise ValueError(
                f"fold {self.fold.fold}, {set_name}: too few recordings reach {MIN_LEVEL_DB:g} dB "
                f"for {num_sources} sources of distinct classes and groups; `birdmix doctor` lists "
                "silent recordings"
            )
        sources = []
        for row in rows:
            self._count(self.class_of_row[row], row)
            start = int(rng.choice(self.windows.search(row).starts))
            # Gains are rounded to .01 dB later, so that the range is kept with two roundings.
            sources.append(SourcePlan(row, start, -float(rng.uniform(0, rule.spread_db - 0.01))))
        plan = replace(plan, sources=tuple(sources))
        if not rule.has_bed:
            return plan
        bed = self._choose_bed(rows, noise)
        self._bed_uses[bed] += 1
        return replace(plan, bed_row=bed, bed_below_db=float(rng.uniform(*BED_BELOW_WEAKEST_DB)))

    def _choose_rows(
        self, order: Sequence[int], num_sources: int, noise: np.ndarray, chosen: list[int]
    ) -> list[int] | None:
        """Return rows of distinct classes and groups, rarely used ones first; None if impossible.

        Args:
            order: Classes to choose from, the preferred ones first.
            num_sources: Number of further rows.
            noise: Random order of rows, [N].
            chosen: Rows chosen before.
        """
        if num_sources == 0:
            return chosen
        for at, label in enumerate(order):
            tried = {self.groups[row] for row in chosen}
            for row in sorted(self.by_class[label], key=lambda r: self._rank(label, r, noise)):
                if self.groups[row] in tried or not self.windows.search(row).starts:
                    continue
                tried.add(self.groups[row])  # another row of the group would do no better
                found = self._choose_rows(order[at + 1 :], num_sources - 1, noise, [*chosen, row])
                if found is not None:
                    return found
        return None

    def _choose_bed(self, rows: Sequence[int], noise: np.ndarray) -> int:
        """Return the row whose recording is the noise bed under sources.

        A recording without labels, if there is one. Else the quiet part of another recording; one
        of a source's class first, so that its label is true even if it can be heard.
        """
        if len(self.fold.bed_rows):
            candidates = self._least_used_beds(self.fold.bed_rows.tolist(), noise)
            audible = (row for row in candidates if self.windows.search(row).starts)
            bed = next(audible, None)
            if bed is None:
                raise ValueError(
                    f"fold {self.fold.fold}: no noise recording reaches {MIN_LEVEL_DB:g} dB; name "
                    "a folder of others with --beds"
                )
            return bed
        classes = {self.class_of_row[row] for row in rows}
        paths = {self.paths[row] for row in rows}
        groups = {self.groups[row] for row in rows}
        others = [row for row in self.class_of_row if self.paths[row] not in paths]

        def preference(row: int) -> tuple[bool, bool]:
            return self.class_of_row[row] not in classes, self.groups[row] in groups

        for preferred in sorted(set(map(preference, others))):
            candidates = [row for row in others if preference(row) == preferred]
            bed = self._quietest(self._least_used_beds(candidates, noise))
            if bed is not None:
                return bed
        raise ValueError(
            f"fold {self.fold.fold}: no other recording has sound for a noise bed; name a folder "
            "of noise recordings with --beds"
        )

    def _quietest(self, candidates: Sequence[int]) -> int | None:
        """Return the first row whose quiet part stands back enough, or else furthest."""
        usable = (row for row in candidates if self.windows.search(row).quiet_starts)
        searched = list(islice(usable, _NUM_BEDS_SEARCHED))
        contrasts = [self.windows.search(row).contrast_db for row in searched]
        for row, contrast in zip(searched, contrasts, strict=True):
            if contrast >= MIN_CONTRAST_DB:
                return row
        return searched[int(np.argmax(contrasts))] if searched else None

    def _least_used_beds(self, rows: Sequence[int], noise: np.ndarray) -> list[int]:
        return sorted(rows, key=lambda row: (self._bed_uses[row], noise[row]))

    def _draw_noise(self, plan: MixturePlan) -> np.ndarray:
        """Return random numbers that order rows that were used equally often, [N]."""
        return plan.rng(self.settings.seed, "mixture order").random(len(self.fold.recordings))

    def _rank(self, label: int, row: int, noise: np.ndarray) -> tuple[int, int, float]:
        return self._group_uses[label, self.groups[row]], self._row_uses[row], noise[row]

    def _count(self, label: int, row: int) -> None:
        self._class_uses[label] += 1
        self._group_uses[label, self.groups[row]] += 1
        self._row_uses[row] += 1

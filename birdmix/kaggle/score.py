"""Score a submission as its year's competition did.

Shapes: N rows or windows, C species or codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from birdmix.competitions import (
    BIRDCLEF_2021,
    BIRDCLEF_2022,
    BIRDCLEF_2023,
    BIRDCLEF_2025,
    IGNORED,
    NO_CALL,
    USAGE,
    Competition,
    Row,
    competition_of_columns,
    competition_with_column,
)
from birdmix.kaggle.rows import DECISIONS, PADDED, RANKS, Cells, counted, like, numbers, read_rows
from birdmix.metrics.birdclef import row_f1, weighted_accuracy
from birdmix.metrics.ranking import macro_roc_auc, padded_cmap


@dataclass(frozen=True)
class Scored:
    """A submission's score.

    Attributes:
        value: The figure.
        told: What it is a figure of, line by line.
    """

    value: float
    told: list[str]


class _Table(NamedTuple):
    """Cells, and the file they were read from."""

    cells: pd.DataFrame
    file: Path


class _Arrays(NamedTuple):
    """What a metric takes, all [N, C]; known says what is scored."""

    truth: np.ndarray
    score: np.ndarray
    known: np.ndarray


def score_submission(
    submission: Path, solution: Path, competition: Competition | None = None
) -> Scored:
    """Score a submission by its year's metric.

    Rows and columns that the solution lacks are left out, and told. As at Kaggle the solution may
    have a column ``Usage``: rows it calls ignored are left out; all others are scored together, and
    each kind alone.

    Args:
        submission: The file to score.
        solution: The truth in a submission's form.
        competition: Whose; None asks the solution's columns.

    Raises:
        ValueError: If a file is no such table, if the submission lacks a row or a column, if a cell
            is not what it should be, or if nothing can be scored.
    """
    whole, given = read_rows(solution), read_rows(submission)
    competition = competition or _competition(whole, solution)
    columns = _columns(whole, solution, competition)
    usage = whole[USAGE].astype(str) if USAGE in whole else pd.Series("", whole.index)
    usage = usage[usage != IGNORED]
    if not len(usage):
        which = ", but for those it ignores" if len(whole) else ""
        raise ValueError(f"{solution}: there are no rows{which}; nothing can be scored")
    truth = _Table(whole.loc[usage.index, columns], solution)
    score = _Table(like(truth.cells, given, submission), submission)
    value, words = _score(truth, score, competition)
    left_out = (
        (len(whole) - len(usage), "row", "that the solution ignores"),
        ((~given.index.isin(whole.index)).sum(), "row", "that it lacks"),
        ((~given.columns.isin(columns)).sum(), "column", "that it lacks"),
    )
    told = [f"{competition.name}: {competition.metric}, {words}"]
    listed = [f"{counted(number, what)} {which}" for number, what, which in left_out if number]
    if listed:
        told.append(f"left out: {', '.join(listed)}")
    return Scored(value, told + _parts(truth, score, usage, competition))


def _parts(truth: _Table, score: _Table, usage: pd.Series, competition: Competition) -> list[str]:
    """Say what each kind of row alone scores, if there are several."""
    told = []
    for kind in usage.unique() if usage.nunique() > 1 else ():
        rows = usage == kind
        some = [each._replace(cells=each.cells[rows]) for each in (truth, score)]
        try:
            value, words = _score(some[0], some[1], competition)
            told.append(f"{kind}: {value:.6f}, {words}")
        except ValueError as error:
            told.append(f"{kind}: {error}")
    return told


def _competition(solution: pd.DataFrame, file: Path) -> Competition:
    try:
        return competition_of_columns(solution.columns)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; say which by --competition") from error


def _columns(solution: pd.DataFrame, file: Path, competition: Competition) -> list[str]:
    """Return the columns of a solution that are scored."""
    if not competition.column:
        other = competition_with_column(solution.columns)
        if other:
            raise ValueError(
                f"{file}: column '{other.column}' is {other.name}'s, {competition.name} has one "
                "for each species; name the file's own year with --competition"
            )
        return [name for name in map(str, solution) if name != USAGE]
    if competition.column not in solution:
        raise ValueError(
            f"{file}: no column '{competition.column}', which {competition.name} is scored by; "
            "name the file's own year with --competition"
        )
    return [competition.column]


def _score(truth: _Table, score: _Table, competition: Competition) -> tuple[float, str]:
    """Return the figure, and what was scored in words."""
    metric = _METRICS[competition.metric]
    arrays = metric.arrays(truth, score)
    known, num_columns = arrays.known, arrays.known.shape[1]
    needs_both = competition.metric == BIRDCLEF_2025.metric
    both = (arrays.truth & known).any(axis=0) & (~arrays.truth & known).any(axis=0)
    num_scored = int((both if needs_both else known.any(axis=0)).sum())
    try:
        value = metric.value(arrays)
    except ValueError as error:
        raise ValueError(f"{truth.file}: {error}") from error
    kind = "codes" if competition.value == "codes" else "species"
    return value, f"{num_scored} of {num_columns} {kind} scored, {counted(len(truth.cells), 'row')}"


def _from_species(truth: _Table, score: _Table, cells: Cells) -> _Arrays:
    wanted = numbers(truth.cells, truth.file, DECISIONS).astype(bool)
    return _Arrays(wanted, numbers(score.cells, score.file, cells), np.ones(wanted.shape, bool))


def _from_decisions(truth: _Table, score: _Table) -> _Arrays:
    """Put decisions, a row for each window and bird, where windows and birds cross."""
    try:
        asked = [BIRDCLEF_2022.row(row_id) for row_id in truth.cells.index]
    except ValueError as error:
        raise ValueError(f"{truth.file}: {error}") from error
    named = pd.DataFrame(asked, columns=Row._fields)
    rows, windows = pd.factorize(pd.MultiIndex.from_frame(named[["soundscape", "end_seconds"]]))
    columns, birds = pd.factorize(named["bird"])
    crossed = np.zeros((3, len(windows), len(birds)), bool)
    crossed[:, rows, columns] = (
        numbers(truth.cells, truth.file, DECISIONS)[:, 0],
        numbers(score.cells, score.file, DECISIONS)[:, 0],
        np.ones(len(rows)),
    )
    return _Arrays(*crossed)


def _from_codes(truth: _Table, score: _Table) -> _Arrays:
    """Spread sets of codes over a column for each code, ``nocall`` among them."""
    sets = [_sets(each) for each in (truth, score)]
    codes = sorted({code for row in (*sets[0], *sets[1]) for code in row})
    column = {code: c for c, code in enumerate(codes)}
    spread = np.zeros((2, len(truth.cells), len(codes)), bool)
    for table, rows in zip(spread, sets, strict=True):
        for row, present in enumerate(rows):
            table[row, [column[code] for code in present]] = True
    return _Arrays(truth=spread[0], score=spread[1], known=np.ones(spread[0].shape, bool))


def _sets(table: _Table) -> list[set[str]]:
    sets = [set(cell.split()) for cell in table.cells.iloc[:, 0]]
    if not all(sets):
        raise ValueError(
            f"{table.file}: row_id '{table.cells.index[sets.index(set())]}' has no codes; a row "
            f"without a bird says {NO_CALL}"
        )
    return sets


class _Metric(NamedTuple):
    arrays: Callable[[_Table, _Table], _Arrays]
    value: Callable[[_Arrays], float]


_METRICS = {
    BIRDCLEF_2021.metric: _Metric(_from_codes, lambda each: row_f1(each.truth, each.score)),
    BIRDCLEF_2022.metric: _Metric(_from_decisions, lambda each: weighted_accuracy(*each)),
    BIRDCLEF_2023.metric: _Metric(
        partial(_from_species, cells=PADDED), lambda each: padded_cmap(each.truth, each.score)
    ),
    BIRDCLEF_2025.metric: _Metric(
        partial(_from_species, cells=RANKS), lambda each: macro_roc_auc(each.truth, each.score)
    ),
}

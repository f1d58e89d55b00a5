"""Scoring a submission with the metric of its year's competition.

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
    RowId,
    competition_of_columns,
    single_column_competition,
)
from birdmix.kaggle.submission_csv import (
    DECISIONS,
    PADDED,
    RANKS,
    ValidCellValues,
    align_to_solution,
    read_rows,
    to_numbers,
)
from birdmix.messages import format_count
from birdmix.metrics.birdclef_metrics import macro_balanced_accuracy, mean_row_f1
from birdmix.metrics.ranking import macro_roc_auc, padded_cmap


@dataclass(frozen=True)
class SubmissionScore:
    """A submission's score.

    Attributes:
        value: The score.
        lines: Lines of text: the metric, what was scored, what was left out, scores of parts.
    """

    value: float
    lines: list[str]


class _Table(NamedTuple):
    """A table's cells, and the file that they were read from."""

    cells: pd.DataFrame
    file: Path


class _Arrays(NamedTuple):
    """Input of a metric, all [N, C]; known is the mask of what is scored."""

    truth: np.ndarray
    score: np.ndarray
    known: np.ndarray


def score_submission(
    submission: Path, solution: Path, competition: Competition | None = None
) -> SubmissionScore:
    """Score a submission with its year's metric.

    Rows and columns that the solution lacks are left out, and reported. As at Kaggle the solution
    may have a column ``Usage``: rows with ``Ignored`` in it are left out; all others are scored
    together, and those of each usage (``Public``, ``Private``) by themselves.

    Args:
        submission: The file to score.
        solution: The truth in a submission's format.
        competition: The competition; None infers it from the solution's columns.

    Raises:
        ValueError: If a file is no such table, if the submission lacks a row or a column, if a cell
            is invalid, or if nothing can be scored.
    """
    all_truth, all_scores = read_rows(solution), read_rows(submission)
    competition = competition or _infer_competition(all_truth, solution)
    columns = _scored_columns(all_truth, solution, competition)
    usage = all_truth[USAGE].astype(str) if USAGE in all_truth else pd.Series("", all_truth.index)
    usage = usage[usage != IGNORED]
    if not len(usage):
        which = " apart from ignored ones" if len(all_truth) else ""
        raise ValueError(f"{solution}: no rows{which}; nothing can be scored")
    truth = _Table(all_truth.loc[usage.index, columns], solution)
    score = _Table(align_to_solution(truth.cells, all_scores, submission), submission)
    value, description = _score(truth, score, competition)
    left_out = (
        (len(all_truth) - len(usage), "row", "that the solution ignores"),
        ((~all_scores.index.isin(all_truth.index)).sum(), "row", "that the solution lacks"),
        ((~all_scores.columns.isin(columns)).sum(), "column", "that the solution lacks"),
    )
    lines = [f"{competition.name}: {competition.metric}, {description}"]
    listed = [f"{format_count(number, what)} {which}" for number, what, which in left_out if number]
    if listed:
        lines.append(f"left out: {', '.join(listed)}")
    return SubmissionScore(value, lines + _score_usages(truth, score, usage, competition))


def _score_usages(
    truth: _Table, score: _Table, usage: pd.Series, competition: Competition
) -> list[str]:
    """Return a line with the score of the rows of each usage, if there are several usages."""
    lines = []
    for kind in usage.unique() if usage.nunique() > 1 else ():
        rows = usage == kind
        truth_part, score_part = (
            table._replace(cells=table.cells[rows]) for table in (truth, score)
        )
        try:
            value, description = _score(truth_part, score_part, competition)
            lines.append(f"{kind}: {value:.6f}, {description}")
        except ValueError as error:
            lines.append(f"{kind}: {error}")
    return lines


def _infer_competition(solution: pd.DataFrame, file: Path) -> Competition:
    try:
        return competition_of_columns(solution.columns)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; name it with --competition") from error


def _scored_columns(solution: pd.DataFrame, file: Path, competition: Competition) -> list[str]:
    """Return the columns of a solution that are scored."""
    if not competition.column:
        other = single_column_competition(solution.columns)
        if other:
            raise ValueError(
                f"{file}: column '{other.column}' belongs to {other.name}, {competition.name} has "
                "one column per species; name the file's own year with --competition"
            )
        return [name for name in map(str, solution) if name != USAGE]
    if competition.column not in solution:
        raise ValueError(
            f"{file}: no column '{competition.column}', which {competition.name} is scored on; "
            "name the file's own year with --competition"
        )
    return [competition.column]


def _score(truth: _Table, score: _Table, competition: Competition) -> tuple[float, str]:
    """Return the score, and a description of what was scored."""
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
    kind = "codes" if competition.cell_type == "codes" else "species"
    rows = format_count(len(truth.cells), "row")
    return value, f"{num_scored} of {num_columns} {kind} scored, {rows}"


def _species_arrays(truth: _Table, score: _Table, rule: ValidCellValues) -> _Arrays:
    """Return the arrays of tables that have one column per species."""
    present = to_numbers(truth.cells, truth.file, DECISIONS).astype(bool)
    values = to_numbers(score.cells, score.file, rule)
    return _Arrays(present, values, np.ones(present.shape, bool))


def _decision_arrays(truth: _Table, score: _Table) -> _Arrays:
    """Return decisions, one row per window and species, as arrays of windows by species."""
    try:
        parsed = [BIRDCLEF_2022.parse_row_id(row_id) for row_id in truth.cells.index]
    except ValueError as error:
        raise ValueError(f"{truth.file}: {error}") from error
    fields = pd.DataFrame(parsed, columns=RowId._fields)
    rows, windows = pd.factorize(pd.MultiIndex.from_frame(fields[["soundscape", "end_seconds"]]))
    columns, birds = pd.factorize(fields["bird"])
    arrays = np.zeros((3, len(windows), len(birds)), bool)
    arrays[:, rows, columns] = (
        to_numbers(truth.cells, truth.file, DECISIONS)[:, 0],
        to_numbers(score.cells, score.file, DECISIONS)[:, 0],
        np.ones(len(rows)),
    )
    return _Arrays(*arrays)


def _code_arrays(truth: _Table, score: _Table) -> _Arrays:
    """Return sets of codes as arrays with one column per code, including ``nocall``."""
    sets = [_code_sets(table) for table in (truth, score)]
    codes = sorted({code for row in (*sets[0], *sets[1]) for code in row})
    column = {code: c for c, code in enumerate(codes)}
    arrays = np.zeros((2, len(truth.cells), len(codes)), bool)
    for array, rows in zip(arrays, sets, strict=True):
        for row, present in enumerate(rows):
            array[row, [column[code] for code in present]] = True
    return _Arrays(truth=arrays[0], score=arrays[1], known=np.ones(arrays[0].shape, bool))


def _code_sets(table: _Table) -> list[set[str]]:
    sets = [set(cell.split()) for cell in table.cells.iloc[:, 0]]
    if not all(sets):
        raise ValueError(
            f"{table.file}: row_id '{table.cells.index[sets.index(set())]}' has no codes; write "
            f"{NO_CALL} in a row without birds"
        )
    return sets


class _Metric(NamedTuple):
    """A metric: how its arrays are made from the tables, and its value for them."""

    arrays: Callable[[_Table, _Table], _Arrays]
    value: Callable[[_Arrays], float]


_METRICS = {
    BIRDCLEF_2021.metric: _Metric(_code_arrays, lambda each: mean_row_f1(each.truth, each.score)),
    BIRDCLEF_2022.metric: _Metric(_decision_arrays, lambda each: macro_balanced_accuracy(*each)),
    BIRDCLEF_2023.metric: _Metric(
        partial(_species_arrays, rule=PADDED), lambda each: padded_cmap(each.truth, each.score)
    ),
    BIRDCLEF_2025.metric: _Metric(
        partial(_species_arrays, rule=RANKS), lambda each: macro_roc_auc(each.truth, each.score)
    ),
}

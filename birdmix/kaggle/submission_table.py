"""Table of a submission: every requested row, holding the prior until its window is predicted.

Shapes: N rows, W windows, C species.
"""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.csv import WriteOptions, write_csv

from birdmix.competitions import NO_CALL
from birdmix.files import atomic_path
from birdmix.kaggle.submission_task import SubmissionTask
from birdmix.messages import first_line
from birdmix.windows import MIN_PROBABILITY

# Characters in a row id for which a CSV needs quotes.
_CSV_SPECIAL = frozenset(',"\r\n')


class SubmissionTable:
    """A submission that is filled window by window, and can be written at any time.

    Args:
        task: The requested rows and columns.
        prior: Probability of each species where nothing was predicted, float64 [C].

    Attributes:
        is_predicted: Whether each window was predicted, bool [W + 1]. The last entry is for
            invalid rows, whose window index is -1; it stays False.
    """

    def __init__(self, task: SubmissionTask, prior: np.ndarray) -> None:
        self.task, self.prior = task, np.asarray(prior, np.float32)
        num_windows = task.rows.num_windows + 1
        self.is_predicted = np.zeros(num_windows, bool)
        self._probability = np.full((num_windows, len(task.species)), np.nan, np.float32)

    def store_probabilities(
        self, soundscape: str, end_seconds: np.ndarray, probability: np.ndarray
    ) -> None:
        """Store the probabilities of a soundscape's windows.

        Args:
            soundscape: Its name in row ids.
            end_seconds: End of each window, float64 [W']; windows that no row requests are ignored.
            probability: Their probabilities, float64 [W', C]; NaN keeps the prior.
        """
        index_of_end = self.task.rows.windows[soundscape]
        windows = np.array([index_of_end.get(round(end), -1) for end in end_seconds])
        requested = windows >= 0
        self._probability[windows[requested]] = probability[requested]
        self.is_predicted[windows[requested]] = True

    @property
    def num_rows_predicted(self) -> int:
        """Number of rows that hold predictions, not only priors."""
        rows = self.task.rows
        predicted = self.is_predicted[rows.window_index]
        if self.task.competition.cell_type == "decision":  # a row is about one species
            predicted &= ~np.isnan(self._probability[rows.window_index, rows.bird_index])
        return int(predicted.sum())

    @property
    def num_uncovered_rows_by_soundscape(self) -> dict[str, int]:
        """Number of rows without prediction, for each soundscape that was predicted in part."""
        not_covered = {}
        for name, index_of_end in self.task.rows.windows.items():
            windows = list(index_of_end.values())
            if self.is_predicted[windows].any() and not self.is_predicted[windows].all():
                missing = [window for window in windows if not self.is_predicted[window]]
                not_covered[name] = self.task.rows.count_rows_of_windows(missing)
        return not_covered

    def write(self, out: Path, thresholds: np.ndarray) -> None:
        """Write the current submission atomically.

        Args:
            out: The file.
            thresholds: Probability from which a species is called, float64 [C], NaN for never.

        Raises:
            ValueError: If it cannot be written.
        """
        row_ids = self.task.rows.row_ids
        columns = {"row_id": row_ids} | self._columns(thresholds)
        plain = not any(_CSV_SPECIAL.intersection(row_id) for row_id in row_ids)
        options = WriteOptions(include_header=False, quoting_style="none" if plain else "needed")
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(columns)
        try:
            with atomic_path(out) as partial, partial.open("wb") as stream:
                stream.write(header.getvalue().encode())
                write_csv(pa.table(columns), stream, options)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else first_line(error)
            raise ValueError(
                f"{out}: it could not be written ({why}), an earlier file is unchanged; free disk "
                "space, or use another --out"
            ) from error

    def _columns(self, thresholds: np.ndarray) -> dict[str, list[str] | np.ndarray]:
        """Return the columns beside the row ids, [N] each, in the competition's format."""
        rows, competition = self.task.rows, self.task.competition
        if competition.cell_type == "probability":
            filled = np.where(np.isnan(self._probability), self.prior, self._probability)
            bounded = np.clip(filled, np.float32(MIN_PROBABILITY), np.float32(1 - MIN_PROBABILITY))[
                rows.window_index
            ]
            return {code: bounded[:, c] for c, code in enumerate(self.task.species)}
        called = self._probability >= thresholds  # False where nothing was predicted
        if competition.cell_type == "decision":
            decisions = called[rows.window_index, rows.bird_index]
            return {competition.column: np.where(decisions, "True", "False").tolist()}
        codes = np.array(self.task.species, object)
        sets = [" ".join(codes[window]) or NO_CALL for window in called]
        return {competition.column: [sets[window] for window in rows.window_index]}

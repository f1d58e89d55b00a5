"""The sheet of a submission: every row asked for, filled with priors until it is heard.

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
from birdmix.kaggle.task import Task
from birdmix.suggest import first_line
from birdmix.windows import FLOOR

# What a row id must not hold to stand in a CSV as it is.
_SPECIAL = frozenset(',"\r\n')


class Sheet:
    """A submission as it grows; it can be written whole at any time.

    Args:
        task: What is asked for.
        prior: Probability of each species where nothing was heard, float64 [C].

    Attributes:
        heard: Which windows were heard, bool [W + 1]. The last window is nobody's: rows that tell
            nothing are about it, and it is never heard.
    """

    def __init__(self, task: Task, prior: np.ndarray) -> None:
        self.task, self.prior = task, np.asarray(prior, np.float32)
        num_windows = task.asked.num_windows + 1
        self.heard = np.zeros(num_windows, bool)
        self._probability = np.full((num_windows, len(task.species)), np.nan, np.float32)

    def fill(self, soundscape: str, end_seconds: np.ndarray, probability: np.ndarray) -> None:
        """Put what was heard of a soundscape into its rows.

        Args:
            soundscape: As rows call it.
            end_seconds: Where windows end, float64 [W']; those that no row asks for are left.
            probability: Of them, float64 [W', C]; NaN keeps the prior.
        """
        asked = self.task.asked.windows[soundscape]
        windows = [asked.get(round(end), -1) for end in end_seconds]
        wanted = np.array(windows) >= 0
        self._probability[np.array(windows)[wanted]] = probability[wanted]
        self.heard[np.array(windows)[wanted]] = True

    @property
    def num_rows_heard(self) -> int:
        """Rows that no longer hold a prior alone."""
        asked = self.task.asked
        heard = self.heard[asked.window]
        if self.task.competition.value == "decision":  # about one species each
            heard &= ~np.isnan(self._probability[asked.window, asked.bird])
        return int(heard.sum())

    @property
    def beyond(self) -> dict[str, int]:
        """Number of rows of soundscapes that were heard, but not there."""
        asked = self.task.asked
        unheard = {}
        for name, windows in asked.windows.items():
            numbers = list(windows.values())
            if self.heard[numbers].any() and not self.heard[numbers].all():
                missing = [number for number in numbers if not self.heard[number]]
                unheard[name] = asked.num_rows(missing)
        return unheard

    def write(self, out: Path, thresholds: np.ndarray) -> None:
        """Write the submission as it stands, whole or not at all.

        Args:
            out: The file.
            thresholds: Probability from which a species is called, float64 [C], NaN for never.

        Raises:
            ValueError: If it cannot be written.
        """
        row_ids = self.task.asked.row_ids
        columns = {"row_id": row_ids} | self._columns(thresholds)
        plain = not any(_SPECIAL.intersection(row_id) for row_id in row_ids)
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
                f"{out}: it could not be written ({why}), and is what it was before; make room, "
                "or take another --out"
            ) from error

    def _columns(self, thresholds: np.ndarray) -> dict[str, list[str] | np.ndarray]:
        asked, competition = self.task.asked, self.task.competition
        if competition.value == "probability":
            known = np.where(np.isnan(self._probability), self.prior, self._probability)
            share = np.clip(known, np.float32(FLOOR), np.float32(1 - FLOOR))[asked.window]
            return {code: share[:, c] for c, code in enumerate(self.task.species)}
        called = self._probability >= thresholds  # never where nothing was heard
        if competition.value == "decision":
            decisions = called[asked.window, asked.bird]
            return {competition.column: np.where(decisions, "True", "False").tolist()}
        codes = np.array(self.task.species, object)
        sets = [" ".join(codes[row]) or NO_CALL for row in called]
        return {competition.column: [sets[window] for window in asked.window]}

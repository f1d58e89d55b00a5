"""Rows on a recording, and the windows that are heard for them.

Shapes: T samples of a window, R rows, K windows of a row.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from birdmix.windows import MIN_TAIL_SECONDS, cut, num_windows


@dataclass(frozen=True)
class Grid:
    """Where rows lie and what is heard for each, in samples.

    Attributes:
        row: Length of a row.
        step: From the start of a row to that of the next one; it need not be whole.
        heard: Length T of the windows heard, a row in the middle of each.
        shifts: How much later each of the K windows of a row lies.
        min_tail: An end of the recording no longer than this gets no row of its own.
        shared: Whether a window that two rows hear is heard once.
    """

    row: int
    step: float
    heard: int
    shifts: tuple[int, ...] = (0,)
    min_tail: int = 0
    shared: bool = True

    @staticmethod
    def of(
        sample_rate: int,
        *,
        row: float,
        step: float,
        heard: int,
        shift: float = 0.0,
        shared: bool = True,
    ) -> "Grid":
        """Make a grid of seconds, but for ``heard``, which is samples."""
        later = round(shift * sample_rate)
        return Grid(
            row=round(row * sample_rate),
            step=step * sample_rate,
            heard=heard,
            shifts=(0, -later, later) if later else (0,),
            min_tail=int(MIN_TAIL_SECONDS * sample_rate),
            shared=shared,
        )

    @property
    def lead(self) -> int:
        """Samples heard before a row."""
        return (self.heard - self.row) // 2

    def starts(self, row: int) -> list[int]:
        """Return where the K windows of a row start; before 0 is silence."""
        start = round(row * self.step)  # a whole step would add its error up, row by row
        return [start - self.lead + shift for shift in self.shifts]

    def has(self, row: int, num_samples: int) -> bool:
        """Tell whether so many samples reach into a row, or into its tail at least."""
        return row < self.num_rows(num_samples)

    def num_rows(self, num_samples: int) -> int:
        """Return how many rows a recording of so many samples has."""
        if num_samples <= 0:
            return 0
        return num_windows(num_samples, self.row, self.step, self.min_tail)


class WindowStream:
    """The windows of a recording, from its blocks as they come; memory is bounded.

    Attributes:
        rows: For each row so far, the number of each of its K windows in the order of giving. Who
            takes the windows takes the rows from the left.
        num_samples: Samples pushed so far.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.rows: deque[list[int]] = deque()
        self.num_samples = 0
        self._buffer, self._first = np.zeros(0, np.float32), 0
        self._given: dict[int, int] = {}
        self._num_rows = self._num_windows = 0

    def push(self, block: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Take a block; yield the windows that are whole now, float32 [T], each with its k."""
        self._buffer = np.concatenate([self._buffer, block])
        self.num_samples += len(block)
        yield from self._whole(self.num_samples)
        first = min(self.grid.starts(self._num_rows))
        drop = min(max(first - self._first, 0), len(self._buffer))
        self._buffer, self._first = self._buffer[drop:], self._first + drop

    def end(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the windows that reach beyond the recording's end."""
        yield from self._whole(None)

    @property
    def oldest(self) -> int:
        """The number of the first window that rows to come may hear again."""
        return min(self._given.values(), default=self._num_windows)

    def _whole(self, reach: int | None) -> Iterator[tuple[np.ndarray, int]]:
        grid = self.grid
        while grid.has(row := self._num_rows, self.num_samples):
            starts = grid.starts(row)
            if reach is not None and max(starts) + grid.heard > reach:
                return
            new = [
                (start, k)
                for k, start in enumerate(starts)
                if not grid.shared or start not in self._given
            ]
            for start, _ in new:
                self._given[start] = self._num_windows
                self._num_windows += 1
            # The row is there before its windows: who takes the last one may end it at once.
            self.rows.append([self._given[start] for start in starts])
            self._num_rows += 1
            oldest = min(grid.starts(row + 1))
            self._given = {s: number for s, number in self._given.items() if s >= oldest}
            for start, k in new:
                yield cut(self._buffer, start - self._first, grid.heard), k

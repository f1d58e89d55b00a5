"""The rows a submission is asked for, and the windows of soundscapes they are about.

Shapes: N rows, W windows.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from birdmix.competitions import Competition


class Asked:
    """Rows, each once, in the order asked for.

    Args:
        competition: Says what a row is about.
        row_ids: As they are asked for.

    Attributes:
        row_ids: N of them.
        repeated: Those that were asked for again.
        odd: Those that do not say what they are about.
        window: Number of the window that each row is about, int64 [N]; -1 for odd ones.
        bird: Number of its bird in ``birds``, int64 [N]; -1 where a row is about none.
        birds: The species that rows are about.
        windows: Of each soundscape, the number of the window that ends at some second.
        num_windows: Windows W.
    """

    def __init__(self, competition: Competition, row_ids: Iterable[str]) -> None:
        self.row_ids: list[str] = []
        self.repeated: list[str] = []
        self.odd: list[str] = []
        self.windows: dict[str, dict[int, int]] = {}
        self.num_windows = 0
        windows, birds, seen = [], [], set()
        number_of: dict[str, int] = {}
        for row_id in row_ids:
            if row_id in seen:
                self.repeated.append(row_id)
                continue
            seen.add(row_id)
            self.row_ids.append(row_id)
            try:
                row = competition.row(row_id)
            except ValueError:
                self.odd.append(row_id)
                windows.append(-1)
                birds.append(-1)
                continue
            of_soundscape = self.windows.setdefault(row.soundscape, {})
            if row.end_seconds not in of_soundscape:
                of_soundscape[row.end_seconds] = self.num_windows
                self.num_windows += 1
            windows.append(of_soundscape[row.end_seconds])
            birds.append(number_of.setdefault(row.bird, len(number_of)) if row.bird else -1)
        self.window, self.bird = np.array(windows, np.int64), np.array(birds, np.int64)
        self.birds = list(number_of)

    def num_rows(self, windows: Sequence[int]) -> int:
        """Return how many rows are about some windows, by their numbers."""
        return int(np.isin(self.window, windows).sum())

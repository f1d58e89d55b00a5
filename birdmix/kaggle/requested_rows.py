"""Row ids of a submission, parsed to the soundscape windows and species that they name.

Shapes: N rows, W windows.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from birdmix.competitions import Competition


class RequestedRows:
    """The rows of a submission, each once, in the order requested.

    Args:
        competition: Parses row ids.
        row_ids: The requested row ids.

    Attributes:
        row_ids: The N row ids without repetitions.
        repeated: Row ids that were requested more than once.
        invalid: Row ids that name no window.
        window_index: Index of the window that each row is about, int64 [N]; -1 for invalid rows.
        bird_index: Index of each row's species in ``birds``, int64 [N]; -1 where a row names none.
        birds: Species codes that row ids name.
        windows: For each soundscape, window indices by the second at which the window ends.
        num_windows: Number of windows W.
    """

    def __init__(self, competition: Competition, row_ids: Iterable[str]) -> None:
        self.row_ids: list[str] = []
        self.repeated: list[str] = []
        self.invalid: list[str] = []
        self.windows: dict[str, dict[int, int]] = {}
        self.num_windows = 0
        window_index, bird_index, seen = [], [], set()
        index_of_bird: dict[str, int] = {}
        for row_id in row_ids:
            if row_id in seen:
                self.repeated.append(row_id)
                continue
            seen.add(row_id)
            self.row_ids.append(row_id)
            try:
                row = competition.parse_row_id(row_id)
            except ValueError:
                self.invalid.append(row_id)
                window_index.append(-1)
                bird_index.append(-1)
                continue
            windows = self.windows.setdefault(row.soundscape, {})
            if row.end_seconds not in windows:
                windows[row.end_seconds] = self.num_windows
                self.num_windows += 1
            window_index.append(windows[row.end_seconds])
            bird = index_of_bird.setdefault(row.bird, len(index_of_bird)) if row.bird else -1
            bird_index.append(bird)
        self.window_index = np.array(window_index, np.int64)
        self.bird_index = np.array(bird_index, np.int64)
        self.birds = list(index_of_bird)

    def count_rows_of_windows(self, windows: Sequence[int]) -> int:
        """Return the number of rows that are about some windows, given by their indices."""
        return int(np.isin(self.window_index, windows).sum())

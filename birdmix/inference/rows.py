"""From what was heard in windows to the scores of rows.

Shapes: W windows, R rows, C classes, F' frames of the feature map.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np

from birdmix.inference.engine import Heard
from birdmix.inference.grid import Grid
from birdmix.labels import Labels

# Bytes: a C library returns memory of this size to the system as soon as it is let go.
_PIECE = 32 << 20
_FIRST_ROWS = 64


def pooled(heard: Heard, which: list[int], grid: Grid, pool: str) -> np.ndarray:
    """Return what windows say of the row that each was heard for, float32 [W, C].

    Args:
        heard: Logits of the windows; of their frames too, unless ``pool`` is clip.
        which: For each window, which of its row's windows it is.
        grid: Says where in the window the row lies.
        pool: clip, or mean or max of the frames whose middle lies in the row.
    """
    if pool == "clip":
        return heard.clip
    assert heard.frames is not None  # the listener takes no other head
    rows = np.empty_like(heard.clip)
    for number, k in enumerate(which):
        frames = heard.frames[number][:, frames_of_row(grid, k, heard.frames.shape[2])]
        rows[number] = frames.mean(axis=1) if pool == "mean" else frames.max(axis=1)
    return rows


def frames_of_row(grid: Grid, k: int, num_frames: int) -> slice:
    """Return the frames of a row's k-th window whose middle lies in the row, one at least."""
    middle = (np.arange(num_frames) + 0.5) / num_frames * grid.heard
    begin = grid.lead - grid.shifts[k]
    inside = np.flatnonzero((middle >= begin) & (middle < begin + grid.row))
    if not len(inside):
        inside = np.array([np.abs(middle - (begin + grid.row / 2)).argmin()])
    return slice(int(inside[0]), int(inside[-1]) + 1)


class RowScores:
    """What a model says of a recording's rows, as they come.

    They lie in pieces: to move them to a larger place would take twice the memory.

    Args:
        own: The model's classes.
        labels: The classes C to say it of; NaN where the model does not know them.

    Attributes:
        num_rows: Rows R so far.
    """

    def __init__(self, own: Labels, labels: Labels) -> None:
        self.num_rows, self.num_classes = 0, len(labels)
        self._knows_all = own.codes == labels.codes
        columns = [labels.column(code) for code in own.codes]
        self._columns = slice(None) if self._knows_all else np.array(columns)
        self._pieces: deque[np.ndarray] = deque()
        self._free = 0  # rows of the last piece

    def add(self, score: np.ndarray) -> None:
        """Take the scores of some more rows, float32 [R, own classes]."""
        while len(score):
            if not self._free:
                self._grow()
            piece = self._pieces[-1]
            begin, some = len(piece) - self._free, score[: self._free]
            piece[begin : begin + len(some), self._columns] = some
            self.num_rows += len(some)
            self._free -= len(some)
            score = score[len(some) :]

    def _grow(self) -> None:
        most = -(-_PIECE // (4 * self.num_classes))
        piece = np.empty((min(max(self.num_rows, _FIRST_ROWS), most), self.num_classes), np.float32)
        if not self._knows_all:
            piece.fill(np.nan)
        self._pieces.append(piece)
        self._free = len(piece)

    def give_up(self) -> Iterator[np.ndarray]:
        """Yield the rows, float32 [R, C], piece by piece, and let go of them.

        All models have the same pieces.
        """
        while self._pieces:
            piece = self._pieces.popleft()
            yield piece if self._pieces else piece[: len(piece) - self._free]


def smoothed(score: np.ndarray, share: float) -> np.ndarray:
    """Let each row take part of its logits from its two neighbours; the ends are their own.

    Args:
        score: Logits of adjoining rows, float32 [R, C].
        share: What the neighbours are given together, in [0, 1).
    """
    if not share:
        return score
    around = np.concatenate([score[:1], score, score[-1:]])
    half = np.float32(share / 2)
    return np.float32(1 - share) * score + half * (around[:-2] + around[2:])

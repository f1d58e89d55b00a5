"""From what was heard in windows to the scores of rows.

Shapes: W windows, R rows, C classes, F' frames of the feature map.
"""

import numpy as np

from birdmix.inference.engine import Heard
from birdmix.inference.grid import Grid


def pooled(heard: Heard, which: list[int], grid: Grid, pool: str) -> np.ndarray:
    """Return what windows say of the row that each was heard for, float32 [W, C].

    Args:
        heard: Logits of the windows.
        which: For each window, which of its row's windows it is.
        grid: Says where in the window the row lies.
        pool: clip, or mean or max of the frames whose middle lies in the row.

    Raises:
        ValueError: If frames are asked of a head that hears none.
    """
    if pool == "clip":
        return heard.clip
    if heard.frames is None:
        raise ValueError(
            f"--pool {pool}: this head hears no frames; take --pool clip (model.head=sed has some)"
        )
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

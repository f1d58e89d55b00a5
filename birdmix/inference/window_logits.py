"""Logits of a recording's windows: pooled from frames, collected in memory, smoothed.

Shapes: N contexts of a batch, K contexts of a window, W windows of a recording, C classes,
F' frames of the feature map.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np

from birdmix.engines.engine_interface import EngineOutput
from birdmix.inference.window_grid import WindowGrid
from birdmix.labels import Labels

# Bytes: a C library returns memory blocks of this size to the system as soon as they are freed.
_CHUNK_BYTES = 32 << 20
_FIRST_CHUNK = 64  # windows


def pool_frames(
    output: EngineOutput, shift_indices: list[int], grid: WindowGrid, frame_pooling: str
) -> np.ndarray:
    """Return the logits of the window within each context, float32 [N, C].

    Args:
        output: Logits of the contexts; with frame logits, unless ``frame_pooling`` is clip.
        shift_indices: For each context, which of the K contexts of its window it is.
        grid: Where in the context the window lies.
        frame_pooling: clip, or mean or max of the frames whose middle lies in the window.
    """
    if frame_pooling == "clip":
        return output.logits
    assert output.frame_logits is not None  # the predictor refuses other heads
    logits = np.empty_like(output.logits)
    num_frames = output.frame_logits.shape[2]
    for number, k in enumerate(shift_indices):
        frames = output.frame_logits[number][:, frames_in_window(grid, k, num_frames)]
        logits[number] = frames.mean(axis=1) if frame_pooling == "mean" else frames.max(axis=1)
    return logits


def frames_in_window(grid: WindowGrid, k: int, num_frames: int) -> slice:
    """Return the frames of a window's k-th context whose middle lies in the window, at least one.

    Args:
        grid: Windows and contexts.
        k: Index of the context, in ``grid.shifts``.
        num_frames: Frames F' of the context.
    """
    middle = (np.arange(num_frames) + 0.5) / num_frames * grid.context
    begin = grid.context_samples_before_window - grid.shifts[k]
    inside = np.flatnonzero((middle >= begin) & (middle < begin + grid.window))
    if not len(inside):
        inside = np.array([np.abs(middle - (begin + grid.window / 2)).argmin()])
    return slice(int(inside[0]), int(inside[-1]) + 1)


class WindowLogits:
    """A model's logits of a recording's windows, in a list of arrays that grows.

    One array would have to be copied to grow, and take twice the memory.

    Args:
        model_labels: The model's classes.
        labels: The classes C of the logits; NaN for those that the model does not have.

    Attributes:
        num_windows: Windows so far.
    """

    def __init__(self, model_labels: Labels, labels: Labels) -> None:
        self.num_windows, self.num_classes = 0, len(labels)
        self._has_all = model_labels.codes == labels.codes
        columns = [labels.column(code) for code in model_labels.codes]
        self._columns = slice(None) if self._has_all else np.array(columns)
        self._chunks: deque[np.ndarray] = deque()
        self._num_free = 0  # windows that the last chunk can still take

    def append(self, logits: np.ndarray) -> None:
        """Add the logits of some more windows, float32 [W, classes of the model]."""
        while len(logits):
            if not self._num_free:
                self._add_chunk()
            chunk = self._chunks[-1]
            begin, part = len(chunk) - self._num_free, logits[: self._num_free]
            chunk[begin : begin + len(part), self._columns] = part
            self.num_windows += len(part)
            self._num_free -= len(part)
            logits = logits[len(part) :]

    def _add_chunk(self) -> None:
        largest = -(-_CHUNK_BYTES // (4 * self.num_classes))
        length = min(max(self.num_windows, _FIRST_CHUNK), largest)
        chunk = np.empty((length, self.num_classes), np.float32)
        if not self._has_all:
            chunk.fill(np.nan)
        self._chunks.append(chunk)
        self._num_free = len(chunk)

    def pop_chunks(self) -> Iterator[np.ndarray]:
        """Yield the logits, float32 [W, C], chunk by chunk, and free each.

        All models have chunks of equal lengths.
        """
        while self._chunks:
            chunk = self._chunks.popleft()
            yield chunk if self._chunks else chunk[: len(chunk) - self._num_free]


def smooth(logits: np.ndarray, share: float) -> np.ndarray:
    """Smooth logits over adjoining windows; the first and the last are their own neighbours.

    Args:
        logits: Of adjoining windows, float32 [W, C].
        share: Weight of the two neighbours together, in [0, 1).

    Returns:
        Float32 [W, C].
    """
    if not share:
        return logits
    padded = np.concatenate([logits[:1], logits, logits[-1:]])
    half = np.float32(share / 2)
    return np.float32(1 - share) * logits + half * (padded[:-2] + padded[2:])

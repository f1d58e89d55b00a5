"""Hearing: from the blocks of one recording, in one ear, to the scores of its rows.

Shapes: W windows, C classes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np

from birdmix.inference.ears import Ear
from birdmix.inference.grid import WindowStream
from birdmix.inference.rows import RowScores
from birdmix.labels import Labels

#: Has an ear judge windows in a thread; for each, which of its row's windows it is.
Submit = Callable[[Ear, list[np.ndarray], list[int]], Future]


# Infinite logits count as this: their probabilities are the same, and means of them are numbers.
_HIGHEST_LOGIT = np.float32(1e4)


class NanLogitsError(Exception):
    """A model gives logits that are NaN, which would say that it does not know a class.

    Attributes:
        member: Number of the engine among those of the ``Listener``.
    """

    def __init__(self, member: int) -> None:
        super().__init__(f"logits of engine {member} are NaN")
        self.member = member


class Hearing:
    """Windows are gathered to batches, judged in threads, and made rows in their order.

    Args:
        ear: Who hears.
        labels: The classes to say it of.
        batch: Windows that are judged at a time.
        submit: Has them judged.

    Attributes:
        scores: What each of the ear's engines says of the rows so far.
    """

    def __init__(self, ear: Ear, labels: Labels, batch: int, submit: Submit) -> None:
        self.ear, self.batch, self.submit = ear, batch, submit
        self.stream = WindowStream(ear.grid)
        owns = [engine.manifest.labels for engine in ear.engines]
        self.scores = [RowScores(own, labels) for own in owns]
        self._windows: list[np.ndarray] = []
        self._which: list[int] = []
        self._judged: deque[Future] = deque()
        # What each engine says of windows that rows to come need too, and the first one's number.
        self._recent = [np.empty((0, len(own)), np.float32) for own in owns]
        self._first = 0

    def push(self, block: np.ndarray) -> None:
        """Hear a block.

        Raises:
            NanLogitsError: If a model gives logits that are NaN.
        """
        self._take(self.stream.push(block))

    def end(self) -> None:
        """Hear the rest."""
        self._take(self.stream.end())
        if self._windows:
            self._send()
        while self._judged:
            self._collect()

    def _take(self, windows: Iterator[tuple[np.ndarray, int]]) -> None:
        for window, k in windows:
            self._windows.append(window)
            self._which.append(k)
            if len(self._windows) == self.batch:
                self._send()

    def _send(self) -> None:
        self._judged.append(self.submit(self.ear, self._windows, self._which))
        self._windows, self._which = [], []
        while self._judged and self._judged[0].done():
            self._collect()

    def _collect(self) -> None:
        """Take what was said of a batch, and make rows of those whose windows are all there."""
        judged = self._judged.popleft().result()
        for member, logits in zip(self.ear.members, judged, strict=True):
            if np.isnan(logits).any():
                raise NanLogitsError(member)
        judged = [np.clip(logits, -_HIGHEST_LOGIT, _HIGHEST_LOGIT) for logits in judged]
        self._recent = [np.concatenate(both) for both in zip(self._recent, judged, strict=True)]
        rows, end = self.stream.rows, self._first + len(self._recent[0])
        whole = []
        while rows and max(rows[0]) < end:
            whole.append(rows.popleft())
        if not whole:
            return
        index = np.array(whole) - self._first
        for score, recent in zip(self.scores, self._recent, strict=True):
            score.add(recent[index].mean(axis=1))
        oldest = min([end, self.stream.oldest, *map(min, rows)])
        self._recent = [recent[oldest - self._first :] for recent in self._recent]
        self._first = oldest

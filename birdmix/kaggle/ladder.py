"""The ladder: ways to hear a competition's rows, from the fullest down to the cheapest.

Shapes: R rows, M models, C species.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from birdmix.inference.engine import Engine
from birdmix.inference.listener import Listener
from birdmix.inference.settings import ListenSettings
from birdmix.kaggle.task import Task
from birdmix.labels import Labels
from birdmix.windows import MIN_TAIL_SECONDS, WindowPredictions

# Rows that are weighted at a time: of all at once the weights would grow with their square.
_ROWS = 64


@dataclass(frozen=True)
class Rung:
    """A way to hear.

    Attributes:
        listener: Who hears.
        without: What is given up to come here from the rung above, in words.
    """

    listener: Listener
    without: str = ""


class Ladder:
    """Hears recordings in the rows and columns that are asked for.

    Each rung gives up one thing more: first the shifts, then the overlap of rows, then the bundles
    from the last one on.

    Args:
        engines: The models.
        settings: How they listen; rows are as long as the competition's.
        task: Whose rows and columns.

    Attributes:
        rungs: All of them.
        at: The one that hears what comes next.
        num_ranked: Models M whose scores stand side by side, to be ranked; 0 if they are one score.

    Raises:
        ValueError: If models and settings do not fit each other.
    """

    def __init__(self, engines: Sequence[Engine], settings: ListenSettings, task: Task) -> None:
        self.task, self.at = task, 0
        self.window = task.competition.window_seconds
        settings = replace(settings, window=self.window)
        if settings.step is not None and settings.step > self.window:
            raise ValueError(
                f"--step {settings.step:g}: rows of {self.window:g} s would be left out; it is "
                "the length of a row at most"
            )
        self.num_ranked = len(engines) if settings.combine == "rank" else 0
        self.rungs = [Rung(Listener(engines, settings))]
        self._add_rungs(engines, settings)

    def _add_rungs(self, engines: Sequence[Engine], settings: ListenSettings) -> None:
        if settings.shift:
            settings = replace(settings, shift=0.0)
            self.rungs.append(Rung(Listener(engines, settings), "--shift"))
        if settings.step not in (None, self.window):
            settings = replace(settings, step=None)
            self.rungs.append(Rung(Listener(engines, settings), "--step"))
        for number in range(len(engines), 1, -1):
            listener = Listener(engines[: number - 1], settings)
            self.rungs.append(Rung(listener, f"bundle {number}"))

    @property
    def top(self) -> Listener:
        """The fullest way to hear."""
        return self.rungs[0].listener

    def called_from(self, threshold: float | None) -> np.ndarray:
        """Return the probability from which each species is called, float64 [C], NaN for never.

        Args:
            threshold: The same for all; None takes the bundles' own.

        Raises:
            ValueError: If it takes what there is not.
        """
        called_from = np.full(len(self.task.species), np.nan)
        known, columns = self.top.labels.find(self.task.species)
        called_from[known] = self.top.called_from(threshold)[columns]
        return called_from

    def step_down(self) -> str:
        """Hear what comes next more cheaply; return what that gives up, empty at the lowest."""
        if self.at + 1 == len(self.rungs):
            return ""
        self.at += 1
        return self.rungs[self.at].without

    def predict(
        self, folder: Path, path: str, on_heard: Callable[[float], None] | None = None
    ) -> WindowPredictions:
        """Hear one recording.

        Returns:
            Rows side by side, as long as a competition's, also where the recording ends before;
            scores of the species asked for, float32 [R, M * C], NaN where no model knows them.
        """
        listener = self.rungs[self.at].listener  # the next recording may have another
        heard = listener.predict(folder, path, on_heard)
        score, start = self._aligned(heard.score, listener.labels), heard.start_seconds
        if listener.step != self.window:
            covered = max(heard.seconds - MIN_TAIL_SECONDS, self.window)
            start = np.arange(0, covered, self.window)
            score = overlapping(score, heard.start_seconds, start, self.window)
        return replace(heard, start_seconds=start, end_seconds=start + self.window, score=score)

    def num_bytes(self, seconds: float) -> int:
        """Return the memory that the scores of a recording take."""
        return self.top.num_bytes(seconds)

    def close(self) -> None:
        """End the threads of all rungs."""
        for rung in self.rungs:
            rung.listener.close()

    def _aligned(self, score: np.ndarray, labels: Labels) -> np.ndarray:
        """Put the models' columns where the species are, NaN where there is none."""
        by_model = score.reshape(len(score), -1, len(labels))
        shape = (len(score), self.num_ranked or 1, len(self.task.species))
        aligned = np.full(shape, np.nan, np.float32)
        known, columns = labels.find(self.task.species)
        aligned[:, : by_model.shape[1], known] = by_model[:, :, columns]
        return aligned.reshape(len(score), -1)


def overlapping(
    score: np.ndarray, heard_from: np.ndarray, start: np.ndarray, window: float
) -> np.ndarray:
    """Return the mean of what was heard about each row, weighted by how much of it overlaps.

    Args:
        score: Logits of windows heard, float32 [W, C].
        heard_from: Where they start, in seconds, float64 [W].
        start: Where rows start, float64 [R].
        window: Length of both, in seconds.

    Returns:
        Float32 [R, C].
    """
    rows = np.empty((len(start), score.shape[1]), np.float32)
    for begin in range(0, len(start), _ROWS):
        own = start[begin : begin + _ROWS]
        first, last = np.searchsorted(heard_from, [own[0] - window, own[-1] + window])
        weight = np.maximum(window - np.abs(own[:, None] - heard_from[first:last]), 0)
        total = weight.sum(axis=1, keepdims=True)
        rows[begin : begin + len(own)] = weight @ score[first:last] / total
    return rows

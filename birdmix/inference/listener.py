"""A listener: models and settings that turn a recording into rows of scores.

Shapes: W windows, T samples, R rows, C classes.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from birdmix.audio.decode import Blocks
from birdmix.inference.engine import Engine
from birdmix.inference.ensemble import aligned, combined, joint_labels, joint_thresholds
from birdmix.inference.grid import Grid, WindowStream
from birdmix.inference.rows import pooled
from birdmix.inference.settings import ListenSettings
from birdmix.suggest import first_few
from birdmix.windows import WindowPredictions

# Batches that wait for a thread while others are computed, for each such thread.
_WAITING = 2

# Longer blocks would not stay in a processor's cache, and the system would hand out fresh pages for
# each: a twentieth of all listening to 48 kHz WAV.
_BLOCK_SECONDS = 5.0


class Stopping(Exception):  # noqa: N818 - an end in order, not an error
    """Listening ends while a recording is being heard."""


@dataclass(frozen=True)
class Ear:
    """Engines that take each other's pictures, of windows of one length.

    Attributes:
        grid: The windows.
        members: Numbers of the engines.
        engines: The engines.
    """

    grid: Grid
    members: list[int] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)

    def judge(self, windows: list[np.ndarray], which: list[int], pool: str) -> list[np.ndarray]:
        """Return what each engine says of some windows, float32 [W, C]."""
        pictures = self.engines[0].hear(np.stack(windows))
        return [pooled(each.judge(pictures), which, self.grid, pool) for each in self.engines]


class Listener:
    """Models that listen together. Decoding and computing go on side by side, in threads.

    Args:
        engines: The models.
        settings: How they listen.

    Attributes:
        labels: The codes of all of them.
        thresholds: Probability from which each is called, float64 [C]; None if no bundle has any.
        window, step: Of the rows, in seconds.

    Raises:
        ValueError: If models and settings do not fit each other.
    """

    def __init__(self, engines: Sequence[Engine], settings: ListenSettings) -> None:
        self.engines, self.settings = engines, settings
        manifests = [each.manifest for each in engines]
        self.labels = joint_labels(manifests)
        self.thresholds = joint_thresholds(manifests, self.labels)
        self.window = settings.window or _same_window(engines)
        self.step = settings.step or self.window
        self.ears = self._ears()
        side_by_side = max(each.side_by_side for each in engines)
        self.batch = min(each.batch for each in engines)
        self._pool = ThreadPoolExecutor(side_by_side, "listening")
        self._room = threading.Semaphore(_WAITING * side_by_side)
        self._stopping = threading.Event()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; recordings that are being heard raise ``Stopping``."""
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)

    def _ears(self) -> dict[int, list[Ear]]:
        """Return who listens, by sample rate: one decoding serves all of a rate."""
        ears: dict[tuple, Ear] = {}
        for member, engine in enumerate(self.engines):
            manifest = engine.manifest
            context = self.settings.context or manifest.segment_seconds
            if context < self.window:
                raise ValueError(
                    f"rows of {self.window:g} s of which {context:g} s are heard; take --window "
                    f"{context:g} at most, or --context {self.window:g}"
                )
            sample_rate = manifest.log_mel.sample_rate
            heard = manifest.log_mel.num_samples(context)
            _check_hears(engine, heard, context)
            grid = Grid.of(
                sample_rate,
                row=self.window,
                step=self.step,
                heard=heard,
                shift=self.settings.shift,
                shared=self.settings.pool == "clip",
            )
            ear = ears.setdefault((sample_rate, heard, engine.ear), Ear(grid))
            ear.members.append(member)
            ear.engines.append(engine)
        by_rate: dict[int, list[Ear]] = {}
        for (sample_rate, *_), ear in ears.items():
            by_rate.setdefault(sample_rate, []).append(ear)
        return by_rate

    def predict(self, folder: Path, path: str) -> WindowPredictions:
        """Hear one recording. Memory is bounded but for the scores of its rows.

        Several threads may call it, each with its own recording.

        Returns:
            The rows' scores; with combine=rank those of each model side by side, to be ranked when
            all recordings are heard.

        Raises:
            AudioError: If the recording yields no samples.
        """
        scores: dict[int, np.ndarray] = {}
        seconds, problems = 0.0, []
        for sample_rate, ears in self.ears.items():
            file, channel = Path(folder) / path, self.settings.channel
            blocks = Blocks(file, sample_rate, _BLOCK_SECONDS, channel)
            streams = [_Hearing(self, ear) for ear in ears]
            for block in blocks:
                for stream in streams:
                    stream.push(block)
            for stream in streams:
                scores |= stream.end()
            seconds = streams[0].stream.num_samples / sample_rate
            problems = blocks.problems
        return self._joined(path, [scores[m] for m in range(len(self.engines))], seconds, problems)

    def _joined(
        self, path: str, scores: list[np.ndarray], seconds: float, problems: Sequence[object]
    ) -> WindowPredictions:
        num_rows = min(map(len, scores))  # two rates may differ by a row of a few samples
        scores = [
            aligned(score[:num_rows], engine.manifest.labels, self.labels)
            for score, engine in zip(scores, self.engines, strict=True)
        ]
        settings = self.settings
        if settings.combine == "rank":
            score = np.concatenate(scores, axis=1)
        else:
            score = combined(scores, settings.combine, settings.power)
        start, end = row_times(num_rows, self.window, self.step, seconds)
        return WindowPredictions(path, start, end, score, "; ".join(map(str, problems)), seconds)

    def submit(self, ear: Ear, windows: list[np.ndarray], which: list[int]) -> Future:
        """Have windows judged as soon as a thread is free; waits while too many wait."""
        while not self._room.acquire(timeout=0.2):
            if self._stopping.is_set():
                raise Stopping
        if self._stopping.is_set():
            raise Stopping
        future = self._pool.submit(ear.judge, windows, which, self.settings.pool)
        future.add_done_callback(lambda _: self._room.release())
        return future


class _Hearing:
    """One recording in one ear: windows are gathered to batches and judged in threads."""

    def __init__(self, listener: Listener, ear: Ear) -> None:
        self.listener, self.ear = listener, ear
        self.stream = WindowStream(ear.grid)
        self._windows: list[np.ndarray] = []
        self._which: list[int] = []
        self._judged: list[Future] = []

    def push(self, block: np.ndarray) -> None:
        """Hear a block."""
        self._take(self.stream.push(block))

    def end(self) -> dict[int, np.ndarray]:
        """Hear the rest; return the rows' scores of each of the ear's engines, float32 [R, C]."""
        self._take(self.stream.end())
        if self._windows:
            self._send()
        batches = [future.result() for future in self._judged]
        index = np.array(self.stream.index)
        rows = {}
        for member, judged in zip(self.ear.members, zip(*batches, strict=True), strict=True):
            score = np.concatenate(judged)
            rows[member] = score[index[:, 0]] if index.shape[1] == 1 else score[index].mean(axis=1)
        return rows

    def _take(self, windows: Iterator[tuple[np.ndarray, int]]) -> None:
        for window, k in windows:
            self._windows.append(window)
            self._which.append(k)
            if len(self._windows) == self.listener.batch:
                self._send()

    def _send(self) -> None:
        self._judged.append(self.listener.submit(self.ear, self._windows, self._which))
        self._windows, self._which = [], []


def row_times(
    num_rows: int, window: float, step: float, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return where rows start and end in seconds, float64 [R] each; the last may be shorter."""
    start = np.arange(num_rows) * step
    return start, np.minimum(start + window, seconds)


def _same_window(engines: Sequence[Engine]) -> float:
    lengths = sorted({each.manifest.segment_seconds for each in engines})
    if len(lengths) > 1:
        several = first_few([f"{length:g}" for length in lengths])
        raise ValueError(
            f"the bundles hear {several} s: say how long a row is, --window {lengths[0]:g} for "
            "example; each then hears its own length about it"
        )
    return lengths[0]


def _check_hears(engine: Engine, heard: int, context: float) -> None:
    only = getattr(engine, "num_samples", None)
    if only is not None and only != heard:
        length = only / engine.manifest.log_mel.sample_rate
        raise ValueError(
            f"--context {context:g}: the exported network hears {length:g} s, nothing else; "
            "leave it out, or take --engine torch"
        )

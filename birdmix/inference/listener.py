"""A listener: models and settings that turn a recording into rows of scores.

Shapes: R rows.
"""

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from birdmix.audio.clock import read_clock
from birdmix.audio.decode import Blocks
from birdmix.audio.sound_file import AudioError
from birdmix.inference.ears import Ear, ears_of
from birdmix.inference.engine import Engine
from birdmix.inference.ensemble import THRESHOLD, joined, joint_labels, joint_thresholds
from birdmix.inference.hearing import Hearing, NanLogitsError
from birdmix.inference.rows import RowScores
from birdmix.inference.settings import ListenSettings
from birdmix.suggest import first_few
from birdmix.windows import WindowPredictions

# Batches that wait for a thread while others are computed, for each such thread.
_WAITING = 2

# Longer blocks would not stay in a processor's cache, and the system would hand out fresh pages for
# each: a tenth of all listening to 48 kHz WAV.
_BLOCK_SECONDS = 5.0


class Stopping(Exception):  # noqa: N818 - an end in order, not an error
    """Listening ends while a recording is being heard."""


class Listens(Protocol):
    """What hears recordings; see ``Listener``."""

    def predict(
        self, folder: Path, path: str, on_heard: Callable[[float], None] | None = None
    ) -> WindowPredictions:
        """Hear one recording."""

    def num_bytes(self, seconds: float) -> int:
        """Return the memory that the scores of a recording take."""

    def close(self) -> None:
        """End what goes on."""


class Listener:
    """Models that listen together. Decoding and computing go on side by side, in threads.

    Args:
        engines: The models.
        settings: How they listen.

    Attributes:
        labels: The codes of all of them.
        thresholds: Probability from which each is called, float64 [C]; None if no bundle has any.
        window, step: Of the rows, in seconds.
        stopping: Set when listening ends.

    Raises:
        ValueError: If models and settings do not fit each other.
    """

    def __init__(self, engines: Sequence[Engine], settings: ListenSettings) -> None:
        self.engines, self.settings = engines, settings
        manifests = [each.manifest for each in engines]
        self.labels = joint_labels(manifests)
        self.thresholds = joint_thresholds(manifests, self.labels)
        # With ranks the scores of all models stand side by side.
        self.num_ranked = len(engines) if settings.combine == "rank" else 1
        self.window = settings.window or _same_window(engines)
        self.step = settings.step or self.window
        self.ears = ears_of(engines, settings, self.window, self.step)
        side_by_side = max(each.side_by_side for each in engines)
        self.batch = min(each.batch for each in engines)
        self.stopping = threading.Event()
        self._pool = ThreadPoolExecutor(side_by_side, "listening")
        self._room = threading.Semaphore(_WAITING * side_by_side)

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; recordings that are being heard raise ``Stopping``."""
        self.stopping.set()
        self._pool.shutdown(cancel_futures=True)

    def predict(
        self, folder: Path, path: str, on_heard: Callable[[float], None] | None = None
    ) -> WindowPredictions:
        """Hear one recording. Memory is bounded but for the scores of its rows.

        Several threads may call it, each with its own recording.

        Args:
            folder: Folder of the recordings.
            path: Which of them, relative to it.
            on_heard: Called with the seconds heard so far.

        Returns:
            The rows' scores; with combine=rank those of each model side by side, to be ranked when
            all recordings are heard.

        Raises:
            AudioError: If the recording yields no samples, or logits that are NaN.
        """
        file = Path(folder) / path
        try:
            return self._predict(file, path, on_heard)
        except NanLogitsError as error:
            engine = self.engines[error.member].name
            which = f"bundle {error.member + 1} of {len(self.engines)} ({engine})"
            raise AudioError(file, f"{which} gives logits of it that are NaN") from error

    def _predict(
        self, file: Path, path: str, on_heard: Callable[[float], None] | None
    ) -> WindowPredictions:
        clock = read_clock(file)  # first of all: a card may be pulled while it is heard
        scores: dict[int, RowScores] = {}
        heard = seconds = 0.0
        problems: Sequence[object] = []
        for sample_rate, ears in self.ears.items():
            blocks = Blocks(file, sample_rate, _BLOCK_SECONDS, self.settings.channel)
            hearings = [Hearing(ear, self.labels, self.batch, self.submit) for ear in ears]
            for block in blocks:
                for hearing in hearings:
                    hearing.push(block)
                heard += len(block) / sample_rate / len(self.ears)
                if on_heard:
                    on_heard(heard)
            for hearing in hearings:
                hearing.end()
                scores |= zip(hearing.ear.members, hearing.scores, strict=True)
            seconds, problems = hearings[0].stream.num_samples / sample_rate, blocks.problems
        models = [scores.pop(member) for member in range(len(self.engines))]
        score = joined(models, self.settings.combine, self.settings.power)
        start, end = row_times(len(score), self.window, self.step, seconds)
        warning = "; ".join(filter(None, [*map(str, problems), clock.problem]))
        return WindowPredictions(path, start, end, score, warning, seconds, clock.moment)

    def called_from(self, threshold: float | None) -> np.ndarray:
        """Return the probability from which each class is called, float64 [C], NaN for never.

        Args:
            threshold: The same for all; None takes the bundles' own.

        Raises:
            ValueError: If it takes what there is not.
        """
        if threshold is not None:
            return np.full(len(self.labels), threshold)
        if self.settings.combine == "rank":
            raise ValueError(
                f"--combine rank: ranks know nothing of the bundles' thresholds; give one, "
                f"--threshold {THRESHOLD} for example"
            )
        if self.thresholds is None:
            said = f"the bundles have no thresholds: species are called from {THRESHOLD} on"
            warnings.warn(said, stacklevel=2)
            return np.full(len(self.labels), THRESHOLD)
        return self.thresholds

    def unknown_columns(self) -> np.ndarray:
        """Return which columns of the scores are NaN, those of species that a model lacks, bool."""
        if self.settings.combine != "rank" or len(self.engines) == 1:
            return np.zeros(len(self.labels) * self.num_ranked, bool)
        own = [each.manifest.labels for each in self.engines]
        return np.array([code not in labels for labels in own for code in self.labels.codes])

    def num_rows(self, seconds: float) -> tuple[int, int]:
        """Return the fewest and the most rows that a recording of so many seconds has."""
        counts = []
        for sample_rate, ears in self.ears.items():
            num_samples = round(seconds * sample_rate)
            for ear in ears:
                # Each rate rounds a recording's length to its own samples.
                reach = 0 if len(self.ears) == 1 else 1
                counts += [ear.grid.num_rows(num_samples + off) for off in (-reach, reach)]
        return min(counts), max(counts)

    def num_bytes(self, seconds: float) -> int:
        """Return the memory that the scores of a recording take."""
        num_rows = int(seconds / self.step) + 1
        return 4 * num_rows * len(self.labels) * len(self.engines)

    def submit(self, ear: Ear, windows: list[np.ndarray], which: list[int]) -> Future:
        """Have windows judged as soon as a thread is free; waits while too many wait."""
        while not self._room.acquire(timeout=0.2):
            if self.stopping.is_set():
                raise Stopping
        if self.stopping.is_set():
            raise Stopping
        future = self._pool.submit(ear.judge, windows, which, self.settings.pool)
        future.add_done_callback(lambda _: self._room.release())
        return future


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

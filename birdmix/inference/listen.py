"""Listen to a folder: recordings in, window predictions out, failures told apart.

Shapes: T samples, W windows, C classes.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from birdmix.audio.decode import Blocks
from birdmix.audio.sound_file import AudioError, find_recordings
from birdmix.inference.engine import Engine
from birdmix.windows import MIN_TAIL_SECONDS, WindowPredictions, cut

#: Windows that go through the model at a time.
BATCH = 32


@dataclass
class Listening:
    """What came of a folder, as it grows.

    Attributes:
        num_files: Recordings found.
        done: Recordings that ended, well or not.
        seconds: Audio heard.
        failed: Path and reason of each recording that yields no samples.
        began: ``time.monotonic()`` at the first recording, in seconds.
    """

    num_files: int = 0
    done: int = 0
    seconds: float = 0.0
    failed: list[tuple[str, str]] = field(default_factory=list)
    began: float = 0.0


def listen(
    engine: Engine,
    folder: Path,
    *,
    on_progress: Callable[[Listening], None] | None = None,
    listening: Listening | None = None,
) -> Iterator[WindowPredictions]:
    """Predict every recording below a folder.

    Every recording ends in exactly one place: it is yielded, or it stands in ``listening.failed``.

    Args:
        engine: The model.
        folder: Folder of recordings, nested as it likes.
        on_progress: Called after each recording.
        listening: The books to keep; read them while or after iterating.

    Raises:
        ValueError: If the folder is missing or holds no recordings.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: no such folder; name a folder of recordings")
    paths = find_recordings(folder)
    if not paths:
        raise ValueError(f"{folder}: no recordings here (wav, flac, ogg, opus, mp3, aiff, ...)")
    books = listening if listening is not None else Listening()
    books.num_files = len(paths)
    books.began = time.monotonic()
    for path in paths:
        try:
            predictions = predict(engine, folder, path)
        except AudioError as error:
            books.failed.append((path, error.reason))
        else:
            books.seconds += float(predictions.end_seconds[-1])
            yield predictions
        books.done += 1
        if on_progress:
            on_progress(books)


def predict(engine: Engine, folder: Path, path: str) -> WindowPredictions:
    """Predict the windows of one recording, side by side, the last one padded with silence.

    Memory is bounded by the block and the batch, whatever the recording's length.

    Raises:
        AudioError: If the recording yields no samples.
    """
    manifest = engine.manifest
    blocks = Blocks(Path(folder) / path, manifest.log_mel.sample_rate)
    windows = Windowed(blocks, manifest.num_samples, manifest.log_mel.sample_rate)
    score = [engine.judge(engine.hear(batch)).clip for batch in windows.batches(BATCH)]
    start = np.arange(sum(map(len, score))) * manifest.segment_seconds
    return WindowPredictions(
        path=path,
        start_seconds=start,
        end_seconds=np.minimum(start + manifest.segment_seconds, windows.seconds),
        score=np.concatenate(score),
        warning="; ".join(map(str, blocks.problems)),
    )


class Windowed:
    """Adjoining windows of a stream of blocks.

    Args:
        blocks: The recording.
        num_samples: Window length T.
        sample_rate: Hz.
    """

    def __init__(self, blocks: Blocks, num_samples: int, sample_rate: int) -> None:
        self.blocks = blocks
        self.num_samples = num_samples
        self.sample_rate = sample_rate
        self.total = 0

    @property
    def seconds(self) -> float:
        """Seconds heard so far."""
        return self.total / self.sample_rate

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """Yield the windows, float32 [W, T] with W at most ``batch_size``."""
        rest = np.zeros(0, np.float32)
        for block in self.blocks:
            self.total += len(block)
            rest = np.concatenate([rest, block])
            whole = len(rest) // self.num_samples * self.num_samples
            windows, rest = rest[:whole].reshape(-1, self.num_samples), rest[whole:]
            for at in range(0, len(windows), batch_size):
                yield windows[at : at + batch_size]
        first_window = self.total == len(rest)
        if first_window or len(rest) > MIN_TAIL_SECONDS * self.sample_rate:
            yield cut(rest, 0, self.num_samples)[None]

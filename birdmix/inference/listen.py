"""Listen to a folder: recordings in, window predictions out, failures told apart."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from birdmix.audio.sound_file import AudioError, find_recordings
from birdmix.inference.listener import Listener
from birdmix.windows import WindowPredictions

# Recordings that are heard at a time at most: each has a file open, and some blocks in memory.
_MOST = 16


@dataclass
class Listening:
    """What came of a folder, as it grows.

    Attributes:
        num_files: Recordings to hear.
        num_bytes: Their size.
        done: Recordings that ended, well or not.
        bytes_done: Their size.
        seconds: Audio heard.
        failed: Path and reason of each recording that yields no samples.
        began: ``time.monotonic()`` at the first recording, in seconds.
    """

    num_files: int = 0
    num_bytes: int = 0
    done: int = 0
    bytes_done: int = 0
    seconds: float = 0.0
    failed: list[tuple[str, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Seconds of audio heard in a second."""
        return self.seconds / max(time.monotonic() - self.began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end, by the size of what is left; None before anything is done."""
        if not self.bytes_done:
            return None
        spent = time.monotonic() - self.began
        return spent * (self.num_bytes - self.bytes_done) / self.bytes_done


#: Called after each recording.
Progress = Callable[[Listening], None]


def recordings_in(folder: Path) -> list[str]:
    """List the recordings below a folder, sorted.

    Raises:
        ValueError: If the folder is missing or holds none.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: no such folder; name a folder of recordings")
    paths = find_recordings(folder)
    if not paths:
        raise ValueError(f"{folder}: no recordings here (wav, flac, ogg, opus, mp3, aiff, ...)")
    return paths


def listen(
    listener: Listener,
    folder: Path,
    paths: Sequence[str],
    *,
    on_progress: Progress | None = None,
    listening: Listening | None = None,
) -> Iterator[WindowPredictions]:
    """Hear recordings, several at a time; they come in the order in which they are ready.

    Every recording ends in exactly one place: it is yielded, or it stands in ``listening.failed``.
    What is said of a recording does not depend on the others.

    Args:
        listener: Who listens.
        folder: Folder of the recordings.
        paths: Which of them, relative to it.
        on_progress: Called after each recording.
        listening: The books to keep; read them while or after iterating.

    Raises:
        ValueError: If the folder goes away meanwhile.
    """
    books = listening if listening is not None else Listening()
    size = {path: _size(folder, path) for path in paths}
    books.num_files, books.num_bytes = len(paths), sum(size.values())
    books.began = time.monotonic()
    for path, heard in _side_by_side(listener, folder, paths):
        books.done += 1
        books.bytes_done += size[path]
        if isinstance(heard, AudioError):
            if not Path(folder).is_dir():
                raise ValueError(
                    f"{folder}: it is gone; bring it back, and the same command goes on"
                )
            books.failed.append((path, heard.reason))
        else:
            books.seconds += heard.seconds
            yield heard
        if on_progress:
            on_progress(books)
    books.failed.sort()


def _side_by_side(
    listener: Listener, folder: Path, paths: Sequence[str]
) -> Iterator[tuple[str, WindowPredictions | AudioError]]:
    """Hear a few recordings at a time, each decoded in a thread of its own."""
    readers = min(max(os.cpu_count() or 1, 2), _MOST)
    left = iter(paths)
    running: dict[Future, str] = {}
    with ThreadPoolExecutor(readers, "decoding") as pool:
        try:
            while True:
                while len(running) < 2 * readers and (path := next(left, None)) is not None:
                    running[pool.submit(listener.predict, folder, path)] = path
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    path = running.pop(future)
                    error = future.exception()
                    if isinstance(error, AudioError):
                        yield path, error
                    else:
                        yield path, future.result()
        except BaseException:
            listener.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _size(folder: Path, path: str) -> int:
    try:
        return os.stat(Path(folder) / path).st_size
    except OSError:  # it is told when it is to be heard
        return 0

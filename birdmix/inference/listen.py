"""Listen to a folder: recordings in, window predictions out, failures told apart."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from birdmix.inference.job import Job
from birdmix.inference.listener import Listens
from birdmix.inference.room import Room
from birdmix.windows import WindowPredictions

# Recordings that are heard at a time at most: each has a file open, and some blocks in memory.
_MOST = 16

# Bytes of the scores of those: a recording that has more is heard alone.
_ROOM = 256 << 20

# Seconds between two tellings of how far listening is.
_TELL_EVERY = 0.25


@dataclass
class Listening:
    """What came of a folder, as it grows.

    Attributes:
        num_files: Recordings to hear.
        num_bytes: Their size.
        done: Recordings that ended, well or not.
        bytes_ended: Their size.
        seconds_ended: Their length.
        running: Recordings that are being heard.
        failed: Path and reason of each recording that yields no samples.
        began: ``time.monotonic()`` at the first recording, in seconds ...
        ended: ... and when listening ended; None before.
    """

    num_files: int = 0
    num_bytes: int = 0
    done: int = 0
    bytes_ended: int = 0
    seconds_ended: float = 0.0
    running: list[Job] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def bytes_done(self) -> int:
        """Size of what was heard."""
        return self.bytes_ended + sum(job.bytes_heard for job in self.running)

    @property
    def seconds(self) -> float:
        """Length of what was heard."""
        return self.seconds_ended + sum(job.heard for job in self.running)

    @property
    def took(self) -> float:
        """Seconds that listening took, so far or in all."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    @property
    def rate(self) -> float:
        """Seconds of audio heard in a second."""
        return self.seconds / max(self.took, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end, by the size of what is left; None before anything is done."""
        if not self.bytes_done:
            return None
        return self.took * (self.num_bytes - self.bytes_done) / self.bytes_done


#: Called after each recording, and a few times a second.
Progress = Callable[[Listening], None]


def listen(
    listener: Listens,
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
        on_progress: Called after each recording, and a few times a second.
        listening: The books to keep; read them while or after iterating.

    Raises:
        ValueError: If the folder goes away meanwhile.
    """
    books = listening if listening is not None else Listening()
    jobs = [Job.of(folder, path) for path in paths]
    books.num_files, books.num_bytes = len(jobs), sum(job.size for job in jobs)
    books.began, books.ended = time.monotonic(), None
    try:
        for job in _side_by_side(listener, jobs, books, on_progress or (lambda _: None)):
            books.done += 1
            books.bytes_ended += job.size
            if job.failure:
                _check_is_there(folder)
                books.failed.append((job.path, job.failure))
            else:
                predictions = job.hand_over()
                books.seconds_ended += predictions.seconds
                yield predictions
                del predictions  # their room is given to others now
    finally:
        books.running, books.ended = [], time.monotonic()
        books.failed.sort()


def _side_by_side(
    listener: Listens, jobs: Sequence[Job], books: Listening, on_progress: Progress
) -> Iterator[Job]:
    """Hear a few recordings at a time, each decoded in a thread of its own; yield those ended."""
    readers = min(max(os.cpu_count() or 1, 2), _MOST)
    left, room = iter(jobs), Room(_ROOM)
    running: dict[Future, Job] = {}
    with ThreadPoolExecutor(readers, "decoding") as pool:
        try:
            while True:
                for job in itertools.islice(left, 2 * readers - len(running)):
                    running[pool.submit(job.hear, listener, room)] = job
                if not running:
                    return
                for future in wait(running, _TELL_EVERY, FIRST_COMPLETED).done:
                    job = running.pop(future)
                    future.result()
                    books.running = list(running.values())
                    yield job
                    room.give(job.room)
                books.running = list(running.values())
                on_progress(books)
        except BaseException:
            listener.close()
            raise
        finally:
            room.close()
            pool.shutdown(cancel_futures=True)


def _check_is_there(folder: Path) -> None:
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: it is gone; bring it back, and the same command goes on")

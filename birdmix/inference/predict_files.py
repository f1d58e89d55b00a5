"""Prediction of a list of recordings in threads, with progress and failures."""

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from birdmix.audio.audio_file import AudioError
from birdmix.audio.stream_reader import read_audio_info
from birdmix.inference.memory_budget import MemoryBudget
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.inference.recording_predictor import PredictionStopped, PredictsRecording
from birdmix.threads import num_processors

# Recordings that are decoded at a time for each processor, and in all: a reader waits while the
# last batch of its recording is predicted. Each has an open file, and a batch in memory.
_READERS_PER_PROCESSOR, _MAX_READERS = 2, 32

# Memory budget for the logits of recordings in work, in bytes: a recording that needs more is
# predicted alone.
_BUDGET_BYTES = 256 << 20

# Seconds between two reports of progress.
_REPORT_EVERY = 0.25

# Bytes per second of sound, where the header does not state the length.
_BYTES_PER_SECOND = 8000


@dataclass(eq=False)
class RecordingJob:
    """One recording to predict: its progress and its result. One thread runs it, others read them.

    Attributes:
        folder: Folder of the recordings.
        path: The recording, relative to it.
        size: Bytes of the file.
        seconds: Length of the recording, estimated before it is decoded.
        seconds_done: Seconds decoded so far.
        num_bytes: Bytes of the memory budget that it has acquired.
        failure: Why it cannot be predicted; empty if it can.
    """

    folder: Path
    path: str
    size: int = 0
    seconds: float = 0.0
    seconds_done: float = 0.0
    num_bytes: int = 0
    failure: str = ""
    _predictions: RecordingPredictions | None = None

    @staticmethod
    def from_path(folder: Path, path: str) -> "RecordingJob":
        """Make the job of a recording."""
        try:
            return RecordingJob(folder, path, os.stat(Path(folder) / path).st_size)
        except OSError:  # reported when the job runs
            return RecordingJob(folder, path)

    @property
    def bytes_done(self) -> int:
        """Bytes of the file decoded so far."""
        return int(self.size * min(self.seconds_done / self.seconds, 1)) if self.seconds else 0

    def run(
        self, predictor: PredictsRecording, budget: MemoryBudget, cancelled: threading.Event
    ) -> None:
        """Predict the recording, as soon as the budget has memory for its logits."""

        def on_decoded(seconds: float) -> None:
            self.seconds_done = seconds
            if cancelled.is_set():
                raise PredictionStopped

        try:
            self.seconds = self._estimate_seconds()
            num_bytes = predictor.num_bytes_of_logits(self.seconds)
            budget.acquire(num_bytes)
            self.num_bytes = num_bytes
            self._predictions = predictor.predict(self.folder, self.path, on_decoded)
        except AudioError as error:
            self.failure = error.reason

    def _estimate_seconds(self) -> float:
        info = read_audio_info(Path(self.folder) / self.path)
        if info.num_frames is None:
            return self.size / _BYTES_PER_SECOND
        return info.num_frames / info.sample_rate

    def take_predictions(self) -> RecordingPredictions:
        """Return the predictions, and drop them from the job."""
        assert self._predictions is not None  # the job has ended without a failure
        predictions, self._predictions = self._predictions, None
        return predictions


@dataclass
class Progress:
    """Progress of a prediction of several recordings.

    Attributes:
        num_files: Recordings to predict.
        num_bytes: Their size.
        num_done: Recordings that ended, also those that failed.
        bytes_ended: Their size.
        seconds_ended: Length of those that were predicted.
        running: Recordings that are being predicted.
        failed: Path and reason of each recording that could not be predicted.
        started_at: ``time.monotonic()`` at the start, in seconds ...
        ended_at: ... and at the end; None before.
    """

    num_files: int = 0
    num_bytes: int = 0
    num_done: int = 0
    bytes_ended: int = 0
    seconds_ended: float = 0.0
    running: list[RecordingJob] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None

    @property
    def bytes_done(self) -> int:
        """Bytes of files predicted so far."""
        return self.bytes_ended + sum(job.bytes_done for job in self.running)

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio predicted so far."""
        return self.seconds_ended + sum(job.seconds_done for job in self.running)

    @property
    def elapsed_seconds(self) -> float:
        """Seconds that the prediction has taken, so far or in all."""
        return (time.monotonic() if self.ended_at is None else self.ended_at) - self.started_at

    @property
    def times_real_time(self) -> float:
        """Seconds of audio predicted per second."""
        return self.audio_seconds / max(self.elapsed_seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end, estimated by the bytes left; None before anything is done."""
        if not self.bytes_done:
            return None
        return self.elapsed_seconds * (self.num_bytes - self.bytes_done) / self.bytes_done

    def bytes_and_status(self) -> tuple[int, int, str]:
        """Return bytes done and in all, and a line: recordings, hours, speed, time left."""
        line = (
            f"{self.num_done:,} of {self.num_files:,} recordings, "
            f"{self.audio_seconds / 3600:.1f} h, {self.times_real_time:.0f} x real time"
        )
        left = self.seconds_left
        if left is not None:
            line += f", {int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d} left"
        if self.failed:
            line += f", {len(self.failed):,} failed"
        return self.bytes_done, self.num_bytes, line

    def summary(self) -> str:
        """Return a line of what was predicted: recordings, hours, speed, failures."""
        return (
            f"{self.num_done - len(self.failed):,} of {self.num_files:,} recordings predicted, "
            f"{self.audio_seconds / 3600:.2f} h of audio, {self.times_real_time:.0f} x real time, "
            f"{len(self.failed):,} failed"
        )


#: Called with the progress after each recording, and a few times a second.
OnProgress = Callable[[Progress], None]


def predict_files(
    predictor: PredictsRecording,
    folder: Path,
    paths: Sequence[str],
    *,
    on_progress: OnProgress | None = None,
    progress: Progress | None = None,
) -> Iterator[RecordingPredictions]:
    """Predict recordings, several at a time; they are yielded as they are ready.

    Each recording is either yielded, or listed in ``progress.failed``. Predictions of a recording
    do not depend on the other recordings.

    Args:
        predictor: The models.
        folder: Folder of the recordings.
        paths: The recordings, relative to it.
        on_progress: Called after each recording, and a few times a second.
        progress: Is updated; read it while or after iterating.

    Yields:
        Predictions of a recording.

    Raises:
        ValueError: If the folder vanishes meanwhile.
    """
    progress = progress if progress is not None else Progress()
    jobs = [RecordingJob.from_path(folder, path) for path in paths]
    progress.num_files, progress.num_bytes = len(jobs), sum(job.size for job in jobs)
    progress.started_at, progress.ended_at = time.monotonic(), None
    try:
        for job in _run_jobs(predictor, jobs, progress, on_progress or (lambda _: None)):
            progress.num_done += 1
            progress.bytes_ended += job.size
            if job.failure:
                _check_exists(folder)
                progress.failed.append((job.path, job.failure))
            else:
                predictions = job.take_predictions()
                progress.seconds_ended += predictions.seconds
                yield predictions
                del predictions  # their memory is released to other recordings now
    finally:
        progress.running, progress.ended_at = [], time.monotonic()
        progress.failed.sort()


def _run_jobs(
    predictor: PredictsRecording,
    jobs: Sequence[RecordingJob],
    progress: Progress,
    on_progress: OnProgress,
) -> Iterator[RecordingJob]:
    """Run a few jobs at a time, each in a thread of its own; yield those that have ended."""
    num_readers = min(_READERS_PER_PROCESSOR * num_processors(), _MAX_READERS)
    waiting, budget, cancelled = iter(jobs), MemoryBudget(_BUDGET_BYTES), threading.Event()
    running: dict[Future, RecordingJob] = {}
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    with ThreadPoolExecutor(num_readers, "decoding") as threads:
        try:
            while True:
                for job in itertools.islice(waiting, 2 * num_readers - len(running)):
                    future = threads.submit(job.run, predictor, budget, cancelled)
                    running[future] = job
                    future.add_done_callback(ended.put)
                    progress.running = list(running.values())
                if not running:
                    return
                try:
                    future = ended.get(timeout=_REPORT_EVERY)
                except queue.Empty:
                    on_progress(progress)
                    continue
                job = running.pop(future)
                future.result()
                progress.running = list(running.values())
                yield job
                budget.release(job.num_bytes)
                on_progress(progress)
        except GeneratorExit:  # the caller wants no more recordings, now
            raise
        except BaseException:
            predictor.close()
            raise
        finally:
            cancelled.set()
            budget.close()
            threads.shutdown(cancel_futures=True)


def _check_exists(folder: Path) -> None:
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: no longer exists; restore it, and run the same command again")

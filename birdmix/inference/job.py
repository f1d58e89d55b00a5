"""A job: one recording to hear, how far it is, and what came of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from birdmix.audio.reader import probe
from birdmix.audio.sound_file import AudioError
from birdmix.inference.listener import Listens
from birdmix.inference.room import Room
from birdmix.windows import WindowPredictions

# Bytes of a second of sound where the header does not know the length.
_BYTES_PER_SECOND = 8000


@dataclass(eq=False)
class Job:
    """A recording to hear. One thread hears it; others may look how far it is.

    Attributes:
        folder: Folder of the recordings.
        path: Its path, relative to it.
        size: Its bytes.
        seconds: Its length, as far as can be told before it is heard.
        heard: Seconds of it that have been heard.
        room: Bytes of memory that it was given.
        failure: Why it yields no samples; empty if it does.
    """

    folder: Path
    path: str
    size: int = 0
    seconds: float = 0.0
    heard: float = 0.0
    room: int = 0
    failure: str = ""
    _predictions: WindowPredictions | None = None

    @staticmethod
    def of(folder: Path, path: str) -> "Job":
        """Make the job of a recording."""
        try:
            return Job(folder, path, os.stat(Path(folder) / path).st_size)
        except OSError:  # it is told when it is to be heard
            return Job(folder, path)

    @property
    def bytes_heard(self) -> int:
        """Bytes of it that have been heard."""
        return int(self.size * min(self.heard / self.seconds, 1)) if self.seconds else 0

    def hear(self, listener: Listens, room: Room) -> None:
        """Hear it, as soon as there is room for its scores."""
        try:
            self.seconds = self._length()
            num_bytes = listener.num_bytes(self.seconds)
            room.take(num_bytes)
            self.room = num_bytes
            self._predictions = listener.predict(self.folder, self.path, self._on_heard)
        except AudioError as error:
            self.failure = error.reason

    def _length(self) -> float:
        info = probe(Path(self.folder) / self.path)
        if info.num_frames is None:
            return self.size / _BYTES_PER_SECOND
        return info.num_frames / info.sample_rate

    def _on_heard(self, seconds: float) -> None:
        self.heard = seconds

    def hand_over(self) -> WindowPredictions:
        """Return what was heard, and let go of it."""
        assert self._predictions is not None  # it has ended, and not in failure
        predictions, self._predictions = self._predictions, None
        return predictions

"""The pace: whether listening ends in time, and what is done if it will not."""

import math
import time
from collections.abc import Callable

from birdmix.inference.job import Job
from birdmix.inference.listen import Listening
from birdmix.kaggle.ladder import Ladder
from birdmix.kaggle.settings import PaceSettings

# Share of the limit after which a rung's rate is believed.
_BELIEVED_AFTER = 0.02

# Seconds, and share of the limit, kept for what listening has in hand when it is stopped.
_KEPT_SECONDS, _KEPT = 3.0, 0.01

# The file is written once more at the end; it may take so many times as long as it did before.
_SLOWER = 3


class OutOfTime(Exception):  # noqa: N818 - an end in order, not an error
    """The time is up."""


class Pace:
    """Looks at the clock while soundscapes are heard; called with the books a few times a second.

    Args:
        settings: The limit, and whether to hear more cheaply rather than to leave soundscapes out.
        ladder: Who hears.
        say: Prints a line.

    Attributes:
        writing: Seconds that writing the file takes.
    """

    def __init__(self, settings: PaceSettings, ladder: Ladder, say: Callable[[str], None]) -> None:
        self.settings, self.ladder, self.say = settings, ladder, say
        self.limit = settings.limit_seconds
        self.writing = 0.0
        self._said = False
        self._start: tuple[float, int] | None = None  # when this rung began, and bytes heard then
        self._others: list[Job] = []  # what the rung above still hears

    def __call__(self, books: Listening) -> None:
        """Look at the clock.

        Raises:
            OutOfTime: If it is up.
        """
        if self.limit == math.inf:
            return
        now, limit = time.monotonic() - self.settings.began, self.limit
        end = limit - max(_KEPT_SECONDS, _KEPT * limit) - _SLOWER * self.writing
        if now >= end:
            raise OutOfTime
        if any(job in books.running for job in self._others):
            return
        if self._start is None:
            self._start = now, books.bytes_done
        since, before = self._start
        heard = books.bytes_done - before
        if now - since < _BELIEVED_AFTER * limit or not heard:
            return
        needed = now + (books.num_bytes - books.bytes_done) * (now - since) / heard
        in_time = needed <= end
        if not in_time and (without := self.settings.degrade and self.ladder.step_down()):
            self.say(f"{_told(needed, limit)}: too slow; from here on without {without}")
            begun = [job for job in books.running if job.seconds]
            self._start, self._others, self._said = None, begun, False
        elif not self._said:
            self._said = True
            self.say(f"{_told(needed, limit)}: {'in time' if in_time else self._too_slow()}")

    def _too_slow(self) -> str:
        cheaper = "nothing is left to give up"
        if not self.settings.degrade and len(self.ladder.rungs) > 1:
            cheaper = "--degrade hears more"
        return f"too slow; what is not reached keeps the prior ({cheaper})"


def _told(needed: float, limit: float) -> str:
    return f"it would take {minutes(needed)} of {minutes(limit)}"


def minutes(seconds: float) -> str:
    """Say a duration: ``12 s``, ``7.5 min``, ``90 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"

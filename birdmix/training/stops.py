"""Ends that somebody asks for: a signal, a limit of time. They wait for a safe point."""

import signal
import time
from pathlib import Path
from types import FrameType, TracebackType

from birdmix.duration import seconds_of

#: Exit status of a run whose time is over: sysexits' "temporary failure, try again".
TIME_IS_OVER = 75

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818 - an end in order, not an error
    """A run was saved and ended before its last epoch.

    Args:
        status: Exit status: 75 when its time was over, 128 + signal otherwise.
        where: Where the run stands.
        run: Its directory.
    """

    def __init__(self, status: int, where: str, run: Path) -> None:
        self.status = status
        reason = "its time is over" if status == TIME_IS_OVER else signal.Signals(status - 128).name
        super().__init__(
            f"stopped at {where} ({reason}) and saved; go on with: python train.py resume={run}"
        )


class Stops:
    """Listens for SIGTERM and Ctrl-C while it is entered, and watches the clock.

    The first signal only leaves a note for the next safe point; a second one acts at once.

    Args:
        max_time: Longest time from now on (``90m``, ``00:08:30:00``); None has no limit.
    """

    def __init__(self, max_time: str | None = None) -> None:
        limit = float("inf") if max_time is None else seconds_of(max_time)
        self.ends_at = time.monotonic() + limit
        self.signal_status = 0

    def status(self) -> int:
        """Return the exit status that is asked for, 0 if none is."""
        if self.signal_status:
            return self.signal_status
        return TIME_IS_OVER if time.monotonic() >= self.ends_at else 0

    def __enter__(self) -> "Stops":
        self.before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_status = 128 + number
        for each, handler in self.before.items():  # the next one acts at once
            signal.signal(each, handler)

"""Stop requests: signals and a time limit, acted on at safe points of the training loop."""

import signal
import time
from pathlib import Path
from types import FrameType, TracebackType

from birdmix.duration import parse_duration
from birdmix.messages import training_command
from birdmix.user_errors import OrderlyStop

#: Exit status of a run that reached its time limit: "temporary failure, try again" of sysexits.
EXIT_TIME_LIMIT = 75

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunStopped(OrderlyStop):
    """A run was saved and stopped on request before its last epoch.

    Args:
        status: Exit status: 75 for a time limit, 128 + signal number otherwise.
        where: The run's position, in words.
        run: Run directory.
    """

    def __init__(self, status: int, where: str, run: Path) -> None:
        is_signal = status != EXIT_TIME_LIMIT
        reason = signal.Signals(status - 128).name if is_signal else "time limit reached"
        command = f"{training_command()} resume={run}"
        super().__init__(f"stopped at {where} ({reason}) and saved; resume with: {command}", status)


class StopRequests:
    """Context manager that records SIGTERM and Ctrl-C, and checks a time limit.

    The first signal is only recorded, for the next safe point; a second one acts at once.

    Args:
        max_time: Time limit from now on (``90m``, ``00:08:30:00``); None is no limit.
    """

    def __init__(self, max_time: str | None = None) -> None:
        limit = float("inf") if max_time is None else parse_duration(max_time)
        self.ends_at = time.monotonic() + limit
        self.signal_status = 0

    def exit_status(self) -> int:
        """Return the exit status of the requested stop, 0 if none was requested."""
        if self.signal_status:
            return self.signal_status
        return EXIT_TIME_LIMIT if time.monotonic() >= self.ends_at else 0

    def __enter__(self) -> "StopRequests":
        self.previous_handlers = {
            number: signal.signal(number, self._record_signal) for number in _SIGNALS
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore_handlers()

    def _record_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal_status = 128 + number
        self._restore_handlers()  # so that the next signal acts at once

    def _restore_handlers(self) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)

"""A memory budget that recordings share while they are predicted."""

import threading


class MemoryBudget:
    """Bytes that threads acquire and release.

    A request that does not fit waits; requests are served in their order, so that small ones cannot
    delay a large one for ever. A request of any size is granted while nothing else is acquired.

    Args:
        num_bytes: The budget.
    """

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes, self._acquired, self._closed = num_bytes, 0, False
        self._queue = threading.Lock()
        self._changed = threading.Condition()

    def acquire(self, num_bytes: int) -> None:
        """Wait until some bytes are free, and acquire them."""
        with self._queue, self._changed:
            self._changed.wait_for(lambda: self._fits(num_bytes))
            self._acquired += num_bytes

    def _fits(self, num_bytes: int) -> bool:
        return self._closed or not self._acquired or self._acquired + num_bytes <= self.num_bytes

    def release(self, num_bytes: int) -> None:
        """Release some bytes."""
        with self._changed:
            self._acquired -= num_bytes
            self._changed.notify()

    def close(self) -> None:
        """Grant all requests at once, those that wait and those to come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

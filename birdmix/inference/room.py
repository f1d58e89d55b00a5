"""Room: the memory that recordings share while they are heard."""

import threading


class Room:
    """Who wants more than is left waits, in the order of asking; who is alone gets any amount.

    Args:
        num_bytes: What there is.
    """

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes, self._taken, self._closed = num_bytes, 0, False
        self._door = threading.Lock()  # a queue: else small ones would keep a large one out
        self._changed = threading.Condition()

    def take(self, num_bytes: int) -> None:
        """Take some of it as soon as it is there."""
        with self._door, self._changed:
            self._changed.wait_for(lambda: self._has(num_bytes))
            self._taken += num_bytes

    def _has(self, num_bytes: int) -> bool:
        return self._closed or not self._taken or self._taken + num_bytes <= self.num_bytes

    def give(self, num_bytes: int) -> None:
        """Give some of it back."""
        with self._changed:
            self._taken -= num_bytes
            self._changed.notify()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify()

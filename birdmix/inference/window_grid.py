"""Windows on a recording, and the longer contexts that the network gets for them.

Shapes: T samples of a context, W windows, K contexts of a window (shifted ones).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from birdmix.windows import MIN_TAIL_SECONDS, extract_padded, num_windows


@dataclass(frozen=True)
class WindowGrid:
    """Positions of windows and their contexts, in samples.

    Attributes:
        window: Length of a window.
        hop: From the start of a window to that of the next one; it may be a fraction.
        context: Length T of a context, with the window in the middle.
        shifts: How much later each of the K contexts of a window starts; negative is earlier.
        min_tail: An end of the recording no longer than this gets no window of its own.
        reuse: Whether a context that two windows have in common is computed once.
        last_window: A value of ``LAST_WINDOWS``.
    """

    window: int
    hop: float
    context: int
    shifts: tuple[int, ...] = (0,)
    min_tail: int = 0
    reuse: bool = True
    last_window: str = "full"

    @staticmethod
    def from_seconds(
        sample_rate: int,
        *,
        window: float,
        hop: float,
        context: int,
        shift: float = 0.0,
        reuse: bool = True,
        last_window: str = "full",
    ) -> "WindowGrid":
        """Make a grid from seconds.

        Args:
            sample_rate: In Hz.
            window: Length of a window in seconds.
            hop: Seconds from the start of a window to that of the next one.
            context: Length of a context, in samples.
            shift: Seconds by which two more contexts lie earlier and later; 0 is none.
            reuse: Whether a context that two windows have in common is computed once.
            last_window: A value of ``LAST_WINDOWS``.
        """
        offset = round(shift * sample_rate)
        return WindowGrid(
            window=round(window * sample_rate),
            hop=hop * sample_rate,
            context=context,
            shifts=(0, -offset, offset) if offset else (0,),
            min_tail=int(MIN_TAIL_SECONDS * sample_rate),
            reuse=reuse,
            last_window=last_window,
        )

    @property
    def context_samples_before_window(self) -> int:
        """Samples of a context before its window."""
        return (self.context - self.window) // 2

    def context_starts_of_window(self, window: int, num_samples: int | None = None) -> list[int]:
        """Return where the K contexts of a window start; before 0 is silence.

        Args:
            window: Number of the window.
            num_samples: Length of the recording, if it has ended: a last window may be moved back.
        """
        start = round(window * self.hop)  # a rounded hop would add up its error over the windows
        if num_samples is not None and self.last_window == "full":
            start = min(start, max(num_samples - self.window, 0))
        return [start - self.context_samples_before_window + shift for shift in self.shifts]

    def has_window(self, window: int, num_samples: int) -> bool:
        """Return whether a recording with ``num_samples`` has a window, given by its number."""
        return window < self.num_windows(num_samples)

    def num_windows(self, num_samples: int) -> int:
        """Return how many windows a recording with ``num_samples`` has."""
        if num_samples <= 0:
            return 0
        return num_windows(num_samples, self.window, self.hop, self.min_tail, self.last_window)


class SlidingBuffer:
    """The latest samples of a recording, in memory that is used again.

    New memory for each block costs more than copying it: the system maps and clears its pages.

    Attributes:
        start: Where in the recording the first sample lies.
    """

    def __init__(self) -> None:
        self.start = 0
        self._memory = np.empty(0, np.float32)
        self._begin = self._end = 0

    @property
    def samples(self) -> np.ndarray:
        """The samples, float32; a view that is valid until the next block is added."""
        return self._memory[self._begin : self._end]

    def append(self, block: np.ndarray) -> None:
        """Add a block at the end."""
        if self._end + len(block) > len(self._memory):
            samples, num_samples = self.samples, len(self.samples) + len(block)
            if len(self._memory) < 2 * num_samples:  # so that few blocks move the samples
                self._memory = np.empty(4 * num_samples, np.float32)
            self._memory[: len(samples)] = samples
            self._begin, self._end = 0, len(samples)
        self._memory[self._end : self._end + len(block)] = block
        self._end += len(block)

    def drop_before(self, start: int) -> None:
        """Drop the samples before a position in the recording."""
        num_samples = min(max(start - self.start, 0), len(self.samples))
        self._begin += num_samples
        self.start += num_samples


class ContextStream:
    """Cuts the contexts of a recording's windows out of its blocks; memory is bounded.

    Contexts are numbered in the order in which they are yielded.

    Attributes:
        windows: For each window so far, the numbers of its K contexts. The consumer of the contexts
            removes windows from the left.
        num_samples: Samples pushed so far.
    """

    def __init__(self, grid: WindowGrid) -> None:
        self.grid = grid
        self.windows: deque[list[int]] = deque()
        self.num_samples = 0
        self._buffer = SlidingBuffer()
        self._numbers: dict[int, int] = {}  # of the contexts that later windows may reuse, by start
        self._num_windows = self._num_contexts = 0

    def push(self, block: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Add a block; yield the contexts that are complete now, float32 [T], and their k.

        They are views, whose samples are valid until the next block is added.
        """
        self._buffer.append(block)
        self.num_samples += len(block)
        yield from self._complete(self.num_samples)
        # The next window may be the last, and be moved back by less than its length.
        first = min(self.grid.context_starts_of_window(self._num_windows)) - self.grid.window
        self._buffer.drop_before(first)

    def end(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the contexts that reach beyond the recording's end."""
        yield from self._complete(None)

    @property
    def oldest_reusable_context(self) -> int:
        """The number of the first context that later windows may reuse."""
        return min(self._numbers.values(), default=self._num_contexts)

    def _complete(self, end: int | None) -> Iterator[tuple[np.ndarray, int]]:
        grid = self.grid
        while grid.has_window(window := self._num_windows, self.num_samples):
            if end is None:
                starts = grid.context_starts_of_window(window, self.num_samples)
            else:
                starts = grid.context_starts_of_window(window)
                if max(starts) + grid.context > end:
                    return
            new = [
                (start, k)
                for k, start in enumerate(starts)
                if not grid.reuse or start not in self._numbers
            ]
            for start, _ in new:
                self._numbers[start] = self._num_contexts
                self._num_contexts += 1
            # Added before its contexts are yielded: with the last one the window may be removed.
            self.windows.append([self._numbers[start] for start in starts])
            self._num_windows += 1
            oldest = min(grid.context_starts_of_window(window + 1)) - grid.window
            self._numbers = {s: number for s, number in self._numbers.items() if s >= oldest}
            for start, k in new:
                samples = self._buffer.samples
                yield extract_padded(samples, start - self._buffer.start, grid.context), k

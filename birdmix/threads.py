"""Work in threads: decoding leaves the interpreter free."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Called with (files done, files in all).
Progress = Callable[[int, int], None]

#: Items that are handed to the threads at a time: a million promises would take gigabytes.
_AT_A_TIME = 1024


def each(
    work: Callable[[Item], Result], items: Sequence[Item], on_progress: Progress | None = None
) -> Iterator[tuple[Item, Result]]:
    """Yield what comes of each item, in their order.

    Args:
        work: What is done; an error that it raises is raised here.
        items: Whom it is done to.
        on_progress: Called as items are done.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for begin in range(0, len(items), _AT_A_TIME):
                some = items[begin : begin + _AT_A_TIME]
                done = zip(some, pool.map(work, some), strict=True)
                for number, (item, result) in enumerate(done, start=begin + 1):
                    yield item, result
                    if on_progress:
                        on_progress(number, len(items))
        finally:
            pool.shutdown(cancel_futures=True)

"""Threads: the number of processors, and a parallel map for functions such as decoding."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Called with (items done, items in all).
OnItemDone = Callable[[int, int], None]

#: Opens a progress bar with a description; the bar is called as ``OnItemDone``.
OpenBar = Callable[[str], AbstractContextManager[OnItemDone]]

#: Items that are submitted at a time: the futures of a million items would take gigabytes.
_ITEMS_AT_A_TIME = 1024


def map_in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    on_progress: OnItemDone | None = None,
    *,
    num_threads: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to items in threads; yield each item with its result, in order.

    Args:
        work: The function; its errors are raised here.
        items: The items.
        on_progress: Called after each item.
        num_threads: Items in work at a time; None is ``num_processors()``.
    """
    with ThreadPoolExecutor(num_threads or num_processors()) as executor:
        try:
            for begin in range(0, len(items), _ITEMS_AT_A_TIME):
                chunk = items[begin : begin + _ITEMS_AT_A_TIME]
                results = zip(chunk, executor.map(work, chunk), strict=True)
                for number, (item, result) in enumerate(results, start=begin + 1):
                    yield item, result
                    if on_progress:
                        on_progress(number, len(items))
        finally:
            executor.shutdown(cancel_futures=True)


def num_processors() -> int:
    """Return the number of processors for this process.

    The processes that torchrun starts on a machine share its processors equally. OMP_NUM_THREADS is
    ignored, since torchrun sets it to 1 in any case.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)

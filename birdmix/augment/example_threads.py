"""Threads that compute the examples of a batch side by side on a CPU."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch


def call_in_threads(work: Callable[[int], None], numbers: Sequence[int]) -> None:
    """Call a function of tensors with each number, in as many threads as torch has.

    Within a call torch uses one thread. Its own threads would wait for each other in each of the
    small operations on one example, far longer beside other processes.

    Args:
        work: The function; its errors are raised here.
        numbers: Its arguments.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        for number in numbers:
            work(number)
        return
    with _one_thread_per_operation():
        for _ in _keep_threads(num_threads, os.getpid()).map(work, numbers):
            pass


@contextmanager
def _one_thread_per_operation() -> Iterator[None]:
    """Let operations of torch use one thread, here and in threads that begin to use it inside."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


@cache
def _keep_threads(num_threads: int, process_id: int) -> ThreadPoolExecutor:
    """Return threads, the same ones for each batch: new ones would allocate all memory anew.

    Args:
        num_threads: Number of threads.
        process_id: Process that they run in: a forked one does not have those of its parent.
    """
    return ThreadPoolExecutor(num_threads)

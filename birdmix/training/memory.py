"""Out of memory: which batch size would fit, found by trying."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from birdmix.batch import Batch

R = TypeVar("R")


def within_memory(
    work: Callable[[Batch], R],
    batch: Batch,
    trial: Callable[[Batch], object],
    num_processes: int,
    accumulate: int,
    smallest: int,
) -> R:
    """Do some work on a batch; out of memory ends in one line with settings that fit.

    Args:
        work: The work.
        batch: The share of a batch that this process works on.
        trial: Allocates what ``work`` does.
        num_processes: Processes that share a batch.
        accumulate: Batches that make an optimizer step now.
        smallest: Samples that can be trained on at all: as many as one mix joins.

    Returns:
        What the work returns.

    Raises:
        ValueError: Instead of torch's error.
    """
    try:
        return work(batch)
    except torch.OutOfMemoryError as error:
        needed = str(error).split(". ")[0].rstrip(".")
    # Not in the except block: its traceback holds on to every tensor of the frames that failed.
    size = len(batch.x)
    fits = largest_that_fits(batch, trial, smallest)
    if fits is None:
        raise ValueError(
            f"{needed}: not even {smallest} at a time fit; take a smaller model.backbone, shorter "
            "data.segment_seconds or trainer.precision=bf16-mixed"
        )
    raise ValueError(
        f"{needed}: {size} segments at a time do not fit, {fits} do; use "
        f"data.batch_size={fits * num_processes} trainer.accumulate={accumulate * -(-size // fits)}"
        " for optimizer steps as large as these"
    )


def largest_that_fits(batch: Batch, trial: Callable[[Batch], object], smallest: int) -> int | None:
    """Return the first of a half, a quarter, ... of a batch that can be trained on."""
    size = len(batch.x) // 2
    while size >= smallest:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            trial(first_samples(batch, size))
            return size
        except torch.OutOfMemoryError:
            size //= 2
    return None


def first_samples(batch: Batch, size: int) -> Batch:
    """Return the first samples of a batch, with the whole of its pool."""
    parts: list = [part[:size] if isinstance(part, Tensor) else part for part in batch]
    return Batch(*parts)

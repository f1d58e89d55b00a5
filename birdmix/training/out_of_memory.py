"""Out-of-memory errors, turned into one line with a batch size that fits, found by trials."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from birdmix.loading.batch import Batch
from birdmix.mix import Examples

R = TypeVar("R")


def run_or_suggest_batch_size(
    work: Callable[[Batch], R],
    batch: Batch,
    trial: Callable[[Batch], object],
    num_processes: int,
    accumulate: int,
    min_size: int,
) -> R:
    """Call a function on a batch; if memory is exhausted, fail with settings that fit.

    Args:
        work: The function.
        batch: This process's share of a batch.
        trial: Function that allocates as much memory as ``work``.
        num_processes: Number of processes that share a batch.
        accumulate: Batches per optimizer step in the current settings.
        min_size: Smallest number of examples that can be trained on: as many as one mix joins.

    Returns:
        The result of ``work``.

    Raises:
        ValueError: Instead of torch's out-of-memory error.
    """
    try:
        return work(batch)
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0].rstrip(".")
    # Not in the except block: its traceback keeps all tensors of the failed frames alive.
    size = batch.context.batch_size
    fitting = largest_fitting_size(batch, trial, min_size)
    if fitting is None:
        raise ValueError(
            f"{reason}: a batch of {min_size} segments does not fit either; use a smaller "
            "model.backbone, shorter data.segment_seconds or trainer.precision=bf16-mixed"
        )
    raise ValueError(
        f"{reason}: a batch of {size} segments does not fit, one of {fitting} does; use "
        f"data.batch_size={fitting * num_processes} "
        f"trainer.accumulate={accumulate * -(-size // fitting)} for the same optimizer steps"
    )


def largest_fitting_size(
    batch: Batch, trial: Callable[[Batch], object], min_size: int
) -> int | None:
    """Return the first of a half, a quarter, ... of a batch that fits into memory.

    Args:
        batch: This process's share of a batch.
        trial: Function that allocates as much memory as training on a batch.
        min_size: Smallest size to try.

    Returns:
        Number of examples; None if no size fits.
    """
    size = batch.context.batch_size // 2
    while size >= min_size:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            trial(first_examples(batch, size))
            return size
        except torch.OutOfMemoryError:
            size //= 2
    return None


def first_examples(batch: Batch, size: int) -> Batch:
    """Return the first examples of a batch, with its whole mix pool."""
    examples = Examples._make(None if each is None else each[:size] for each in batch.examples)
    return Batch(examples, batch.context.keep_first(size), batch.pool)

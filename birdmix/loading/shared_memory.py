"""Shared memory for waveforms of batches, which loader processes reuse in turn.

A batch of waveforms takes tens of megabytes. The system provides fresh memory for each batch page
by page, which takes a sixth of the time of decoding; reused memory avoids that.

Shapes: W workers, B waveforms of a batch and its mix pool, T samples.
"""

import itertools
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from birdmix.loading.batch import Batch

#: Batches that torch's loader requests from a worker ahead of time.
PREFETCH = 2

_NUMBERS = itertools.count()

#: The memories of this process, by number.
_MEMORIES: WeakValueDictionary[int, "SharedBatchMemory"] = WeakValueDictionary()

# The batches that are requested ahead of time, and the one that is being copied.
_NUM_SLOTS = PREFETCH + 1


class SharedBatch:
    """A batch whose waveforms are in shared memory, as sent from a worker to the main process.

    Args:
        memory: The shared memory.
        place: Worker and slot of the waveforms.
        batch: The batch without its waveforms.
    """

    def __init__(self, memory: "SharedBatchMemory", place: tuple[int, int], batch: Batch) -> None:
        self.memory = memory
        self.place = place
        self.batch = batch

    def __reduce__(self) -> tuple:
        return _unpickle, (self.memory.number, self.place, self.batch)

    def copy_out(self, pinned: bool = False) -> Batch:
        """Return the batch with a copy of its waveforms; to be called before the slot is reused.

        Args:
            pinned: Whether to copy to page-locked memory.
        """
        waveforms = self.memory.waveforms[self.place]
        size = self.batch.context.batch_size
        batch = self.batch.replace_x(_copy(waveforms[:size], pinned))
        pool = self.batch.pool
        if pool is None:
            return batch
        pool_waveforms = waveforms[size : size + len(pool.target)]
        return batch._replace(pool=pool._replace(x=_copy(pool_waveforms, pinned)))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; called by torch's pinning thread."""
        return self.copy_out(pinned=True)


class SharedBatchMemory:
    """Shared memory for batches in transfer, allocated before the workers start.

    Args:
        num_workers: Number of loader processes W.
        num_waveforms: Maximum number of waveforms of a batch and its mix pool B.
        num_samples: Length of a waveform T.
    """

    def __init__(self, num_workers: int, num_waveforms: int, num_samples: int) -> None:
        shape = (num_workers, _NUM_SLOTS, num_waveforms, num_samples)
        self.waveforms = torch.empty(shape, dtype=torch.float32).share_memory_()
        self.number = next(_NUMBERS)
        _MEMORIES[self.number] = self
        self._slot = -1  # of this process
        self._num_used = 0

    def begin_batch(self) -> None:
        """Begin the next batch of this process."""
        self._slot = (self._slot + 1) % _NUM_SLOTS
        self._num_used = 0

    def stack(self, worker: int, waveforms: list[np.ndarray]) -> Tensor:
        """Copy waveforms into the slot of the current batch, after those that it has already.

        Args:
            worker: Number of this worker.
            waveforms: float32 [T] each.

        Returns:
            View of the copies in shared memory, [len(waveforms), T].
        """
        begin, self._num_used = self._num_used, self._num_used + len(waveforms)
        stacked = self.waveforms[worker, self._slot, begin : self._num_used]
        for target, waveform in zip(stacked.numpy(), waveforms, strict=True):
            target[:] = waveform
        return stacked

    def share(self, worker: int, batch: Batch) -> SharedBatch:
        """Return a batch in a form that is sent without its waveforms.

        Args:
            worker: Number of this worker.
            batch: The batch, with waveforms that ``stack`` copied into this memory.
        """
        empty = torch.empty(0)
        if batch.pool is not None:
            batch = batch._replace(pool=batch.pool._replace(x=empty))
        return SharedBatch(self, (worker, self._slot), batch.replace_x(empty))


def _unpickle(number: int, place: tuple[int, int], batch: Batch) -> SharedBatch:
    """Restore a shared batch in the process that received it."""
    return SharedBatch(_MEMORIES[number], place, batch)


def _copy(waveforms: Tensor, pinned: bool) -> Tensor:
    return torch.empty_like(waveforms, pin_memory=pinned).copy_(waveforms)

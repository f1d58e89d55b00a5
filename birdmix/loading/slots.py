"""Shared memory that loader processes fill in turn, over and over.

A batch of waveforms is tens of megabytes. Fresh memory for each is handed out by the system page by
page, which takes a sixth as long as decoding it; memory that was filled before does not.

Shapes: W workers, B waveforms of a batch and its pool, T samples.
"""

import itertools
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from birdmix.batch import Batch

#: Batches that torch's loader asks a worker for ahead of time.
PREFETCH = 2

_NUMBERS = itertools.count()

_OPEN: WeakValueDictionary[int, "Slots"] = WeakValueDictionary()

# One more than can be asked for and not taken yet: the one that is being taken.
_TURNS = PREFETCH + 1


class Parcel:
    """A batch on its way out of a worker: its waveforms stay where they are.

    Args:
        slots: Where they lie.
        place: Worker and turn.
        batch: All but the waveforms.
    """

    def __init__(self, slots: "Slots", place: tuple[int, int], batch: Batch) -> None:
        self.slots = slots
        self.place = place
        self.batch = batch

    def __reduce__(self) -> tuple:
        return _arrived, (self.slots.number, self.place, self.batch)

    def opened(self, pinned: bool = False) -> Batch:
        """Return the batch with a copy of its waveforms, before the slot's turn comes again."""
        waveforms = self.slots.memory[self.place]
        size = len(self.batch.row)
        batch = self.batch._replace(x=_copied(waveforms[:size], pinned))
        pool = self.batch.pool
        if pool is None:
            return batch
        pooled = waveforms[size : size + len(pool.row)]
        return batch._replace(pool=pool._replace(x=_copied(pooled, pinned)))

    def pin_memory(self) -> Batch:
        """Do so in the thread that copies batches to where a GPU fetches them."""
        return self.opened(pinned=True)


class Slots:
    """Room for the batches that are on their way, made before the workers start.

    Args:
        num_workers: Loader processes W.
        num_waveforms: Most waveforms of a batch and its pool B.
        num_samples: Their length T.
    """

    def __init__(self, num_workers: int, num_waveforms: int, num_samples: int) -> None:
        shape = (num_workers, _TURNS, num_waveforms, num_samples)
        self.memory = torch.empty(shape, dtype=torch.float32).share_memory_()
        self.number = next(_NUMBERS)
        _OPEN[self.number] = self
        self._turn = -1  # of this process
        self._used = 0

    def begin(self) -> None:
        """Begin the next batch of this process."""
        self._turn = (self._turn + 1) % _TURNS
        self._used = 0

    def stack(self, worker: int, waveforms: list[np.ndarray]) -> Tensor:
        """Lay waveforms [T] below those that this batch has already; return them as one."""
        begin, self._used = self._used, self._used + len(waveforms)
        stacked = self.memory[worker, self._turn, begin : self._used]
        for room, waveform in zip(stacked.numpy(), waveforms, strict=True):
            room[:] = waveform
        return stacked

    def parcel(self, worker: int, batch: Batch) -> Parcel:
        """Wrap up a batch whose waveforms were stacked here."""
        nothing = torch.empty(0)
        pool = None if batch.pool is None else batch.pool._replace(x=nothing)
        return Parcel(self, (worker, self._turn), batch._replace(x=nothing, pool=pool))


def _arrived(number: int, place: tuple[int, int], batch: Batch) -> Parcel:
    """Find the slots that a parcel is of in the process that it has come to."""
    return Parcel(_OPEN[number], place, batch)


def _copied(waveforms: Tensor, pinned: bool) -> Tensor:
    return torch.empty_like(waveforms, pin_memory=pinned).copy_(waveforms)

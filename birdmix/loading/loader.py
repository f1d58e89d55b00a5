"""The loader: batches made in other processes, which outlast signals and tell what breaks."""

import os
import signal
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from birdmix.audio.sound_file import AudioError
from birdmix.batch import Batch
from birdmix.loading.batches import Pooled, Segments
from birdmix.loading.judging import Windows
from birdmix.loading.slots import PREFETCH, Parcel, Slots


def _as_it_is(batch: Any) -> Any:
    return batch


def _outlast_signals(worker: int) -> None:
    """Let the training process end first: a signal to the whole group must not stop a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux: who sends a signal can be known
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()


def _end_when_the_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class _Sending(Dataset[Any]):
    """Answers with parcels, and with words where a recording breaks, which an error would lose.

    Args:
        dataset: Makes the batches.
        slots: Where their waveforms lie; None leaves that to torch.
    """

    def __init__(self, dataset: Segments | Pooled | Windows, slots: Slots | None) -> None:
        self.dataset: Any = dataset
        self.slots = slots

    def __getitems__(self, keys: Any) -> Batch | Parcel | str:
        try:
            if self.slots is None:
                return self.dataset.__getitems__(keys)
            worker = get_worker_info()
            assert worker is not None
            self.slots.begin()
            self.dataset.stack_by(partial(self.slots.stack, worker.id))
            return self.slots.parcel(worker.id, self.dataset.__getitems__(keys))
        except AudioError as error:
            return f"{error}; it could be read when the run began: put it back as it was"
        except ValueError as error:
            return str(error)


class _Loader(DataLoader):
    """Opens parcels, and raises what a worker tells."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, str):
                raise ValueError(batch)
            yield batch.opened() if isinstance(batch, Parcel) else batch


def loader(
    dataset: Segments | Pooled | Windows,
    batches: Any,
    num_workers: int,
) -> DataLoader:
    """Make the loader of a data set.

    A recording that breaks on the way raises a ``ValueError`` where the batch is asked for.

    Args:
        dataset: What keys are given to, a whole batch at a time.
        batches: ``EpochBatches`` or ``PooledBatches`` to train on, lists of keys for ``Windows``.
        num_workers: Loader processes; 0 loads in this one.
    """
    slots = None
    if num_workers and isinstance(dataset, Segments | Pooled):
        slots = Slots(num_workers, batches.num_waveforms, dataset.num_samples)
    return _Loader(
        _Sending(dataset, slots),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,  # a data set answers with a whole batch
        persistent_workers=num_workers > 0,
        prefetch_factor=PREFETCH if num_workers else None,
        worker_init_fn=_outlast_signals,
        pin_memory=torch.cuda.is_available(),
    )


def end_workers(batches: Iterable[Batch]) -> None:
    """End a loader's worker processes now.

    Left to the collector they may be asked to end too late, and are then waited for at the
    program's exit, five seconds each.
    """
    iterator: Any = getattr(batches, "_iterator", None)  # torch has no public name for it
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()

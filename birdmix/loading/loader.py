"""The loader: batches from worker processes, with handling of signals and errors."""

import os
import signal
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from birdmix.audio.audio_file import AudioError
from birdmix.loading.batch import Batch
from birdmix.loading.segment_dataset import SegmentAndPoolDataset, SegmentDataset
from birdmix.loading.shared_memory import PREFETCH, SharedBatch, SharedBatchMemory
from birdmix.loading.window_dataset import WindowDataset


def _identity(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ignore signals to the process group in a worker: the training process ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux, where the sender of a signal is known
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_parents_signal, daemon=True).start()


def _exit_on_parents_signal() -> None:
    """Exit on a SIGTERM from the training process; ignore those of other senders."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class _WorkerDataset(Dataset[Any]):
    """Data set for workers: returns shared batches, and errors of recordings as their messages.

    An exception would lose its message on the way to the main process.

    Args:
        dataset: Data set that loads the batches.
        memory: Shared memory for their waveforms; None lets torch transfer them.
    """

    def __init__(
        self,
        dataset: SegmentDataset | SegmentAndPoolDataset | WindowDataset,
        memory: SharedBatchMemory | None,
    ) -> None:
        self.dataset: Any = dataset
        self.memory = memory

    def __getitems__(self, keys: Any) -> Batch | SharedBatch | str:
        try:
            if self.memory is None:
                return self.dataset.__getitems__(keys)
            worker = get_worker_info()
            assert worker is not None
            self.memory.begin_batch()
            self.dataset.set_stack_function(partial(self.memory.stack, worker.id))
            return self.memory.share(worker.id, self.dataset.__getitems__(keys))
        except AudioError as error:
            return f"{error}; the file was readable at the start of the run; restore it"
        except ValueError as error:
            return str(error)


class _Loader(DataLoader):
    """Loader that copies shared batches out of shared memory, and raises errors of workers."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, str):
                raise ValueError(batch)
            yield batch.copy_out() if isinstance(batch, SharedBatch) else batch


def make_loader(
    dataset: SegmentDataset | SegmentAndPoolDataset | WindowDataset,
    batches: Any,
    num_workers: int,
) -> DataLoader:
    """Build the loader of a data set.

    Args:
        dataset: Data set that loads a batch from its list of keys.
        batches: ``SegmentBatchSampler`` or ``SegmentAndPoolBatchSampler`` for training,
            lists of keys for validation.
        num_workers: Number of loader processes; 0 loads in this process.

    Returns:
        Iterable of batches. It raises ValueError if a recording cannot be read any more.
    """
    memory = None
    if num_workers and isinstance(dataset, SegmentDataset | SegmentAndPoolDataset):
        memory = SharedBatchMemory(
            num_workers, batches.max_waveforms_per_batch, dataset.num_samples
        )
    return _Loader(
        _WorkerDataset(dataset, memory),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_identity,  # data sets return complete batches
        persistent_workers=num_workers > 0,
        prefetch_factor=PREFETCH if num_workers else None,
        worker_init_fn=_ignore_signals,
        pin_memory=torch.cuda.is_available(),
    )


def end_workers(batches: Iterable[Batch]) -> None:
    """End the worker processes of a loader now.

    If that is left to garbage collection, workers may be stopped too late, and the program's exit
    then waits for each of them for five seconds.

    Args:
        batches: The loader; other iterables are ignored.
    """
    iterator: Any = getattr(batches, "_iterator", None)  # torch has no public name for it
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()

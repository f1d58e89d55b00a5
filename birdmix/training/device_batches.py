"""Batches on the training device, each copied there while the one before it is computed."""

from collections.abc import Iterator

import torch
from lightning.fabric import Fabric
from torch import Tensor

from birdmix.loading.batch import Batch


class DeviceBatches:
    """Copies batches to a device, the next one ahead of time on a GPU.

    A copy of 128 segments of five seconds takes some milliseconds, in which a GPU can compute. The
    copy is in a stream of its own, from the pinned memory of the loader.

    Args:
        batches: Batches on the host.
        fabric: Device of this process.
    """

    def __init__(self, batches: Iterator[Batch], fabric: Fabric) -> None:
        self.batches = batches
        self.fabric = fabric
        self.stream = torch.cuda.Stream() if fabric.device.type == "cuda" else None
        self.loaded: Batch | None = None

    def load(self) -> None:
        """Load the next batch, if there is one that is not loaded; on a GPU, begin to copy it."""
        if self.loaded is None:
            self.loaded = next(self.batches, None)
            if self.loaded is not None and self.stream is not None:
                with torch.cuda.stream(self.stream):
                    self.loaded = self.fabric.to_device(self.loaded)

    def load_ahead(self) -> None:
        """On a GPU, load the next batch while the device computes the current one."""
        if self.stream is not None:
            self.load()

    def take(self) -> Batch:
        """Return the next batch on the device; work on it is queued behind its copy.

        Raises:
            StopIteration: If there is none.
        """
        self.load()
        if self.loaded is None:
            raise StopIteration
        batch, self.loaded = self.loaded, None
        if self.stream is None:
            return self.fabric.to_device(batch)
        current = torch.cuda.current_stream()
        current.wait_stream(self.stream)
        for tensor in _tensors(batch):
            tensor.record_stream(current)  # its memory is in use until this stream is done with it
        return batch


def _tensors(batch: Batch) -> list[Tensor]:
    examples = [each for each in (batch.examples, batch.pool) if each is not None]
    return [tensor for each in examples for tensor in each if tensor is not None]

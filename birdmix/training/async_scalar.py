"""A scalar that is copied from the device to the host without blocking."""

import torch
from torch import Tensor


class AsyncScalar:
    """A scalar whose copy to the host starts at once and is waited for when it is read.

    On a GPU the copy is queued at construction, behind the work that computes the value; reading
    it does not wait for work that was queued later. Read it with ``float``.

    Args:
        value: A scalar tensor.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.copied: torch.cuda.Event | None = None
        if value.is_cuda:
            self.value = torch.empty_like(value, device="cpu", pin_memory=True)
            self.value.copy_(value, non_blocking=True)
            self.copied = torch.cuda.Event()
            self.copied.record()

    def __float__(self) -> float:
        if self.copied is not None:
            self.copied.synchronize()
        return float(self.value)

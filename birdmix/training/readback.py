"""Numbers on their way from the device to the host."""

import torch
from torch import Tensor


class Readback:
    """A scalar that the host wants to know, later.

    On a GPU the copy is queued where it is asked for, behind what makes the value; waiting for it
    does not wait for what was queued after it.

    Args:
        value: A scalar.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.arrived: torch.cuda.Event | None = None
        if value.is_cuda:
            self.value = torch.empty_like(value, device="cpu", pin_memory=True)
            self.value.copy_(value, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def __float__(self) -> float:
        if self.arrived is not None:
            self.arrived.synchronize()
        return float(self.value)

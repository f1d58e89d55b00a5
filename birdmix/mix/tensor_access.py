"""Copies of arrays to a device, and checks whether a tensor may be read or written directly."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


def array_to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy a small array of a plan to a device, without waiting for an accelerator.

    Args:
        array: Array on the host.
        device: Where to copy it; for CUDA through pinned memory, as other copies synchronise.

    Returns:
        The tensor on the device.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def allows_in_place(tensor: Tensor) -> bool:
    """Return whether a tensor is neither differentiated nor inside a function transform.

    Only plain tensors are mixed in place or with ``out=``; for others only operations that
    ``torch.func`` supports are used. Inside its transforms a tensor has no memory of its own.
    """
    if tensor.requires_grad or type(tensor) not in (Tensor, nn.Parameter):
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return forward_ad.unpack_dual(tensor).tangent is None


def is_readable_on_host(tensor: Tensor) -> bool:
    """Return whether values can be read without a wait: on the host, in no function transform."""
    return tensor.device.type == "cpu" and allows_in_place(tensor.detach())

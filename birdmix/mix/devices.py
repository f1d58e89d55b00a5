"""Where tensors are: from the host to a device, and whether values can be read without waiting."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy a plan's small array to a device; pinned, or an accelerator would be waited for."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def is_plain(tensor: Tensor) -> bool:
    """Whether nothing is differentiated through a tensor and no function transform is at work.

    Others are mixed by operations that transforms know: nothing in place, no ``out=``. Inside the
    transforms of ``torch.func`` a tensor stands for others and has no memory of its own.
    """
    if tensor.requires_grad or type(tensor) not in (Tensor, nn.Parameter):
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return forward_ad.unpack_dual(tensor).tangent is None


def is_readable(tensor: Tensor) -> bool:
    """Whether values can be looked at: on the host, and not those of a function transform."""
    return tensor.device.type == "cpu" and is_plain(tensor.detach())

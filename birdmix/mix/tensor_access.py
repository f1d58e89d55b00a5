"""Copies of arrays to a device, and checks whether a tensor may be read or written directly."""

import os
import shutil
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from birdmix.messages import first_line

# Each tensor of a packed transfer begins at a multiple of this many bytes.
_ALIGNMENT = 16

# What kernels read: inputs and labels, masks, indices.
_KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.int64)


def array_to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy a small array of a plan to a device, without waiting for an accelerator.

    Args:
        array: Array on the host.
        device: Where to copy it; for CUDA through pinned memory, as other copies synchronise.

    Returns:
        The tensor on the device; it shares the array's memory if that is the host.
    """
    (tensor,) = copy_to_device([torch.from_numpy(array)], device)
    assert tensor is not None
    return tensor


def copy_to_device(tensors: Sequence[Tensor | None], device: torch.device) -> list[Tensor | None]:
    """Copy small tensors of the host to a device in one transfer, without waiting for it.

    The pinned memory of a transfer is new. torch's allocator gives it to another transfer only
    after this one is done.

    Args:
        tensors: Tensors on the host; None stays None. One that occurs twice is copied once.
        device: Where to copy them.

    Returns:
        The tensors on the device, in the given order; the given ones if that is the host.
    """
    if device.type == "cpu":
        return list(tensors)
    begins: dict[int, int] = {}
    size = 0
    for tensor in tensors:
        if tensor is not None and id(tensor) not in begins:
            begins[id(tensor)] = size
            size += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    packed = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for tensor in tensors:
        if tensor is not None:  # not by numpy, which function transforms do not support
            _view_bytes(packed, begins[id(tensor)], tensor).copy_(tensor)
    on_device = packed.to(device, non_blocking=True)
    return [
        None if tensor is None else _view_bytes(on_device, begins[id(tensor)], tensor)
        for tensor in tensors
    ]


def _view_bytes(packed: Tensor, begin: int, like: Tensor) -> Tensor:
    """Return the bytes from ``begin`` on as a tensor with the type and shape of another."""
    return packed[begin : begin + like.nbytes].view(like.dtype).view(like.shape)


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


def can_use_kernels(*tensors: Tensor | None) -> bool:
    """Return whether tensors can be mixed by the kernels in Triton (``kernels``).

    They can on a GPU where Triton works, as float32, float16 or bfloat16, if they are neither
    differentiated nor in a function transform; and on a CPU with TRITON_INTERPRET=1, for tests.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    return _kernels_work(given[0].device.type) and all(
        each.dtype in _KERNEL_DTYPES and allows_in_place(each) for each in given
    )


@cache  # one attempt and one warning per process
def _kernels_work(device_type: str) -> bool:
    """Return whether Triton is installed and a kernel runs on a kind of device."""
    interprets = os.environ.get("TRITON_INTERPRET") == "1"
    if not (device_type == "cuda" or (device_type == "cpu" and interprets)):
        return False
    if find_spec("triton") is None:
        return False
    try:
        from birdmix.mix.kernels import fill_kernel

        fill_kernel[(1,)](torch.empty(1, device=device_type), block_size=1)
    except Exception as error:  # of a compiler, a driver or a version, of several classes
        remedy = "" if _find_compiler() else "; it needs a C compiler, such as gcc: install one"
        warnings.warn(
            "mixing on the GPU is slower than it can be: Triton fails with "
            f"{type(error).__name__}: {first_line(error)}{remedy}",
            stacklevel=2,
        )
        return False
    return True


def _find_compiler() -> str | None:
    """Return the C compiler that Triton finds."""
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")


def have_one_dense_layout(x: Tensor, pool: Tensor | None) -> bool:
    """Return whether each example is one block of memory, and all are laid out alike.

    Their axes may be in any order in memory, except that the first, the batch, is the outermost.
    """
    if pool is not None and pool.stride() != x.stride():
        return False
    order = [0, *sorted(range(1, x.dim()), key=x.stride, reverse=True)]
    return x.permute(order).is_contiguous() and (
        pool is None or pool.permute(order).is_contiguous()
    )

"""Building a network as shapes without values, up to a number of tensors and values."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_hooks


@contextmanager
def meta_device_with_size_limit(max_tensors: int, max_values: int) -> Iterator[None]:
    """Build modules as shapes without values, and fail once they exceed a limit on their size.

    A manifest from an unknown source can describe a million layers, or a layer of a TB: neither
    time nor memory is spent on them.

    Args:
        max_tensors: Largest number of parameters and buffers registered in the block.
        max_values: Largest number of values in them.

    Raises:
        ValueError: If a module exceeds a limit.
    """
    num_tensors = num_values = 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal num_tensors, num_values
        if tensor is not None:
            num_tensors, num_values = num_tensors + 1, num_values + tensor.numel()
            if num_tensors > max_tensors or num_values > max_values:
                raise ValueError("it would be larger than its weights")

    handles = [
        torch_hooks.register_module_parameter_registration_hook(count),
        torch_hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        with torch.device("meta"):
            yield
    finally:
        for handle in handles:
            handle.remove()

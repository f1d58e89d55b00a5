"""A limit on the size of a network while it is built, before its memory is taken."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registry


@contextmanager
def shapes_only(max_tensors: int, max_values: int) -> Iterator[None]:
    """Build modules as shapes without values, and end as soon as they are larger than a limit.

    Settings that somebody else wrote can ask for a million layers, or for one of a TB: neither time
    nor memory is spent on them.

    Args:
        max_tensors: Most parameters and buffers that may be registered in the block.
        max_values: Most values in them.

    Raises:
        ValueError: Where a module would exceed it.
    """
    num_tensors = num_values = 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal num_tensors, num_values
        if tensor is not None:
            num_tensors, num_values = num_tensors + 1, num_values + tensor.numel()
            if num_tensors > max_tensors or num_values > max_values:
                raise ValueError("it would be larger than its weights")

    handles = [
        registry.register_module_parameter_registration_hook(count),
        registry.register_module_buffer_registration_hook(count),
    ]
    try:
        with torch.device("meta"):
            yield
    finally:
        for handle in handles:
            handle.remove()

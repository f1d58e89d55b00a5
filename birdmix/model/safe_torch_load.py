"""Safe loading of ``torch.save`` files: runs no code, and memory is bounded by the file size."""

import mmap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Limit on the memory of all tensors, as a multiple of the file size: tied weights are stored once.
_MAX_EXPANSION = 2
_SPARE_BYTES = 2**20

# The name of a function in a pickle: the only one that torch allows a file to call and that can
# allocate any amount of memory.
_BYTEARRAY_NAME = b"\nbytearray\n"


def safe_torch_load(file: Path) -> Any:
    """Return the content of a ``torch.save`` file on the CPU: tensors, numbers, text, lists, dicts.

    Args:
        file: File to read.

    Raises:
        pickle.UnpicklingError: If it holds other objects, which could run code.
        ValueError: If it needs much more memory than its size, or holds tensors that are sparse,
            quantised or without values. The message does not name the file.
        Exception: Any exception of torch for a damaged file.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(4) == b"PK\3\4":
            _check_records(file, size)
        if size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(_BYTEARRAY_NAME) >= 0:
                    raise ValueError("it holds byte arrays, which are not weights")
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    num_bytes = 0
    for tensor in _iter_tensors(loaded):
        is_plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not is_plain or tensor.is_meta or tensor.is_quantized:
            raise ValueError("it holds tensors that are sparse, quantised or without values")
        # A view can repeat a value any number of times, up to a TB.
        num_bytes += tensor.numel() * tensor.element_size()
    if num_bytes > _MAX_EXPANSION * size + _SPARE_BYTES:
        raise ValueError(f"its tensors need {num_bytes:,} bytes, but the file has {size:,}")
    return loaded


def _check_records(file: Path, size: int) -> None:
    """Refuse an archive whose content is larger than the file; torch.save does not compress."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("it is a compressed archive, and torch.save does not compress")
    if sum(record.file_size for record in records) > size:
        raise ValueError("its records are larger than the file")


def _iter_tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors anywhere in nested content, each object once."""
    pending, visited = [content], set()
    while pending:
        value = pending.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list | tuple | set):
            pending += value
        elif hasattr(value, "__dict__"):
            pending += vars(value).values()

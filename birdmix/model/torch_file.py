"""Files of ``torch.save``, read without running code, in memory that the file's size bounds."""

import mmap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What tensors may take in all, as a multiple of the file: weights that are tied stand once in it.
_MOST_SHARE = 2
_SPARE_BYTES = 2**20

# Of the functions that torch calls for a file, the one that takes memory by a number alone.
_BYTE_ARRAYS = b"\nbytearray\n"


def load_torch_file(file: Path) -> Any:
    """Return what ``torch.save`` wrote: tensors, numbers, text, lists and dicts, on the CPU.

    Raises:
        pickle.UnpicklingError: If it holds other objects, which could run code.
        ValueError: If it would take much more memory than the file is large, or holds tensors that
            are sparse, quantised or without values; without the file's name.
        Exception: Whatever torch raises for a damaged file.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(4) == b"PK\3\4":
            _check_records(file, size)
        if size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(_BYTE_ARRAYS) >= 0:
                    raise ValueError("it holds byte arrays, which no weights are")
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    num_bytes = 0
    for tensor in _tensors(loaded):
        plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not plain or tensor.is_meta or tensor.is_quantized:
            raise ValueError("it holds tensors that are sparse, quantised or without values")
        # A view can repeat a value as often as it likes, and be of a TB.
        num_bytes += tensor.numel() * tensor.element_size()
    if num_bytes > _MOST_SHARE * size + _SPARE_BYTES:
        raise ValueError(f"its tensors take {num_bytes:,} bytes, and the file has {size:,}")
    return loaded


def _check_records(file: Path, size: int) -> None:
    """Refuse an archive that is larger than its file; torch.save compresses nothing."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    if any(each.compress_type != zipfile.ZIP_STORED for each in records):
        raise ValueError("it is a compressed archive, as torch.save writes none")
    if sum(each.file_size for each in records) > size:
        raise ValueError("its records are larger than the file")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors anywhere in nested content, each object once."""
    left, seen = [content], set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple | set):
            left += each
        elif hasattr(each, "__dict__"):
            left += vars(each).values()

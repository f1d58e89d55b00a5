"""Headers of safetensors files: types and shapes of the tensors, without reading their values.

A file begins with the length of its header (8 bytes, little-endian), then the header, a JSON object
from names to types, shapes and offsets. Source: https://github.com/huggingface/safetensors, Format.
"""

import json
import math
import os
from pathlib import Path
from typing import NamedTuple

from birdmix.json_data import check_keys, convert_json_value, format_for_message

#: Longest header that is read, in bytes: 2,000 tensors take 200 kB.
MAX_HEADER = 16_000_000


class TensorInfo(NamedTuple):
    """Type and shape of a tensor in a file.

    Attributes:
        dtype: Name of the type in safetensors: F32, F16, BF16, I64 and so on.
        shape: Shape.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_values(self) -> int:
        """Number of values: the product of the shape."""
        return math.prod(self.shape)


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors file by name, without reading their values.

    Raises:
        ValueError: If its header is damaged, or describes more data than the file holds. The
            message has no file name.
        OSError: If it cannot be read.
    """
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        size = os.fstat(stream.fileno()).st_size - 8 - length
        if length > MAX_HEADER or size < 0:
            raise ValueError(
                f"not a safetensors file, or its header has more than {MAX_HEADER:,} bytes"
            )
        data = stream.read(length)
    try:
        header = json.loads(data.decode("utf-8"))
    except (RecursionError, ValueError):
        raise ValueError("not a safetensors file: its header is not JSON") from None
    check_keys(header, None, (), "header")
    return {
        name: _parse_entry(name[:100], entry, size)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _parse_entry(name: str, entry: object, size: int) -> TensorInfo:
    """Parse the header's entry of a tensor; ``size`` is the file's bytes of values."""
    check_keys(entry, ("dtype", "shape", "data_offsets"), ("dtype", "shape", "data_offsets"), name)
    assert isinstance(entry, dict)
    shape = convert_json_value(tuple[int, ...], entry["shape"], f"{name}.shape")
    offsets = convert_json_value(tuple[int, ...], entry["data_offsets"], f"{name}.data_offsets")
    if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= size:
        raise ValueError(
            f"{name}.data_offsets={format_for_message(list(offsets))}: not within the file"
        )
    if min(shape, default=0) < 0 or math.prod(shape) > 8 * size:
        raise ValueError(f"{name}.shape={list(shape)[:8]}: more than the file holds")
    return TensorInfo(convert_json_value(str, entry["dtype"], f"{name}.dtype"), shape)

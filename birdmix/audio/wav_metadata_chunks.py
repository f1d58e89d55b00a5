"""Metadata chunks of WAV files: GUANO, bext, wamd and LIST INFO; samples are not read."""

import struct
from collections.abc import Iterator
from io import SEEK_END, BufferedReader
from pathlib import Path

_MAX_CHUNKS = 64
_MAX_BYTES = 8192
_UNKNOWN_SIZE = 0xFFFFFFFF  # a size above 32 bits, or a placeholder that was never replaced


def read_metadata_chunks(file: Path) -> dict[str, bytes]:
    """Return the metadata chunks of a WAV file by name: ``bext``, ``guan``, ``wamd``, ...

    Entries of a LIST chunk of type INFO are included under their own names. Of each chunk the
    first 8 KiB are read. Reading ends at corrupt data; decoders report those.

    Args:
        file: A WAV file (RIFF or RF64); of other files the result is empty.

    Raises:
        OSError: If it cannot be opened.
    """
    chunks: dict[str, bytes] = {}
    with file.open("rb") as stream:
        for name, body in _read_chunks(stream):
            is_info = name == "LIST" and body[:4] == b"INFO"
            for key, text in _read_list_entries(body[4:]) if is_info else [(name, body)]:
                chunks.setdefault(key, text)
    return chunks


def _read_chunks(stream: BufferedReader) -> Iterator[tuple[str, bytes]]:
    """Yield name and first bytes of each metadata chunk.

    The data chunk is skipped; in RF64 files its length is in ``ds64``.
    """
    head = stream.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return
    at, num_data, end = 12, 0, stream.seek(0, SEEK_END)
    for _ in range(_MAX_CHUNKS):
        stream.seek(min(at, end))
        head = stream.read(9)
        padded = at % 2 and head[:1] == b"\0"  # most programs pad chunks to even lengths
        head = head[1:] if padded else head[:8]
        if len(head) < 8 or not _is_name(head[:4]):
            return
        name, size = head[:4].decode(), int.from_bytes(head[4:], "little")
        at += 9 if padded else 8
        stream.seek(at)
        if name == "ds64":
            sizes = stream.read(16)
            num_data = struct.unpack("<8xQ", sizes)[0] if len(sizes) == 16 else 0
        elif name in ("bext", "guan", "wamd", "LIST"):
            yield name, stream.read(min(size, _MAX_BYTES))
        elif size == _UNKNOWN_SIZE:
            size = num_data
        at += size


def _read_list_entries(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the entries of a LIST chunk."""
    at = 0
    while _is_name(name := body[at : at + 4]):
        size = int.from_bytes(body[at + 4 : at + 8], "little")
        yield name.decode(), body[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and name.isascii() and name.decode().isprintable()

"""The words in a WAV file: chunks of text beside the samples, which are not read."""

import struct
from collections.abc import Iterator
from io import SEEK_END, BufferedReader
from pathlib import Path

_MOST_CHUNKS = 64
_MOST_BYTES = 8192
_UNKNOWN = 0xFFFFFFFF  # a length that 32 bits do not hold, or that nobody wrote


def words_of(file: Path) -> dict[str, bytes]:
    """Return the chunks that hold words, by their names: ``bext``, ``guan``, ``wamd``, ...

    Those of a LIST of type INFO stand beside the others. Of each the first 8 KiB are read. What is
    damaged ends the walk: that the file cannot be heard is for decoders to tell.

    Raises:
        OSError: If it cannot be opened.
    """
    words: dict[str, bytes] = {}
    with file.open("rb") as stream:
        for name, body in _chunks(stream):
            inner = _split(body[4:]) if name == "LIST" and body[:4] == b"INFO" else [(name, body)]
            for each, text in inner:
                words.setdefault(each, text)
    return words


def _chunks(stream: BufferedReader) -> Iterator[tuple[str, bytes]]:
    """Yield name and beginning of the chunks but for samples; RF64 has their length in ``ds64``."""
    head = stream.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return
    at, num_data, end = 12, 0, stream.seek(0, SEEK_END)
    for _ in range(_MOST_CHUNKS):
        stream.seek(min(at, end))
        head = stream.read(9)
        padded = at % 2 and head[:1] == b"\0"  # chunks are padded to even lengths, mostly
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
            yield name, stream.read(min(size, _MOST_BYTES))
        elif size == _UNKNOWN:
            size = num_data
        at += size


def _split(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the parts of a list."""
    at = 0
    while _is_name(name := body[at : at + 4]):
        size = int.from_bytes(body[at + 4 : at + 8], "little")
        yield name.decode(), body[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and name.isascii() and name.decode().isprintable()

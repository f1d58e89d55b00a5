"""Parse headers of WAV, RF64, W64, AIFF, CAF and AU files: offset and size of the sample data.

Sources: EBU Tech 3306 (RF64), Sony's Wave64, Apple's AIFF and CAF specifications, Sun's AU header.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from birdmix.audio.containers.file_layout import W64_RIFF, ByteReader, Piece

_MAX_CHUNKS = 64

# Bytes after the last chunk that are checked to be zeros.
_PADDING = 1 << 16

#: Size field of a size above 32 bits, or of one that was never written.
UNKNOWN_SIZE = 0xFFFFFFFF

# Highest bits of the sizes that programs write if the size is unknown, for example into a pipe.
_PLACEHOLDER_SIZES = (0x7FFFF, 0xFFFFF)

# Names, of four letters each, of chunks that may follow the samples.
_NAMES = (
    b"LISTbextid3 ID3 factcue PEAKguanwamdiXML_PMXsmplJUNKjunkPAD FLLRafspDISPplst"
    b"adtlMARKCOMTNAMEAUTHANNO(c) INSTAPPLaxmlchna"
)
_TRAILING_CHUNKS = frozenset(_NAMES[at : at + 4] for at in range(0, len(_NAMES), 4))


@dataclass(frozen=True)
class SampleDataInfo:
    """The sample data of a file, as its header states them.

    Attributes:
        begin: Offset of the first byte.
        size: Number of bytes; None if the header marks it as unknown.
        bytes_per_second: Bytes per second of audio; 0 if unknown.
        frame_bytes: Bytes per frame of all channels, or per block of the codec.
        make_header: Returns the header with another size of the sample data.
        is_32_bit: Whether a larger size wraps at 32 bits.
        is_trailer: Returns whether the bytes between two offsets are chunks of the container.
    """

    begin: int
    size: int | None
    bytes_per_second: float
    frame_bytes: int
    make_header: Callable[[int], tuple[Piece, ...]]
    is_32_bit: bool
    is_trailer: Callable[[int, int], bool]

    def format_duration_of_bytes(self, num_bytes: int) -> str:
        """Format the duration of some bytes of sample data, ``2.50 s``."""
        if self.bytes_per_second > 0:
            return f"{num_bytes / self.bytes_per_second:.2f} s"
        return f"{num_bytes} bytes"


def _read_chunks(
    source: ByteReader, at: int, end: int, order: str
) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, offset of the size, offset of the content and size of each chunk."""
    for _ in range(_MAX_CHUNKS):
        head = source.read(at, 9, 4096)
        if at % 2 and head[:1] == b"\0":  # most programs pad chunks to even lengths
            at, head = at + 1, head[1:]
        if len(head) < 8 or at + 8 > end:
            return
        name, size = struct.unpack(f"{order}4sI", head[:8])
        yield name, at + 4, at + 8, size
        at += 8 + size


def _make_trailer_test(source: ByteReader, order: str) -> Callable[[int, int], bool]:
    """Return a function that tests whether there are only chunks or zeros between two offsets."""

    def is_trailer(at: int, end: int) -> bool:
        if end - at <= 8 and not source.read(at, end - at).strip(b"\0"):
            return True
        last = at
        for name, _, begin, size in _read_chunks(source, at, end, order):
            if name in _TRAILING_CHUNKS:
                return True
            if not (name.isascii() and name.decode().isprintable()):
                break
            last = begin + size
        rest = source.read(last, min(end - last, _PADDING)) if at < last <= end else b"\1"
        return not rest.strip(b"\0")

    return is_trailer


def parse_sample_data_info(source: ByteReader, begin: int, end: int) -> SampleDataInfo | None:
    """Parse the header of an audio file.

    Args:
        source: The recording.
        begin: Offset of the header.
        end: Offset after the last byte.

    Returns:
        Its sample data, None if they are not found.
    """
    head = source.read(begin, 40, 4096)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _parse_riff(source, begin, end, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _parse_aiff(source, begin, end)
    if head[:16] == W64_RIFF:
        return _parse_w64(source, begin, end)
    if head[:4] == b"caff":
        return _parse_caf(source, begin, end)
    if head[:4] == b".snd":
        return _parse_au(source, begin, head)
    return None


def _replace_bytes(begin: int, end: int, changes: dict[int, bytes]) -> tuple[Piece, ...]:
    """Return the bytes between two offsets, some of them replaced: new bytes by offset."""
    pieces: list[Piece] = []
    for offset, new in sorted(changes.items()):
        pieces += [(begin, offset - begin), new]
        begin = offset + len(new)
    return (*pieces, (begin, end - begin))


def _parse_riff(source: ByteReader, begin: int, end: int, order: str) -> SampleDataInfo | None:
    rate, frame_bytes, ds64, large = 0.0, 1, 0, 0
    for name, size_at, at, size in _read_chunks(source, begin + 12, end, order):
        if name == b"ds64" and size >= 24:
            ds64, large = at, int.from_bytes(source.read(at + 8, 8), "little")
        elif name == b"fmt " and size >= 16:
            bytes_per_second, frame_bytes = struct.unpack(f"{order}IH", source.read(at + 8, 6))
            rate = float(bytes_per_second)
        elif name == b"data":
            size_field, data_at = size_at, at
            break
    else:
        return None

    def make_header(num_bytes: int) -> tuple[Piece, ...]:
        unknown = struct.pack("<I", UNKNOWN_SIZE)
        if not ds64 and (num_bytes < UNKNOWN_SIZE - 0xFFFF or order == ">"):
            stated = struct.pack(f"{order}I", min(num_bytes, UNKNOWN_SIZE))
            return _replace_bytes(begin, data_at, {begin + 4: unknown, size_field: stated})
        sizes = struct.pack("<3Q", data_at - begin + num_bytes, num_bytes, 0)
        if ds64:
            return _replace_bytes(begin, data_at, {ds64: sizes, size_field: unknown})
        start = b"RF64" + unknown + b"WAVEds64" + struct.pack("<I", 28) + sizes + bytes(4)
        return (start, (begin + 12, size_field - begin - 12), unknown)

    stated: int | None = large if ds64 else size
    if not ds64 and size >> 12 in _PLACEHOLDER_SIZES:
        stated = None  # programs that write to a pipe state the largest size
    is_32_bit = not ds64 and order == "<"
    is_trailer = _make_trailer_test(source, order)
    return SampleDataInfo(data_at, stated, rate, frame_bytes, make_header, is_32_bit, is_trailer)


def _parse_aiff(source: ByteReader, begin: int, end: int) -> SampleDataInfo | None:
    rate, frame_bytes, frames_at = 0.0, 0, 0
    for name, size_at, at, size in _read_chunks(source, begin + 12, end, ">"):
        if name == b"COMM" and size >= 18:
            channels, _, bits = struct.unpack(">hIh", source.read(at, 8))
            exponent, mantissa = struct.unpack(">HQ", source.read(at + 8, 10))
            frame_bytes, frames_at = channels * -(-bits // 8), at + 2
            rate = frame_bytes * mantissa * 2.0 ** (min(exponent, 0x4040) - 16_383 - 63)
        elif name == b"SSND":
            size_field, data_at = size_at, at + 8  # after offset and block size
            break
    else:
        return None

    def make_header(num_bytes: int) -> tuple[Piece, ...]:
        sizes = {size_field: struct.pack(">I", min(num_bytes + 8, UNKNOWN_SIZE))}
        if 0 < frames_at < size_field:
            frames = num_bytes // max(frame_bytes, 1)
            sizes[frames_at] = struct.pack(">I", min(frames, UNKNOWN_SIZE))
        return _replace_bytes(begin, data_at, sizes)

    stated = None if size >> 12 in _PLACEHOLDER_SIZES else max(size - 8, 0)
    is_trailer = _make_trailer_test(source, ">")
    return SampleDataInfo(data_at, stated, rate, frame_bytes, make_header, False, is_trailer)


def _parse_w64(source: ByteReader, begin: int, end: int) -> SampleDataInfo | None:
    rate, frame_bytes, at = 0.0, 1, begin + 40
    for _ in range(_MAX_CHUNKS):
        head = source.read(at, 24, 4096)
        if len(head) < 24:
            return None
        name, size = head[:4], int.from_bytes(head[16:], "little")
        if name == b"fmt ":
            bytes_per_second, frame_bytes = struct.unpack("<IH", source.read(at + 32, 6))
            rate = float(bytes_per_second)
        elif name == b"data":
            break
        at += max(size + -size % 8, 24)
    else:
        return None
    size_at, data_at = at + 16, at + 24

    def make_header(num_bytes: int) -> tuple[Piece, ...]:
        return _replace_bytes(begin, data_at, {size_at: struct.pack("<Q", num_bytes + 24)})

    def is_trailer(at: int, end: int) -> bool:
        rest = source.read(at, min(end - at, 32)).lstrip(b"\0")
        return not rest or rest[:4] in (b"summ", b"list", b"mark", b"bext", b"fact", b"levl")

    return SampleDataInfo(
        data_at, max(size - 24, 0), rate, frame_bytes, make_header, False, is_trailer
    )


def _parse_caf(source: ByteReader, begin: int, end: int) -> SampleDataInfo | None:
    rate, packet, at = 0.0, 1, begin + 8
    for _ in range(_MAX_CHUNKS):
        head = source.read(at, 12, 4096)
        if len(head) < 12:
            return None
        name, size = struct.unpack(">4sq", head)
        if name == b"desc":
            frames_per_second, packet, frames = struct.unpack(
                ">d8xII", source.read(at + 12, 24).ljust(24, b"\0")
            )
            rate = frames_per_second * packet / frames if frames else 0.0
        elif name == b"data":
            break
        if size < 0:
            return None
        at += 12 + size
    else:
        return None
    size_at, data_at = at + 4, at + 16  # after the number of edits

    def make_header(num_bytes: int) -> tuple[Piece, ...]:
        return _replace_bytes(begin, data_at, {size_at: struct.pack(">q", num_bytes + 4)})

    def is_trailer(at: int, end: int) -> bool:
        name = source.read(at, 4)
        return at >= end or name in (b"info", b"free", b"strg", b"mark", b"midi", b"uuid", b"pakt")

    stated = None if size == -1 else max(size - 4, 0)
    return SampleDataInfo(data_at, stated, rate, packet, make_header, False, is_trailer)


def _parse_au(source: ByteReader, begin: int, head: bytes) -> SampleDataInfo | None:
    offset, size, encoding, frames, channels = struct.unpack(">5I", head[4:24])
    bits = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 23: 4, 27: 8}.get(encoding, 0)
    data_at = begin + offset

    def make_header(num_bytes: int) -> tuple[Piece, ...]:
        stated = struct.pack(">I", min(num_bytes, UNKNOWN_SIZE))
        return _replace_bytes(begin, data_at, {begin + 8: stated})

    rate = float(frames) * channels * bits / 8
    stated = None if size == UNKNOWN_SIZE else size
    frame_bytes = channels * bits // 8

    def is_trailer(at: int, end: int) -> bool:
        return at >= end

    return SampleDataInfo(data_at, stated, rate, frame_bytes, make_header, True, is_trailer)

"""What headers of WAV, RF64, W64, AIFF, CAF and AU files say about the bytes of their samples.

Sources: EBU Tech 3306 (RF64), Sony's Wave64, Apple's AIFF and CAF specifications, Sun's AU header.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from birdmix.audio.containers.layout import W64_RIFF, Piece, Source

_MOST_CHUNKS = 64

# Zeros behind the last chunk are looked at so far.
_PADDING = 1 << 16

#: A size that 32 bits do not hold, or that nobody wrote.
UNKNOWN = 0xFFFFFFFF

# The highest bits of sizes that programs write who do not know it, into a pipe for example.
_LARGEST = (0x7FFFF, 0xFFFFF)

# Chunks that may follow the samples, by their names of four letters.
_NAMES = (
    b"LISTbextid3 ID3 factcue PEAKguanwamdiXML_PMXsmplJUNKjunkPAD FLLRafspDISPplst"
    b"adtlMARKCOMTNAMEAUTHANNO(c) INSTAPPLaxmlchna"
)
_TRAILERS = frozenset(_NAMES[at : at + 4] for at in range(0, len(_NAMES), 4))


@dataclass(frozen=True)
class Samples:
    """What a header says about the samples.

    Attributes:
        begin: Offset of the first byte of samples.
        size: Their bytes; None if the header says that it does not know.
        bytes_per_second: Of sound; 0 if the header does not tell.
        frame_bytes: Of a sample of all channels, or of a block of a codec.
        header: Gives the header that states another size.
        wraps: Whether the size is counted in 32 bits.
        trails: Tells whether what lies between two offsets are chunks of the container.
    """

    begin: int
    size: int | None
    bytes_per_second: float
    frame_bytes: int
    header: Callable[[int], tuple[Piece, ...]]
    wraps: bool
    trails: Callable[[int, int], bool]

    def seconds(self, num_bytes: int) -> str:
        """Say how long bytes of samples last."""
        if self.bytes_per_second > 0:
            return f"{num_bytes / self.bytes_per_second:.2f} s"
        return f"{num_bytes} bytes"


def _chunks(source: Source, at: int, end: int, order: str) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, offset of the size, offset of the content and size of each chunk."""
    for _ in range(_MOST_CHUNKS):
        head = source.read(at, 9, 4096)
        if at % 2 and head[:1] == b"\0":  # chunks are padded to even lengths, mostly
            at, head = at + 1, head[1:]
        if len(head) < 8 or at + 8 > end:
            return
        name, size = struct.unpack(f"{order}4sI", head[:8])
        yield name, at + 4, at + 8, size
        at += 8 + size


def _trail(source: Source, order: str) -> Callable[[int, int], bool]:
    """Tell whether chunks follow each other between two offsets, or nothing is there."""

    def trails(at: int, end: int) -> bool:
        if end - at <= 8 and not source.read(at, end - at).strip(b"\0"):
            return True
        last = at
        for name, _, begin, size in _chunks(source, at, end, order):
            if name in _TRAILERS:
                return True
            if not (name.isascii() and name.decode().isprintable()):
                break
            last = begin + size
        rest = source.read(last, min(end - last, _PADDING)) if at < last <= end else b"\1"
        return not rest.strip(b"\0")

    return trails


def samples_of(source: Source, begin: int, end: int) -> Samples | None:
    """Read what the header of a sound file says, from an offset on; None if it does not."""
    head = source.read(begin, 40, 4096)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _of_riff(source, begin, end, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _of_aiff(source, begin, end)
    if head[:16] == W64_RIFF:
        return _of_w64(source, begin, end)
    if head[:4] == b"caff":
        return _of_caf(source, begin, end)
    if head[:4] == b".snd":
        return _of_au(source, begin, head)
    return None


def _changed(begin: int, end: int, changes: dict[int, bytes]) -> tuple[Piece, ...]:
    """Return the bytes between two offsets, with others in the place of some."""
    pieces: list[Piece] = []
    for offset, new in sorted(changes.items()):
        pieces += [(begin, offset - begin), new]
        begin = offset + len(new)
    return (*pieces, (begin, end - begin))


def _of_riff(source: Source, begin: int, end: int, order: str) -> Samples | None:
    rate, frame_bytes, ds64, large = 0.0, 1, 0, 0
    for name, size_at, at, size in _chunks(source, begin + 12, end, order):
        if name == b"ds64" and size >= 24:
            ds64, large = at, int.from_bytes(source.read(at + 8, 8), "little")
        elif name == b"fmt " and size >= 16:
            second, frame_bytes = struct.unpack(f"{order}IH", source.read(at + 8, 6))
            rate = float(second)
        elif name == b"data":
            size_field, data_at = size_at, at
            break
    else:
        return None

    def header(num_bytes: int) -> tuple[Piece, ...]:
        unknown = struct.pack("<I", UNKNOWN)
        if not ds64 and (num_bytes < UNKNOWN - 0xFFFF or order == ">"):
            stated = struct.pack(f"{order}I", min(num_bytes, UNKNOWN))
            return _changed(begin, data_at, {begin + 4: unknown, size_field: stated})
        sizes = struct.pack("<3Q", data_at - begin + num_bytes, num_bytes, 0)
        if ds64:
            return _changed(begin, data_at, {ds64: sizes, size_field: unknown})
        start = b"RF64" + unknown + b"WAVEds64" + struct.pack("<I", 28) + sizes + bytes(4)
        return (start, (begin + 12, size_field - begin - 12), unknown)

    stated: int | None = large if ds64 else size
    if not ds64 and size >> 12 in _LARGEST:
        stated = None  # who writes to a pipe puts the largest size there is
    wraps = not ds64 and order == "<"
    return Samples(data_at, stated, rate, frame_bytes, header, wraps, _trail(source, order))


def _of_aiff(source: Source, begin: int, end: int) -> Samples | None:
    rate, frame_bytes, frames_at = 0.0, 0, 0
    for name, size_at, at, size in _chunks(source, begin + 12, end, ">"):
        if name == b"COMM" and size >= 18:
            channels, _, bits = struct.unpack(">hIh", source.read(at, 8))
            exponent, mantissa = struct.unpack(">HQ", source.read(at + 8, 10))
            frame_bytes, frames_at = channels * -(-bits // 8), at + 2
            rate = frame_bytes * mantissa * 2.0 ** (min(exponent, 0x4040) - 16_383 - 63)
        elif name == b"SSND":
            size_field, sound_at = size_at, at + 8  # behind offset and block size
            break
    else:
        return None

    def header(num_bytes: int) -> tuple[Piece, ...]:
        sizes = {size_field: struct.pack(">I", min(num_bytes + 8, UNKNOWN))}
        if 0 < frames_at < size_field:
            frames = num_bytes // max(frame_bytes, 1)
            sizes[frames_at] = struct.pack(">I", min(frames, UNKNOWN))
        return _changed(begin, sound_at, sizes)

    stated = None if size >> 12 in _LARGEST else max(size - 8, 0)
    return Samples(sound_at, stated, rate, frame_bytes, header, False, _trail(source, ">"))


def _of_w64(source: Source, begin: int, end: int) -> Samples | None:
    rate, frame_bytes, at = 0.0, 1, begin + 40
    for _ in range(_MOST_CHUNKS):
        head = source.read(at, 24, 4096)
        if len(head) < 24:
            return None
        name, size = head[:4], int.from_bytes(head[16:], "little")
        if name == b"fmt ":
            second, frame_bytes = struct.unpack("<IH", source.read(at + 32, 6))
            rate = float(second)
        elif name == b"data":
            break
        at += max(size + -size % 8, 24)
    else:
        return None
    size_at, sound_at = at + 16, at + 24

    def header(num_bytes: int) -> tuple[Piece, ...]:
        return _changed(begin, sound_at, {size_at: struct.pack("<Q", num_bytes + 24)})

    def trails(at: int, end: int) -> bool:
        rest = source.read(at, min(end - at, 32)).lstrip(b"\0")
        return not rest or rest[:4] in (b"summ", b"list", b"mark", b"bext", b"fact", b"levl")

    return Samples(sound_at, max(size - 24, 0), rate, frame_bytes, header, False, trails)


def _of_caf(source: Source, begin: int, end: int) -> Samples | None:
    rate, packet, at = 0.0, 1, begin + 8
    for _ in range(_MOST_CHUNKS):
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
    size_at, sound_at = at + 4, at + 16  # behind the number of edits

    def header(num_bytes: int) -> tuple[Piece, ...]:
        return _changed(begin, sound_at, {size_at: struct.pack(">q", num_bytes + 4)})

    def trails(at: int, end: int) -> bool:
        name = source.read(at, 4)
        return at >= end or name in (b"info", b"free", b"strg", b"mark", b"midi", b"uuid", b"pakt")

    stated = None if size == -1 else max(size - 4, 0)
    return Samples(sound_at, stated, rate, packet, header, False, trails)


def _of_au(source: Source, begin: int, head: bytes) -> Samples | None:
    offset, size, encoding, frames, channels = struct.unpack(">5I", head[4:24])
    bits = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 23: 4, 27: 8}.get(encoding, 0)
    sound_at = begin + offset

    def header(num_bytes: int) -> tuple[Piece, ...]:
        stated = struct.pack(">I", min(num_bytes, UNKNOWN))
        return _changed(begin, sound_at, {begin + 8: stated})

    rate = float(frames) * channels * bits / 8
    stated = None if size == UNKNOWN else size
    frame_bytes = channels * bits // 8
    return Samples(sound_at, stated, rate, frame_bytes, header, True, lambda at, end: at >= end)

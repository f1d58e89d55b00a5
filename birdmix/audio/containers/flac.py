"""FLAC: how many samples there are by the last frame, and further streams behind the first one.

Source: RFC 9639. A few places of a file are looked at; all of it only where they contradict its
header.
"""

import itertools
import re
from typing import NamedTuple

from birdmix.audio.containers.layout import Extent, Oddity, Part, Piece, Source, in_seconds

_STREAMINFO = 34
_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_LONGEST_HEADER = 17

# How much of a file's end, and of other places, is searched for a frame: little, then more.
_SPANS = (1 << 14, 1 << 17)

# Where frames are looked at, as shares of the file. Their numbers rise in one stream; in any number
# of equally long ones (2 to 1000) they do not.
_PLACES = (0.0917, 0.2113, 0.3389, 0.4641, 0.5, 0.5771, 0.7127, 0.8323, 0.9311)

_BLOCK_SIZES = {1: 192, **{n: 144 << n for n in range(2, 6)}, **{n: 1 << n for n in range(8, 16)}}
_MOST_STREAMS = 1000
_BLOCK = 1 << 20


class _Stream(NamedTuple):
    """What STREAMINFO says, and the header of the first frame.

    Attributes:
        total_at: Offset of the byte that holds the top four bits of the number of samples.
        frames_at: Offset of the first frame.
        sample_rate: Hz.
        num_frames: Samples per channel, 0 for unknown.
        block_size: Samples of a block of a stream of equal blocks.
        kind: What all its frame headers have in common: blocking, rate code, sample size code.
    """

    total_at: int
    frames_at: int
    sample_rate: int
    num_frames: int
    block_size: int
    kind: tuple[int, int, int]


class _Frame(NamedTuple):
    """Where a frame's samples begin, how many there are, and where in the searched bytes it is."""

    begin: int
    num_samples: int
    place: int = 0

    @property
    def end(self) -> int:
        return self.begin + self.num_samples


def parse(source: Source, begin: int, end: int) -> Extent:
    """Look at a FLAC file from an offset on."""
    stream = _stream_at(source, begin, end)
    if stream is None:
        return Extent((), (), end)
    last = _last_frame(source, stream, end)
    if last is None:
        return Extent((), (), end)
    if stream.num_frames == last.end and _rises(source, stream, end, last):
        return Extent((), (), end)
    starts = _stream_starts(source, begin, end)
    parts: list[Part] = []
    oddities: list[Oddity] = []
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        part, found = _part(source, start, stop)
        parts.append(part)
        oddities += found
    return Extent(tuple(parts), tuple(oddities), end)


def resumed(source: Source, part: Part, frame: int) -> tuple[Part, int] | None:
    """Return what of a stream can be decoded behind damage, and the frame that it begins with.

    Args:
        source: The recording.
        part: A part of it, or the whole, that holds one stream.
        frame: Where decoding stopped, counted in the stream.

    Returns:
        The part behind the damage and its first frame, None if there is nothing.
    """
    ranges = [piece for piece in part.pieces if isinstance(piece, tuple)] or [(0, source.size)]
    begin, end = ranges[0][0], sum(ranges[-1])
    stream = _stream_at(source, begin, end)
    last = stream and _last_frame(source, stream, end)
    if stream is None or last is None:
        return None
    at = stream.frames_at
    while at < end:
        frames = _frames(source, stream, at, min(at + _BLOCK, end))
        for one, two in itertools.pairwise(frames):
            if one.begin > frame and two.begin == one.end:
                pieces = _counted(source, stream, begin, last.end - one.begin)
                behind = at + one.place
                return Part((*pieces, (behind, end - behind))), one.begin
        at += _BLOCK - _SPANS[0]  # two frames that follow each other may lie across
    return None


def _counted(source: Source, stream: _Stream, begin: int, num_frames: int) -> tuple[Piece, ...]:
    """Return the metadata of a stream, with another number of samples."""
    top = source.read(stream.total_at, 1)[0] & 0xF0
    total = bytes([top | num_frames >> 32 & 0x0F]) + (num_frames & 0xFFFFFFFF).to_bytes(4, "big")
    behind = stream.total_at + len(total)
    return (begin, stream.total_at - begin), total, (behind, stream.frames_at - behind)


def _part(source: Source, begin: int, end: int) -> tuple[Part, list[Oddity]]:
    """Return a stream with the number of samples that it has."""
    plain = Part(((begin, end - begin),))
    stream = _stream_at(source, begin, end)
    last = stream and _last_frame(source, stream, end)
    if not stream or not last or last.end == stream.num_frames:
        return plain, []
    oddities: list[Oddity] = []
    says = f"header says {stream.num_frames} samples, {last.end} are there"
    if stream.num_frames > last.end:
        missing = in_seconds(stream.num_frames - last.end, stream.sample_rate)
        oddities.append(("truncated", f"{missing} are missing at the end: {says}"))
    elif stream.num_frames:
        oddities.append(("header", says))
    frames = (stream.frames_at, end - stream.frames_at)
    return Part((*_counted(source, stream, begin, last.end), frames)), oddities


def _stream_at(source: Source, begin: int, end: int) -> _Stream | None:
    """Read STREAMINFO, pass over the other metadata, and read the first frame's header."""
    head = source.read(begin, 8 + _STREAMINFO)
    if len(head) < 8 + _STREAMINFO or head[:4] != b"fLaC" or head[4] & 0x7F:
        return None
    at, block = begin + 4, head[4:8]
    while True:
        at += 4 + int.from_bytes(block[1:4], "big")
        if block[0] & 0x80:
            break
        block = source.read(at, 4)
        if len(block) < 4 or at >= end:
            return None
    frame = source.read(at, _LONGEST_HEADER)
    if len(frame) < 5 or frame[:2] not in (b"\xff\xf8", b"\xff\xf9"):
        return None
    fields = int.from_bytes(head[18:26], "big")  # 20 bits rate, 3 channels, 5 size, 36 samples
    rate, total = fields >> 44, fields & (1 << 36) - 1
    least, most = (int.from_bytes(head[i : i + 2], "big") for i in (8, 10))
    size = most if least == most else _block_size(frame, 5)
    return _Stream(begin + 21, at, rate, total, size, _kind(frame))


def _kind(header: bytes) -> tuple[int, int, int]:
    return header[1], header[2] & 0x0F, header[3] & 0x0F


def _frames(source: Source, stream: _Stream, begin: int, end: int) -> list[_Frame]:
    """Return the frames whose headers stand between two offsets."""
    begin = max(begin, stream.frames_at)
    data = source.read(begin, max(end - begin, 0))
    sync, frames = bytes([0xFF, stream.kind[0]]), []
    at = data.find(sync)
    while at >= 0:
        frame = _frame(data[at : at + _LONGEST_HEADER], stream)
        if frame is not None:
            frames.append(frame._replace(place=at))
        at = data.find(sync, at + 1)
    return frames


def _frame(header: bytes, stream: _Stream) -> _Frame | None:
    """Read a frame's header; None if it is none of the stream."""
    header = header.ljust(_LONGEST_HEADER, b"\0")
    if _kind(header) != stream.kind:
        return None
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    if ones in (1, 8):
        return None
    at = 4 + max(ones, 1)
    number = header[4] & (0x7F >> ones)
    for byte in header[5:at]:
        number = number << 6 | byte & 0x3F
    size = _block_size(header, at)
    at += {6: 1, 7: 2}.get(header[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if not size or _CHECKSUMS.sum(header[: at + 1]):
        return None
    equal = header[1] == 0xF8
    return _Frame(number * stream.block_size if equal else number, size)


def _block_size(header: bytes, at: int) -> int:
    code = header[2] >> 4
    if code in (6, 7):
        return int.from_bytes(header[at : at + code - 5], "big") + 1
    return _BLOCK_SIZES.get(code, 0)


class _Checksums:
    """CRC-8 of frame headers (polynomial 0x107)."""

    def __init__(self) -> None:
        self._table = []
        for value in range(256):
            for _ in range(8):
                value = value << 1 ^ (0x107 if value & 0x80 else 0)
            self._table.append(value)

    def sum(self, data: bytes) -> int:
        """Return the checksum; 0 for data that end with their own."""
        value = 0
        for byte in data:
            value = self._table[value ^ byte]
        return value


_CHECKSUMS = _Checksums()


def _last_frame(source: Source, stream: _Stream, end: int) -> _Frame | None:
    """Find the last frame; None if the end of the file does not tell.

    Chance makes a header now and then, but none that the header of the file confirms, nor two that
    follow each other.
    """
    for span in _SPANS:
        frames = _frames(source, stream, end - span, end)
        ends = {frame.end for frame in frames} | {0}
        sure = [f for f in frames if f.end == stream.num_frames or f.begin in ends]
        if sure:
            return sure[-1]
    return None


def _rises(source: Source, stream: _Stream, end: int, last: _Frame) -> bool:
    """Tell whether the numbers of frames at a few places rise up to the last one."""
    length = end - stream.frames_at
    if length <= _SPANS[-1]:
        return not _stream_starts(source, stream.frames_at, end)
    before = -1
    for share in _PLACES:
        at = stream.frames_at + int(share * length)
        spans = (_frames(source, stream, at, min(at + span, end)) for span in _SPANS)
        frames = next(filter(None, spans), None)
        if frames:
            if not before < frames[0].begin <= last.begin:
                return False
            before = frames[0].begin
    return True


def _stream_starts(source: Source, begin: int, end: int) -> list[int]:
    """Find where streams begin, by reading everything between two offsets."""
    starts: list[int] = []
    at = begin
    while at < end and len(starts) < _MOST_STREAMS:
        block = source.read(at, min(_BLOCK, end - at))
        found = (at + match.start() for match in _BEGIN.finditer(block))
        starts += [place for place in found if _stream_at(source, place, end) is not None]
        if at + len(block) >= end or len(block) < 8:
            break
        at += len(block) - 7
    return starts

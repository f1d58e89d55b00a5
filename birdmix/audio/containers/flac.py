"""FLAC: count samples by the last frame, find concatenated streams, and resume after damage.

Source: RFC 9639. A few positions of a file are read; the whole file only if they contradict its
header.
"""

import itertools
import re
from typing import NamedTuple

from birdmix.audio.containers.file_layout import (
    ByteReader,
    ParseResult,
    Piece,
    ProblemTuple,
    StreamPart,
    format_frames_as_seconds,
)

_STREAMINFO = 34
_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_MAX_HEADER_BYTES = 17

# Bytes that are searched for a frame, at the end of a file and elsewhere: few, then more.
_SPANS = (1 << 14, 1 << 17)

# Positions at which frame numbers are compared, as shares of the file. The numbers increase in one
# stream, but not in any number (2 to 1000) of equally long streams.
_PROBE_POSITIONS = (0.0917, 0.2113, 0.3389, 0.4641, 0.5, 0.5771, 0.7127, 0.8323, 0.9311)

_BLOCK_SIZES = {1: 192, **{n: 144 << n for n in range(2, 6)}, **{n: 1 << n for n in range(8, 16)}}
_MAX_STREAMS = 1000
_BLOCK = 1 << 20


class _Stream(NamedTuple):
    """Contents of STREAMINFO and of the first frame's header.

    Attributes:
        total_at: Offset of the byte with the top four bits of the number of samples.
        frames_at: Offset of the first frame.
        sample_rate: Hz.
        num_frames: Samples per channel, 0 for unknown.
        block_size: Samples per block, if all blocks are equal.
        kind: Fields common to all its frame headers: blocking, rate code, sample size code.
    """

    total_at: int
    frames_at: int
    sample_rate: int
    num_frames: int
    block_size: int
    kind: tuple[int, int, int]


class _Frame(NamedTuple):
    """A frame: its first sample, its number of samples, and its offset in the searched bytes."""

    begin: int
    num_samples: int
    offset: int = 0

    @property
    def end(self) -> int:
        return self.begin + self.num_samples


def parse_streams(source: ByteReader, begin: int, end: int) -> ParseResult:
    """Find the streams of a FLAC file between two offsets.

    Args:
        source: The recording.
        begin: Offset of the first stream.
        end: Offset after the last byte.
    """
    stream = _read_stream_header(source, begin, end)
    if stream is None:
        return ParseResult((), (), end)
    last = _find_last_frame(source, stream, end)
    if last is None:
        return ParseResult((), (), end)
    if stream.num_frames == last.end and _frame_numbers_increase(source, stream, end, last):
        return ParseResult((), (), end)
    starts = _find_stream_starts(source, begin, end)
    parts: list[StreamPart] = []
    problems: list[ProblemTuple] = []
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        part, part_problems = _correct_part(source, start, stop)
        parts.append(part)
        problems += part_problems
    return ParseResult(tuple(parts), tuple(problems), end)


def find_part_after_damage(
    source: ByteReader, part: StreamPart, frame: int
) -> tuple[StreamPart, int] | None:
    """Find the rest of a stream that can be decoded after a damaged place.

    Args:
        source: The recording.
        part: A part of it, or all of it, with a single stream.
        frame: Frame of the stream at which decoding stopped.

    Returns:
        The part after the damaged place and its first frame, None if there is none.
    """
    ranges = [piece for piece in part.pieces if isinstance(piece, tuple)] or [(0, source.size)]
    begin, end = ranges[0][0], sum(ranges[-1])
    stream = _read_stream_header(source, begin, end)
    last = stream and _find_last_frame(source, stream, end)
    if stream is None or last is None:
        return None
    at = stream.frames_at
    while at < end:
        frames = _find_frames(source, stream, at, min(at + _BLOCK, end))
        for current, following in itertools.pairwise(frames):
            if current.begin > frame and following.begin == current.end:
                pieces = _replace_sample_count(source, stream, begin, last.end - current.begin)
                offset = at + current.offset
                return StreamPart((*pieces, (offset, end - offset))), current.begin
        at += _BLOCK - _SPANS[0]  # overlap, as two consecutive frames may span two blocks
    return None


def _replace_sample_count(
    source: ByteReader, stream: _Stream, begin: int, num_frames: int
) -> tuple[Piece, ...]:
    """Return the metadata of a stream with the number of samples replaced."""
    top = source.read(stream.total_at, 1)[0] & 0xF0
    total = bytes([top | num_frames >> 32 & 0x0F]) + (num_frames & 0xFFFFFFFF).to_bytes(4, "big")
    rest = stream.total_at + len(total)
    return (begin, stream.total_at - begin), total, (rest, stream.frames_at - rest)


def _correct_part(
    source: ByteReader, begin: int, end: int
) -> tuple[StreamPart, list[ProblemTuple]]:
    """Return a stream with the true number of samples in its header, and its problems."""
    plain = StreamPart(((begin, end - begin),))
    stream = _read_stream_header(source, begin, end)
    last = stream and _find_last_frame(source, stream, end)
    if not stream or not last or last.end == stream.num_frames:
        return plain, []
    problems: list[ProblemTuple] = []
    detail = f"header states {stream.num_frames} samples, file has {last.end}"
    if stream.num_frames > last.end:
        missing = format_frames_as_seconds(stream.num_frames - last.end, stream.sample_rate)
        problems.append(("truncated", f"{missing} are missing at the end: {detail}"))
    elif stream.num_frames:
        problems.append(("header", detail))
    frames = (stream.frames_at, end - stream.frames_at)
    return StreamPart((*_replace_sample_count(source, stream, begin, last.end), frames)), problems


def _read_stream_header(source: ByteReader, begin: int, end: int) -> _Stream | None:
    """Read STREAMINFO, skip the other metadata, and read the first frame's header."""
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
    frame = source.read(at, _MAX_HEADER_BYTES)
    if len(frame) < 5 or frame[:2] not in (b"\xff\xf8", b"\xff\xf9"):
        return None
    fields = int.from_bytes(head[18:26], "big")  # 20 bits rate, 3 channels, 5 size, 36 samples
    rate, total = fields >> 44, fields & (1 << 36) - 1
    least, most = (int.from_bytes(head[i : i + 2], "big") for i in (8, 10))
    size = most if least == most else _block_size(frame, 5)
    return _Stream(begin + 21, at, rate, total, size, _frame_kind(frame))


def _frame_kind(header: bytes) -> tuple[int, int, int]:
    return header[1], header[2] & 0x0F, header[3] & 0x0F


def _find_frames(source: ByteReader, stream: _Stream, begin: int, end: int) -> list[_Frame]:
    """Return the frames whose headers begin between two offsets."""
    begin = max(begin, stream.frames_at)
    data = source.read(begin, max(end - begin, 0))
    sync, frames = bytes([0xFF, stream.kind[0]]), []
    at = data.find(sync)
    while at >= 0:
        frame = _parse_frame_header(data[at : at + _MAX_HEADER_BYTES], stream)
        if frame is not None:
            frames.append(frame._replace(offset=at))
        at = data.find(sync, at + 1)
    return frames


def _parse_frame_header(header: bytes, stream: _Stream) -> _Frame | None:
    """Parse a frame header; None if it is not a frame header of the stream."""
    header = header.ljust(_MAX_HEADER_BYTES, b"\0")
    if _frame_kind(header) != stream.kind:
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
    has_equal_blocks = header[1] == 0xF8
    return _Frame(number * stream.block_size if has_equal_blocks else number, size)


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
        """Return the checksum; 0 if the data end with their own checksum."""
        value = 0
        for byte in data:
            value = self._table[value ^ byte]
        return value


_CHECKSUMS = _Checksums()


def _find_last_frame(source: ByteReader, stream: _Stream, end: int) -> _Frame | None:
    """Find the last frame; None if there is none at the end of the file.

    Random bytes may look like a frame header. A frame is accepted if it ends at the stated number
    of samples, or follows another frame without a gap.
    """
    for span in _SPANS:
        frames = _find_frames(source, stream, end - span, end)
        ends = {frame.end for frame in frames} | {0}
        confirmed = [f for f in frames if f.end == stream.num_frames or f.begin in ends]
        if confirmed:
            return confirmed[-1]
    return None


def _frame_numbers_increase(source: ByteReader, stream: _Stream, end: int, last: _Frame) -> bool:
    """Return whether the frame numbers at a few positions increase up to the last one."""
    length = end - stream.frames_at
    if length <= _SPANS[-1]:
        return not _find_stream_starts(source, stream.frames_at, end)
    previous = -1
    for share in _PROBE_POSITIONS:
        at = stream.frames_at + int(share * length)
        spans = (_find_frames(source, stream, at, min(at + span, end)) for span in _SPANS)
        frames = next(filter(None, spans), None)
        if frames:
            if not previous < frames[0].begin <= last.begin:
                return False
            previous = frames[0].begin
    return True


def _find_stream_starts(source: ByteReader, begin: int, end: int) -> list[int]:
    """Return the offsets of all streams, by reading everything between two offsets."""
    starts: list[int] = []
    at = begin
    while at < end and len(starts) < _MAX_STREAMS:
        block = source.read(at, min(_BLOCK, end - at))
        offsets = (at + match.start() for match in _BEGIN.finditer(block))
        starts += [
            offset for offset in offsets if _read_stream_header(source, offset, end) is not None
        ]
        if at + len(block) >= end or len(block) < 8:
            break
        at += len(block) - 7
    return starts

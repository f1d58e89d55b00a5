"""OGG: read pages, and find concatenated streams and missing pages.

Sources: RFC 3533 (pages), RFC 7845 (Opus), the Vorbis I specification.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from birdmix.audio.containers.file_layout import (
    ByteReader,
    ParseResult,
    Piece,
    ProblemTuple,
    StreamPart,
)

_BEGIN, _END = 2, 4  # flags of a page
_MAX_HEADER_BYTES = 27 + 255
_BLOCK, _AHEAD = 1 << 16, 1 << 18

# By the first bytes of a codec's first packet: its number of header packets, and the ticks of its
# clock per second (0 for the sample rate).
_HEADERS = {b"\x01vorbis": (3, 0), b"OpusHead": (2, 48_000)}

# Largest number of parts: each is opened separately.
_MAX_PARTS = 1000

# Capture pattern and version, flags, granule position, stream, number of the page, checksum.
_FIELDS = struct.Struct("<5sBqIII")

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Page(NamedTuple):
    """A page: its position, header fields, number of packets that end in it, and first bytes."""

    offset: int
    length: int
    flags: int
    granule: int  # -1 where no packet ends
    serial: int
    sequence: int
    packets: int
    begin: bytes


@dataclass
class _Stream:
    """A stream, or several interleaved ones, which are not analysed further.

    Attributes:
        offset: Offset of its first page.
        serials: Serial numbers of its streams.
        header_end: Offset after its header pages, None before their end is reached.
        headers_left: Number of header packets still missing; None for an unknown codec.
        clock_rate: Ticks of its clock per second, 0 for the sample rate.
        runs: Offset of the first page of each run of pages without a gap, and the clock at its end.
        sequence: Sequence number of its last page.
        end: Offset after its last page.
        complete: Whether its last page is marked as the last one.
    """

    offset: int
    serials: set[int]
    headers_left: int | None
    clock_rate: int
    header_end: int | None = None
    runs: list[list[int]] = field(default_factory=list)
    sequence: int = 0
    end: int = 0
    complete: bool = False

    def add(self, page: _Page) -> None:
        """Add the next page."""
        gap = page.sequence > self.sequence + 1
        self.sequence, self.end = page.sequence, page.offset + page.length
        self.complete = bool(page.flags & _END)
        if self.headers_left is None:
            return
        if self.headers_left > 0:
            self.headers_left -= page.packets
            if self.headers_left <= 0:
                self.header_end = self.end
            return
        if not self.runs or (gap and len(self.runs) < _MAX_PARTS):
            self.runs.append([page.offset, 0])
        if page.granule >= 0:
            self.runs[-1][1] = page.granule

    def parts(self, source: ByteReader) -> Iterator[StreamPart]:
        """Yield a part for each run of pages."""
        if self.header_end is None or len(self.runs) < 2:
            clock = self.runs[-1][1] if self.runs else None
            yield StreamPart(((self.offset, self.end - self.offset),), clock, self.clock_rate)
            return
        headers = (self.offset, self.header_end - self.offset)
        ends = [offset for offset, _ in self.runs[1:]] + [self.end]
        for number, ((offset, clock), end) in enumerate(zip(self.runs, ends, strict=True)):
            header_bytes: Piece = headers
            if number and self.clock_rate:  # no samples are skipped after a gap
                header_bytes = _remove_pre_skip(source.read(*headers))
            pieces = (header_bytes, (offset, end - offset))
            yield StreamPart(pieces, clock, self.clock_rate, resumes=number > 0)


def parse_streams(source: ByteReader, begin: int, end: int) -> ParseResult:
    """Find the streams of an OGG file between two offsets, by reading all pages.

    Args:
        source: The recording.
        begin: Offset of the first page.
        end: Offset after the last byte.
    """
    streams: list[_Stream] = []
    data_seen = True
    for page in _read_pages(source, begin, end):
        if page.flags & _BEGIN:
            if data_seen and len(streams) < _MAX_PARTS:
                count, rate = _codec_headers(page.begin)
                streams.append(_Stream(page.offset, {page.serial}, count, rate))
                streams[-1].sequence = page.sequence - 1
            elif streams:  # interleaved with the stream that just began
                streams[-1].serials.add(page.serial)
                streams[-1].headers_left = None
                streams[-1].runs.clear()
            data_seen = False
        elif streams and page.serial in streams[-1].serials:
            data_seen = True
        if streams and page.serial in streams[-1].serials:
            streams[-1].add(page)
    if not streams:
        return ParseResult((), (), end)
    last = streams[-1].end
    is_incomplete = source.read(last, 4) == b"OggS"  # the end of a page is missing
    problems: tuple[ProblemTuple, ...] = ()
    if is_incomplete or not streams[-1].complete:
        problems = (("truncated", "the last OGG page is missing"),)
    parts = tuple(part for stream in streams for part in stream.parts(source))
    is_plain = len(parts) == 1 and (is_incomplete or last == end)
    return ParseResult(() if is_plain else parts, problems, end if is_incomplete else last)


def _codec_headers(packet: bytes) -> tuple[int | None, int]:
    """Return number of header packets and clock rate of a codec; None for an unknown one."""
    for magic, headers in _HEADERS.items():
        if packet.startswith(magic):
            return headers
    return None, 0


def _read_pages(source: ByteReader, begin: int, end: int) -> Iterator[_Page]:
    """Yield the complete pages; bytes between them are skipped, as decoders do."""
    at: int | None = begin
    while at is not None and at < end:
        page = _read_page(source, at)
        if page is not None and at + page.length <= end:
            yield page
            at += page.length
        else:
            at = _find_next_page(source, at + 1, end)


def _read_page(source: ByteReader, offset: int) -> _Page | None:
    """Read a page; None if there is none, or it is damaged."""
    head = source.read(offset, _MAX_HEADER_BYTES, _AHEAD)
    if len(head) < 27 or head[:4] != b"OggS":
        return None
    body_at = 27 + head[26]
    lacing = head[27:body_at]
    length = body_at + sum(lacing)
    page = source.read(offset, length, _AHEAD)
    _, flags, granule, serial, sequence, checksum = _FIELDS.unpack_from(page)
    if len(page) < length or _checksum(page[:22] + bytes(4) + page[26:]) != checksum:
        return None
    packets = len(lacing) - lacing.count(255)
    begin = page[body_at : body_at + 8]
    return _Page(offset, length, flags, granule, serial, sequence, packets, begin)


def _checksum(data: bytes) -> int:
    """Return OGG's CRC-32: zlib's with the bits of each byte, and of the result, reversed."""
    reflected = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def _remove_pre_skip(headers: bytes) -> bytes:
    """Return the header pages of Opus with a pre-skip of 0 samples (RFC 7845, 5.1)."""
    body_at = 27 + headers[26]
    length = body_at + sum(headers[27:body_at])
    page = headers[:22] + bytes(4) + headers[26 : body_at + 10] + bytes(2)
    page += headers[body_at + 12 : length]
    return page[:22] + _checksum(page).to_bytes(4, "little") + page[26:] + headers[length:]


def _find_next_page(source: ByteReader, offset: int, end: int) -> int | None:
    """Find the next offset at which a page may begin."""
    while offset < end:
        block = source.read(offset, _BLOCK)
        index = block.find(b"OggS")
        if index >= 0:
            return offset + index
        if len(block) < 4:
            break
        offset += len(block) - 3
    return None

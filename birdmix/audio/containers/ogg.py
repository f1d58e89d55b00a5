"""OGG: pages, the streams that follow each other, and pages that were lost.

Sources: RFC 3533 (pages), RFC 7845 (Opus), the Vorbis I specification.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from birdmix.audio.containers.layout import Extent, Oddity, Part, Piece, Source

_BEGIN, _END = 2, 4  # flags of a page
_MOST_HEADER_BYTES = 27 + 255
_BLOCK, _AHEAD = 1 << 16, 1 << 18

# The packets of headers, by what the first of them begins with; the ticks of the clock per second.
_HEADERS = {b"\x01vorbis": (3, 0), b"OpusHead": (2, 48_000)}

# More parts than this are not told apart: each costs an opening.
_MOST_PARTS = 1000

# Capture pattern and version, flags, granule position, stream, number of the page, checksum.
_FIELDS = struct.Struct("<5sBqIII")

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Page(NamedTuple):
    """A page: where it lies, what its header says, how many packets end in it, how it begins."""

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
    """A stream, or several that are interleaved, in which nothing is looked for.

    Attributes:
        offset: Where it begins.
        serials: The numbers of its streams.
        header_end: Offset behind its header pages, None as long as they go on.
        headers_left: Packets of headers still to come; None for a codec that is not known.
        clock_rate: Ticks of its clock per second, 0 for the sample rate.
        runs: Offset of the first page of each run of pages without a gap, and the clock at its end.
        sequence: Number of its last page.
        end: Offset behind its last page.
        complete: Whether that is marked as the last one.
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
        """Take the next page."""
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
        if not self.runs or (gap and len(self.runs) < _MOST_PARTS):
            self.runs.append([page.offset, 0])
        if page.granule >= 0:
            self.runs[-1][1] = page.granule

    def parts(self, source: Source) -> Iterator[Part]:
        """Yield a part for each run of pages."""
        if self.header_end is None or len(self.runs) < 2:
            clock = self.runs[-1][1] if self.runs else None
            yield Part(((self.offset, self.end - self.offset),), clock, self.clock_rate)
            return
        headers = (self.offset, self.header_end - self.offset)
        ends = [offset for offset, _ in self.runs[1:]] + [self.end]
        for number, ((offset, clock), end) in enumerate(zip(self.runs, ends, strict=True)):
            front: Piece = headers
            if number and self.clock_rate:  # a run that resumes has no samples to skip
                front = _without_pre_skip(source.read(*headers))
            pieces = (front, (offset, end - offset))
            yield Part(pieces, clock, self.clock_rate, resumes=number > 0)


def parse(source: Source, begin: int, end: int) -> Extent:
    """Read all pages of an OGG file from an offset on."""
    streams: list[_Stream] = []
    data_seen = True
    for page in _pages(source, begin, end):
        if page.flags & _BEGIN:
            if data_seen and len(streams) < _MOST_PARTS:
                count, rate = _header_of(page.begin)
                streams.append(_Stream(page.offset, {page.serial}, count, rate))
                streams[-1].sequence = page.sequence - 1
            elif streams:  # interleaved with the one that has just begun
                streams[-1].serials.add(page.serial)
                streams[-1].headers_left = None
                streams[-1].runs.clear()
            data_seen = False
        elif streams and page.serial in streams[-1].serials:
            data_seen = True
        if streams and page.serial in streams[-1].serials:
            streams[-1].add(page)
    if not streams:
        return Extent((), (), end)
    last = streams[-1].end
    torn = source.read(last, 4) == b"OggS"  # a page that is not whole, and not the last one
    oddities: tuple[Oddity, ...] = ()
    if torn or not streams[-1].complete:
        oddities = (("truncated", "the last OGG page is missing"),)
    parts = tuple(part for stream in streams for part in stream.parts(source))
    whole = len(parts) == 1 and (torn or last == end)
    return Extent(() if whole else parts, oddities, end if torn else last)


def _header_of(packet: bytes) -> tuple[int | None, int]:
    for magic, known in _HEADERS.items():
        if packet.startswith(magic):
            return known
    return None, 0


def _pages(source: Source, begin: int, end: int) -> Iterator[_Page]:
    """Yield the pages that are whole; what lies between them is passed over, as decoders do."""
    at: int | None = begin
    while at is not None and at < end:
        page = _page_at(source, at)
        if page is not None and at + page.length <= end:
            yield page
            at += page.length
        else:
            at = _next_page(source, at + 1, end)


def _page_at(source: Source, offset: int) -> _Page | None:
    """Read a page; None if there is none, or a damaged one."""
    head = source.read(offset, _MOST_HEADER_BYTES, _AHEAD)
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
    """Return OGG's CRC-32: that of zlib with the bits of each byte, and of the sum, reversed."""
    reflected = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def _without_pre_skip(headers: bytes) -> bytes:
    """Return the header pages of Opus with a number of samples to skip of 0 (RFC 7845, 5.1)."""
    body_at = 27 + headers[26]
    length = body_at + sum(headers[27:body_at])
    page = headers[:22] + bytes(4) + headers[26 : body_at + 10] + bytes(2)
    page += headers[body_at + 12 : length]
    return page[:22] + _checksum(page).to_bytes(4, "little") + page[26:] + headers[length:]


def _next_page(source: Source, offset: int, end: int) -> int | None:
    """Find where a page may begin."""
    while offset < end:
        block = source.read(offset, _BLOCK)
        found = block.find(b"OggS")
        if found >= 0:
            return offset + found
        if len(block) < 4:
            break
        offset += len(block) - 3
    return None

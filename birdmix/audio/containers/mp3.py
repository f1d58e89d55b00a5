"""MP3: find the number of frames, from a valid Xing header or by counting.

libsndfile's decoder does not support VBRI headers: their frame is removed, as it has no samples.
Frame headers are parsed in ``birdmix.audio.containers.mp3_frame``.
"""

from dataclasses import dataclass, field

from birdmix.audio.containers.file_layout import (
    ByteReader,
    ParseResult,
    Piece,
    ProblemTuple,
    StreamPart,
    format_frames_as_seconds,
)
from birdmix.audio.containers.mp3_frame import (
    VBRI_AT,
    FrameHeader,
    XingOrVbriTag,
    frame_length_in_bytes,
    parse_frame_header,
    parse_xing_or_vbri,
)

_BLOCK = 1 << 18

# Number of positions at which a constant bit rate is checked, and bytes read at each.
_PROBE_POSITIONS, _PROBE_BYTES = 12, 8192

# Largest error of a byte count: some encoders do not count the Xing frame itself.
_FEW_BYTES = 3000

_MAX_PARTS = 1000


@dataclass
class _FrameRun:
    """Consecutive frames of one stream.

    Attributes:
        begin: Offset of the first frame.
        header: Header of the first frame.
        tag: Contents of its Xing or VBRI frame; None without one.
        num_frames: Number of frames, without the Xing or VBRI frame.
        end: Offset after the last frame.
        gaps: Ranges between frames that are not frames: tags or unknown bytes.
    """

    begin: int
    header: FrameHeader
    tag: XingOrVbriTag | None
    num_frames: int = 0
    end: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)


def parse_streams(source: ByteReader, begin: int, end: int) -> ParseResult:
    """Find the streams of an MP3 file between two offsets.

    Args:
        source: The recording.
        begin: Offset of the first frame.
        end: Offset after the last byte.
    """
    head = source.read(begin, 4)
    first = parse_frame_header(head)
    if first is None:
        return ParseResult((), (), end)
    tag = parse_xing_or_vbri(source, begin, first)
    if tag is not None and tag.xing and abs(begin + tag.num_bytes - end) <= _FEW_BYTES:
        return ParseResult((), (), end)
    constant = _count_constant_rate_frames(source, begin, end, first) if tag is None else None
    runs = [constant] if constant else _count_all_frames(source, begin, end)
    if not runs:
        return ParseResult((), (), end)
    parts = tuple(StreamPart(_build_pieces(source, run)) for run in runs)
    stop = end if end - runs[-1].end < _FEW_BYTES else runs[-1].end
    if len(runs) == 1 and tag is None and not runs[0].gaps:  # the decoder may find as many
        return ParseResult(parts, (), stop, runs[0].num_frames * first.num_samples)
    problems: list[ProblemTuple] = []
    for run in runs:
        stated = run.tag.num_frames if run.tag else 0
        if stated and stated != run.num_frames:
            missing = (stated - run.num_frames) * run.header.num_samples
            detail = f"header states {stated} MP3 frames, file has {run.num_frames}"
            if missing > 0:
                lost = format_frames_as_seconds(missing, run.header.sample_rate)
                problems.append(("truncated", f"{lost} are missing at the end: {detail}"))
            else:
                problems.append(("header", detail))
    return ParseResult(parts, tuple(problems), stop)


def _count_all_frames(source: ByteReader, begin: int, end: int) -> list[_FrameRun]:
    """Count all frames between two offsets."""
    counter = _FrameCounter(source, end)
    counter.count(begin)
    return counter.runs


class _FrameCounter:
    """Counts frames, block by block.

    Args:
        source: The recording.
        end: Offset at which to stop.

    Attributes:
        runs: Runs of frames found so far.
    """

    def __init__(self, source: ByteReader, end: int) -> None:
        self.source, self.end = source, end
        self.runs: list[_FrameRun] = []
        self._lengths: dict[bytes, int] = {}  # bytes of a frame of the run, by its header

    def count(self, at: int) -> None:
        """Count all frames from an offset on."""
        while at + 4 <= self.end and len(self.runs) < _MAX_PARTS:
            size = min(_BLOCK, self.end - at)
            block = self.source.read(at, size)
            if len(block) < size:  # the file was shortened
                return
            next_at = at + self._count_similar_frames(block, at)
            at = next_at if next_at > at else self._count_other_frame(at)

    def _count_similar_frames(self, block: bytes, at: int) -> int:
        """Count frames like the previous ones; return the offset in the block after them."""
        limit = min([len(block) - 4, *(place - VBRI_AT - 1 for place in _find_count_tags(block))])
        lengths, place, count = self._lengths, 0, 0
        while place <= limit:
            head = block[place : place + 4]
            length = lengths.get(head)
            if length is None:
                header = parse_frame_header(head)
                if header is None or not self.runs or header.kind != self.runs[-1].header.kind:
                    break
                length = lengths[head] = header.length
            if at + place + length > self.end:
                break
            place += length
            count += 1
        if count:
            self.runs[-1].num_frames += count
            self.runs[-1].end = at + place
        return place

    def _count_other_frame(self, at: int) -> int:
        """Count a frame with a new header, or skip unknown bytes; return the offset after them."""
        run = self.runs[-1] if self.runs else None
        head = self.source.read(at, 4)
        header = parse_frame_header(head)
        if header is None or at + header.length > self.end:
            next_at = _find_next_frame(self.source, at + 1, self.end)
            if run is not None and next_at is not None:
                run.gaps.append((at, next_at))
            return self.end if next_at is None else next_at
        tag = parse_xing_or_vbri(self.source, at, header)
        if run is None or header.kind != run.header.kind or tag is not None:
            run = _FrameRun(at, header, tag)
            run.num_frames = -1 if tag is not None else 0
            self.runs.append(run)
            self._lengths = {}
        run.num_frames += 1
        run.end = at + header.length
        return run.end


def _find_count_tags(block: bytes) -> list[int]:
    """Return the offset of the first ``Xing``, ``Info`` and ``VBRI`` in a block, from 13 on."""
    places = (block.find(name, 13) for name in (b"Xing", b"Info", b"VBRI"))
    return [place for place in places if place >= 0]


def _find_next_frame(source: ByteReader, at: int, end: int) -> int | None:
    """Find the next frame that is followed by another frame or the end."""
    while at + 4 <= end:
        block = source.read(at, min(_BLOCK, end - at))
        place = block.find(b"\xff")
        while 0 <= place <= len(block) - 4:
            header = parse_frame_header(block[place : place + 4])
            if header is not None:
                next_at = at + place + header.length
                following = parse_frame_header(source.read(next_at, 4, 4096))
                if next_at == end or (following and following.kind == header.kind):
                    return at + place
            place = block.find(b"\xff", place + 1)
        if len(block) < _BLOCK:
            return None
        at += len(block) - 3
    return None


def _count_constant_rate_frames(
    source: ByteReader, begin: int, end: int, first: FrameHeader
) -> _FrameRun | None:
    """Count frames of a constant bit rate from a sample of positions; None if it varies.

    Each position has about twenty frames: other rates in one frame of a hundred are detected.
    """
    stop, spread, lengths = 0, end - begin - _PROBE_BYTES, set()
    if spread < _PROBE_POSITIONS * _PROBE_BYTES:
        return None
    for number in range(_PROBE_POSITIONS):
        base = begin + number * spread // (_PROBE_POSITIONS - 1)
        block = source.read(base, _PROBE_BYTES)
        place = _find_three_frames(block, first)
        if place is None:
            return None
        while (header := parse_frame_header(block[place : place + 4])) is not None:
            if not first.has_same_format(header):
                return None
            if base + place + header.length > end:
                break
            lengths.add(header.length)
            place += header.length
        stop = base + place
        if number < _PROBE_POSITIONS - 1 and place <= len(block) - 4:
            return None  # bytes that are not frames
    # Some encoders never pad frames; with others the mean length is that of the bit rate.
    mean = (
        lengths.pop() if len(lengths) == 1 else first.bytes_per_second / first.mp3_frames_per_second
    )
    num_frames = round((stop - begin) / mean)
    is_integer = abs((stop - begin) - num_frames * mean) < 2
    return _FrameRun(begin, first, None, num_frames, stop) if is_integer else None


def _find_three_frames(block: bytes, first: FrameHeader) -> int | None:
    """Find the first of three consecutive frames with the same format as a given one."""
    place = block.find(b"\xff")
    while place >= 0:
        at = place
        for _ in range(3):
            header = parse_frame_header(block[at : at + 4])
            if header is None or not first.has_same_format(header):
                break
            at += header.length
        else:
            return place
        place = block.find(b"\xff", place + 1)
    return None


def _build_pieces(source: ByteReader, run: _FrameRun) -> tuple[Piece, ...]:
    """Return the bytes of a run, after a Xing frame that states the number of its frames."""
    frames: list[Piece] = []
    at = run.begin
    for begin, end in [*run.gaps, (run.end, run.end)]:
        if at < begin <= run.end:
            frames.append((at, begin - at))
        at = max(end, at)
    xing = run.tag is not None and run.tag.xing
    if run.tag is not None and xing and run.tag.num_frames == run.num_frames:
        return tuple(frames)
    first = source.read(run.begin, run.header.length)
    at = run.header.info_at
    begin, length = frames[0] if isinstance(frames[0], tuple) else (run.begin, 0)
    if run.tag is not None:
        frames[0] = (begin + len(first), length - len(first))
    if xing and first[at + 7] & 1:
        # The encoder's frame is kept and corrected, since it also states the padding at both ends.
        counted = bytearray(first)
        counted[at + 8 : at + 12] = run.num_frames.to_bytes(4, "big")
        counted[at + 7] &= 0b1001  # without the number of bytes and the seek table
        if first[at + 7] & 0b0110:
            kept = at + 12 + 4 * bool(first[at + 7] & 2) + 100 * bool(first[at + 7] & 4)
            counted[at + 12 :] = first[kept:].ljust(len(first) - at - 12, b"\0")
        if run.tag is not None and run.tag.num_frames > run.num_frames:
            # The end is missing, so its padding is 0: 12 bits, 21 bytes after "LAME".
            padding = at + 12 + 4 * bool(counted[at + 7] & 8) + 22
            counted[padding : padding + 2] = bytes([counted[padding] & 0xF0, 0])
        return (bytes(counted), *frames)
    # As with any Xing frame, the decoder removes its own delay of 529 samples.
    fields = b"Info\0\0\0\1" + run.num_frames.to_bytes(4, "big")
    header = _enlarge_frame_header(first[:4], at + len(fields))
    return ((header + bytes(at - 4) + fields).ljust(frame_length_in_bytes(header), b"\0"), *frames)


def _enlarge_frame_header(head: bytes, length: int) -> bytes:
    """Return a header of the same kind, without checksum, of a frame of at least that length."""
    for code in range(1, 15):
        changed = bytes([head[0], head[1] | 1, code << 4 | head[2] & 0x0C, head[3]])
        if frame_length_in_bytes(changed) >= length:
            return changed
    raise AssertionError("the longest frame is long enough for any Xing header")

"""MP3: how many frames there are, by the Xing frame where it holds, else by counting.

libsndfile's decoder knows no VBRI frame: it is counted, and left out as it holds no sound.

How frames look is in ``birdmix.audio.containers.mpeg_frame``.
"""

from dataclasses import dataclass, field

from birdmix.audio.containers.layout import Extent, Oddity, Part, Piece, Source, in_seconds
from birdmix.audio.containers.mpeg_frame import (
    VBRI_AT,
    CountTag,
    Header,
    count_tag_at,
    header_of,
    length_of,
)

_BLOCK = 1 << 18

# How many places of a file are looked at, and bytes of each.
_PLACES, _PLACE = 12, 8192

# A count of bytes that is off by less holds: some encoders leave out the Xing frame itself.
_FEW_BYTES = 3000

_MOST_PARTS = 1000


@dataclass
class _Run:
    """Frames that follow each other.

    Attributes:
        begin: Offset of the first one.
        header: Of the first one.
        tag: What its Xing or VBRI frame says; None without one.
        num_frames: Frames of sound, so without the Xing or VBRI frame.
        end: Offset behind the last one.
        gaps: Ranges between frames that are none: tags, junk.
    """

    begin: int
    header: Header
    tag: CountTag | None
    num_frames: int = 0
    end: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)


def parse(source: Source, begin: int, end: int) -> Extent:
    """Look at an MP3 file from its first frame on."""
    head = source.read(begin, 4)
    first = header_of(head)
    if first is None:
        return Extent((), (), end)
    tag = count_tag_at(source, begin, first)
    if tag is not None and tag.xing and abs(begin + tag.num_bytes - end) <= _FEW_BYTES:
        return Extent((), (), end)
    constant = _constant(source, begin, end, first) if tag is None else None
    runs = [constant] if constant else _runs(source, begin, end)
    if not runs:
        return Extent((), (), end)
    parts = tuple(Part(_pieces(source, run)) for run in runs)
    stop = end if end - runs[-1].end < _FEW_BYTES else runs[-1].end
    if len(runs) == 1 and tag is None and not runs[0].gaps:  # a decoder may guess right
        return Extent(parts, (), stop, runs[0].num_frames * first.num_samples)
    oddities: list[Oddity] = []
    for run in runs:
        stated = run.tag.num_frames if run.tag else 0
        if stated and stated != run.num_frames:
            missing = (stated - run.num_frames) * run.header.num_samples
            says = f"header says {stated} MP3 frames, {run.num_frames} are there"
            if missing > 0:
                lost = in_seconds(missing, run.header.sample_rate)
                oddities.append(("truncated", f"{lost} are missing at the end: {says}"))
            else:
                oddities.append(("header", says))
    return Extent(parts, tuple(oddities), stop)


def _runs(source: Source, begin: int, end: int) -> list[_Run]:
    """Count all frames."""
    walk = _Walk(source, end)
    walk.walk(begin)
    return walk.runs


class _Walk:
    """Counts frames, block by block.

    Args:
        source: The recording.
        end: Where to stop.

    Attributes:
        runs: What was found.
    """

    def __init__(self, source: Source, end: int) -> None:
        self.source, self.end = source, end
        self.runs: list[_Run] = []
        self._lengths: dict[bytes, int] = {}  # of frames of the run, by their headers

    def walk(self, at: int) -> None:
        """Count all frames from an offset on."""
        while at + 4 <= self.end and len(self.runs) < _MOST_PARTS:
            size = min(_BLOCK, self.end - at)
            block = self.source.read(at, size)
            if len(block) < size:  # it has become shorter
                return
            after = at + self._count(block, at)
            at = after if after > at else self._odd_frame(at)

    def _count(self, block: bytes, at: int) -> int:
        """Count frames that are like those before; return where in the block they end."""
        limit = min([len(block) - 4, *(place - VBRI_AT - 1 for place in _names(block))])
        lengths, place, count = self._lengths, 0, 0
        while place <= limit:
            head = block[place : place + 4]
            length = lengths.get(head)
            if length is None:
                header = header_of(head)
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

    def _odd_frame(self, at: int) -> int:
        """Take a frame with a new header, or pass over what is none; return where it ends."""
        run = self.runs[-1] if self.runs else None
        head = self.source.read(at, 4)
        header = header_of(head)
        if header is None or at + header.length > self.end:
            found = _next_frame(self.source, at + 1, self.end)
            if run is not None and found is not None:
                run.gaps.append((at, found))
            return self.end if found is None else found
        tag = count_tag_at(self.source, at, header)
        if run is None or header.kind != run.header.kind or tag is not None:
            run = _Run(at, header, tag)
            run.num_frames = -1 if tag is not None else 0
            self.runs.append(run)
            self._lengths = {}
        run.num_frames += 1
        run.end = at + header.length
        return run.end


def _names(block: bytes) -> list[int]:
    """Return where the first name of each kind of counting frame stands, deep enough in a block."""
    places = (block.find(name, 13) for name in (b"Xing", b"Info", b"VBRI"))
    return [place for place in places if place >= 0]


def _next_frame(source: Source, at: int, end: int) -> int | None:
    """Find the next frame that another one follows, or the end."""
    while at + 4 <= end:
        block = source.read(at, min(_BLOCK, end - at))
        place = block.find(b"\xff")
        while 0 <= place <= len(block) - 4:
            header = header_of(block[place : place + 4])
            if header is not None:
                behind = at + place + header.length
                follower = header_of(source.read(behind, 4, 4096))
                if behind == end or (follower and follower.kind == header.kind):
                    return at + place
            place = block.find(b"\xff", place + 1)
        if len(block) < _BLOCK:
            return None
        at += len(block) - 3
    return None


def _constant(source: Source, begin: int, end: int, first: Header) -> _Run | None:
    """Count frames of a constant bit rate by looking at many places; None if it is not.

    Each place has about twenty frames: one of another rate in a hundred would be seen.
    """
    stop, spread, lengths = 0, end - begin - _PLACE, set()
    if spread < _PLACES * _PLACE:
        return None
    for number in range(_PLACES):
        base = begin + number * spread // (_PLACES - 1)
        block = source.read(base, _PLACE)
        place = _first_of_three(block, first)
        if place is None:
            return None
        while (header := header_of(block[place : place + 4])) is not None:
            if not first.is_like(header):
                return None
            if base + place + header.length > end:
                break
            lengths.add(header.length)
            place += header.length
        stop = base + place
        if number < _PLACES - 1 and place <= len(block) - 4:
            return None  # something else than frames
    # Some encoders put no padding into any frame; with others the mean is that of the rate.
    mean = lengths.pop() if len(lengths) == 1 else first.bytes_per_second / first.frames_per_second
    num_frames = round((stop - begin) / mean)
    whole = abs((stop - begin) - num_frames * mean) < 2
    return _Run(begin, first, None, num_frames, stop) if whole else None


def _first_of_three(block: bytes, first: Header) -> int | None:
    """Find the first of three frames that follow each other and are like another one."""
    place = block.find(b"\xff")
    while place >= 0:
        at = place
        for _ in range(3):
            header = header_of(block[at : at + 4])
            if header is None or not first.is_like(header):
                break
            at += header.length
        else:
            return place
        place = block.find(b"\xff", place + 1)
    return None


def _pieces(source: Source, run: _Run) -> tuple[Piece, ...]:
    """Return the bytes of a run, behind a Xing frame that says how many frames there are."""
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
        # The encoder's frame says too how much of both ends to leave out.
        counted = bytearray(first)
        counted[at + 8 : at + 12] = run.num_frames.to_bytes(4, "big")
        counted[at + 7] &= 0b1001  # without the number of bytes, and without places to seek to
        if first[at + 7] & 0b0110:
            kept = at + 12 + 4 * bool(first[at + 7] & 2) + 100 * bool(first[at + 7] & 4)
            counted[at + 12 :] = first[kept:].ljust(len(first) - at - 12, b"\0")
        if run.tag is not None and run.tag.num_frames > run.num_frames:
            # The end is missing, and with it the padding: 12 bits of 21 bytes behind "LAME".
            padding = at + 12 + 4 * bool(counted[at + 7] & 8) + 22
            counted[padding : padding + 2] = bytes([counted[padding] & 0xF0, 0])
        return (bytes(counted), *frames)
    # It leaves out the delay of the decoder too, 529 samples, as any Xing frame does.
    fields = b"Info\0\0\0\1" + run.num_frames.to_bytes(4, "big")
    header = _with_longest_frame(first[:4], at + len(fields))
    return ((header + bytes(at - 4) + fields).ljust(length_of(header), b"\0"), *frames)


def _with_longest_frame(head: bytes, length: int) -> bytes:
    """Return a frame header of the same kind, without checksum, whose frame holds the length."""
    for code in range(1, 15):
        changed = bytes([head[0], head[1] | 1, code << 4 | head[2] & 0x0C, head[3]])
        if length_of(changed) >= length:
            return changed
    raise AssertionError("the longest frame holds any count")

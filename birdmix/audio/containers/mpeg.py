"""MP3: how many frames there are, by the Xing frame where it holds, else by counting.

libsndfile's decoder knows no VBRI frame: it is counted, and left out as it holds no sound.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing and VBRI headers as LAME 3.100 and
Fraunhofer write them.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from birdmix.audio.containers.layout import Extent, Oddity, Part, Piece, Source, in_seconds

# kbit/s by the code in a header: layer 3 of MPEG 1, and of MPEG 2 and 2.5.
_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8000),
}

_BLOCK = 1 << 18

# A count of bytes that is off by less holds: some encoders leave out the Xing frame itself.
_FEW_BYTES = 3000

_MOST_PARTS = 1000

# Where in a frame the name of a VBRI frame stands; that of a Xing frame stands there or before.
_VBRI_AT = 36


@dataclass(frozen=True)
class _Header:
    """What a frame's header says.

    Attributes:
        length: Bytes of the frame.
        num_samples: Samples per channel.
        sample_rate: Hz.
        kind: What all frames of a stream have in common: version, rate, mono or not.
        info_at: Where a Xing frame has its name.
        bytes_per_second: Of frames like it.
    """

    length: int
    num_samples: int
    sample_rate: int
    kind: tuple[int, int, bool]
    info_at: int
    bytes_per_second: float


class _Told(NamedTuple):
    """What a frame says that holds no sound: numbers of frames and bytes, 0 for unknown."""

    xing: bool
    num_frames: int = 0
    num_bytes: int = 0


@dataclass
class _Run:
    """Frames that follow each other.

    Attributes:
        begin: Offset of the first one.
        header: Of the first one.
        told: What its Xing or VBRI frame says; None without one.
        num_frames: Frames of sound, so without the Xing or VBRI frame.
        end: Offset behind the last one.
        gaps: Ranges between frames that are none: tags, junk.
    """

    begin: int
    header: _Header
    told: _Told | None
    num_frames: int = 0
    end: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)


def parse(source: Source, begin: int, end: int) -> Extent:
    """Look at an MP3 file from its first frame on."""
    head = source.read(begin, 4)
    first = _header(head)
    if first is None:
        return Extent((), (), end)
    told = _told(source, begin, first)
    if told is not None and told.xing and abs(begin + told.num_bytes - end) <= _FEW_BYTES:
        return Extent((), (), end)
    walk = _Walk(source, end)
    walk.walk(begin)
    runs = walk.runs
    if not runs:
        return Extent((), (), end)
    stop = runs[-1].end
    if end - stop < _FEW_BYTES:  # a frame that is not whole
        stop = end
    if len(runs) == 1 and _guessed_right(runs[0], source.size):
        return Extent((), (), stop)
    parts = tuple(Part(_pieces(source, run)) for run in runs)
    oddities: list[Oddity] = []
    for run in runs:
        stated = run.told.num_frames if run.told else 0
        if stated and stated != run.num_frames:
            missing = (stated - run.num_frames) * run.header.num_samples
            says = f"header says {stated} MP3 frames, {run.num_frames} are there"
            if missing > 0:
                lost = in_seconds(missing, run.header.sample_rate)
                oddities.append(("truncated", f"{lost} are missing at the end: {says}"))
            else:
                oddities.append(("header", says))
    return Extent(parts, tuple(oddities), stop)


def _parsed(head: int) -> _Header | None:
    """Read the four bytes of a header; None if they are none of layer 3, or of no known length."""
    version, layer = head >> 19 & 3, head >> 17 & 3
    rate_code, sample_code = head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1:
        return None
    if rate_code in (0, 15) or sample_code == 3:
        return None
    kbps, rate = _BIT_RATES[version == 3][rate_code], _SAMPLE_RATES[version][sample_code]
    num_samples = 1152 if version == 3 else 576
    length = num_samples * 125 * kbps // rate + (head >> 9 & 1)
    mono = head >> 6 & 3 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    kind = (version, sample_code, mono)
    return _Header(length, num_samples, rate, kind, 4 + side, 125.0 * kbps)


def _header(head: bytes) -> _Header | None:
    return _parsed(int.from_bytes(head, "big")) if len(head) == 4 else None


def _length(head: bytes) -> int:
    header = _header(head)
    return 0 if header is None else header.length


def _told(source: Source, begin: int, header: _Header) -> _Told | None:
    """Read a Xing or VBRI frame; None if it is none."""
    frame = source.read(begin, 64)
    at = header.info_at
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags = frame[at + 7]
        numbers = [int.from_bytes(frame[i : i + 4], "big") for i in (at + 8, at + 12)]
        num_frames = numbers.pop(0) if flags & 1 else 0
        return _Told(True, num_frames, numbers[0] if flags & 2 else 0)
    if frame[_VBRI_AT : _VBRI_AT + 4] == b"VBRI":
        return _Told(False, *(int.from_bytes(frame[i : i + 4], "big") for i in (50, 46)))
    return None


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
        limit = min([len(block) - 4, *(place - _VBRI_AT - 1 for place in _names(block))])
        lengths, place, count = self._lengths, 0, 0
        while place <= limit:
            head = block[place : place + 4]
            length = lengths.get(head)
            if length is None:
                header = _header(head)
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
        header = _header(head)
        if header is None or at + header.length > self.end:
            found = _next_frame(self.source, at + 1, self.end)
            if run is not None and found is not None:
                run.gaps.append((at, found))
            return self.end if found is None else found
        told = _told(self.source, at, header)
        if run is None or header.kind != run.header.kind or told is not None:
            run = _Run(at, header, told)
            run.num_frames = -1 if told is not None else 0
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
            header = _header(block[place : place + 4])
            if header is not None:
                behind = at + place + header.length
                follower = _header(source.read(behind, 4, 4096))
                if behind == end or (follower and follower.kind == header.kind):
                    return at + place
            place = block.find(b"\xff", place + 1)
        if len(block) < _BLOCK:
            return None
        at += len(block) - 3
    return None


def _guessed_right(run: _Run, size: int) -> bool:
    """Tell whether a decoder that takes a file without a count for one of constant rate is right.

    mpg123 divides the size of the file by that of a frame like the first.
    """
    guess = size / run.header.bytes_per_second * run.header.sample_rate
    return run.told is None and abs(guess - run.num_frames * run.header.num_samples) < 1152


def _pieces(source: Source, run: _Run) -> tuple[Piece, ...]:
    """Return the bytes of a run, behind a Xing frame that says how many frames there are."""
    frames: list[Piece] = []
    at = run.begin
    for begin, end in [*run.gaps, (run.end, run.end)]:
        if at < begin <= run.end:
            frames.append((at, begin - at))
        at = max(end, at)
    xing = run.told is not None and run.told.xing
    if run.told is not None and xing and run.told.num_frames == run.num_frames:
        return tuple(frames)
    first = source.read(run.begin, run.header.length)
    at = run.header.info_at
    begin, length = frames[0] if isinstance(frames[0], tuple) else (run.begin, 0)
    if run.told is not None:
        frames[0] = (begin + len(first), length - len(first))
    if xing and first[at + 7] & 1:
        # The encoder's frame says too how much of both ends to leave out.
        counted = bytearray(first)
        counted[at + 8 : at + 12] = run.num_frames.to_bytes(4, "big")
        counted[at + 7] &= 0b1001  # without the number of bytes, and without places to seek to
        if first[at + 7] & 0b0110:
            kept = at + 12 + 4 * bool(first[at + 7] & 2) + 100 * bool(first[at + 7] & 4)
            counted[at + 12 :] = first[kept:].ljust(len(first) - at - 12, b"\0")
        if run.told is not None and run.told.num_frames > run.num_frames:
            # The end is missing, and with it the padding: 12 bits of 21 bytes behind "LAME".
            padding = at + 12 + 4 * bool(counted[at + 7] & 8) + 22
            counted[padding : padding + 2] = bytes([counted[padding] & 0xF0, 0])
        return (bytes(counted), *frames)
    # It leaves out the delay of the decoder too, 529 samples, as any Xing frame does.
    fields = b"Info\0\0\0\1" + run.num_frames.to_bytes(4, "big")
    header = _with_longest_frame(first[:4], at + len(fields))
    return ((header + bytes(at - 4) + fields).ljust(_length(header), b"\0"), *frames)


def _with_longest_frame(head: bytes, length: int) -> bytes:
    """Return a frame header of the same kind, without checksum, whose frame holds the length."""
    for code in range(1, 15):
        changed = bytes([head[0], head[1] | 1, code << 4 | head[2] & 0x0C, head[3]])
        if _length(changed) >= length:
            return changed
    raise AssertionError("the longest frame holds any count")

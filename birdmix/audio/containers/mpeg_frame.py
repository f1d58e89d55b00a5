"""MP3 frames: their headers, and those that hold a count in the place of sound.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing and VBRI headers as LAME 3.100 and
Fraunhofer write them.
"""

from dataclasses import dataclass
from typing import NamedTuple

from birdmix.audio.containers.layout import Source

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

# Where in a frame the name of a VBRI frame stands; that of a Xing frame stands there or before.
VBRI_AT = 36


@dataclass(frozen=True)
class Header:
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

    @property
    def frames_per_second(self) -> float:
        """Frames of a second of sound."""
        return self.sample_rate / self.num_samples

    def is_like(self, other: "Header") -> bool:
        """Tell whether another frame has the same kind and bit rate."""
        return (self.kind, self.bytes_per_second) == (other.kind, other.bytes_per_second)


class CountTag(NamedTuple):
    """What a frame says that holds a count in the place of sound.

    Attributes:
        xing: Whether it is a Xing frame, which decoders understand, or a VBRI frame.
        num_frames: Frames behind it, 0 for unknown.
        num_bytes: Bytes of the stream, 0 for unknown.
    """

    xing: bool
    num_frames: int = 0
    num_bytes: int = 0


def _parsed(head: int) -> Header | None:
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
    return Header(length, num_samples, rate, kind, 4 + side, 125.0 * kbps)


def header_of(head: bytes) -> Header | None:
    """Read a header of four bytes; None if it is none of layer 3, or of no known length."""
    return _parsed(int.from_bytes(head, "big")) if len(head) == 4 else None


def length_of(head: bytes) -> int:
    """Return how many bytes the frame of a header has; 0 if it is none."""
    header = header_of(head)
    return 0 if header is None else header.length


def count_tag_at(source: Source, begin: int, header: Header) -> CountTag | None:
    """Read a Xing or VBRI frame; None if it is none."""
    frame = source.read(begin, 64)
    at = header.info_at
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags = frame[at + 7]
        numbers = [int.from_bytes(frame[i : i + 4], "big") for i in (at + 8, at + 12)]
        num_frames = numbers.pop(0) if flags & 1 else 0
        return CountTag(True, num_frames, numbers[0] if flags & 2 else 0)
    if frame[VBRI_AT : VBRI_AT + 4] == b"VBRI":
        return CountTag(False, *(int.from_bytes(frame[i : i + 4], "big") for i in (50, 46)))
    return None

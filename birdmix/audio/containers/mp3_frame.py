"""Parse MP3 frame headers, and the Xing and VBRI frames that state the number of frames.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing and VBRI headers as LAME 3.100 and
Fraunhofer write them.
"""

from dataclasses import dataclass
from typing import NamedTuple

from birdmix.audio.containers.file_layout import ByteReader

# kbit/s by the code in a header, for layer 3: True for MPEG 1, False for MPEG 2 and 2.5.
_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8000),
}

# Offset of the name in a VBRI frame; that of a Xing frame is the same or smaller.
VBRI_AT = 36


@dataclass(frozen=True)
class FrameHeader:
    """A frame header.

    Attributes:
        length: Number of bytes of the frame.
        num_samples: Samples per channel.
        sample_rate: Hz.
        kind: Fields common to all frames of a stream: version, rate code, mono or not.
        info_at: Offset of the name in a Xing frame.
        bytes_per_second: Bytes per second at its bit rate.
    """

    length: int
    num_samples: int
    sample_rate: int
    kind: tuple[int, int, bool]
    info_at: int
    bytes_per_second: float

    @property
    def mp3_frames_per_second(self) -> float:
        """Number of frames per second of audio."""
        return self.sample_rate / self.num_samples

    def has_same_format(self, other: "FrameHeader") -> bool:
        """Return whether another frame has the same kind and bit rate."""
        return (self.kind, self.bytes_per_second) == (other.kind, other.bytes_per_second)


class XingOrVbriTag(NamedTuple):
    """Contents of a Xing or VBRI frame, which has no samples.

    Attributes:
        xing: True for a Xing frame, which the decoder supports; False for a VBRI frame.
        num_frames: Number of frames after it, 0 if unknown.
        num_bytes: Number of bytes of the stream, 0 if unknown.
    """

    xing: bool
    num_frames: int = 0
    num_bytes: int = 0


def _parse_header_bits(head: int) -> FrameHeader | None:
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
    return FrameHeader(length, num_samples, rate, kind, 4 + side, 125.0 * kbps)


def parse_frame_header(head: bytes) -> FrameHeader | None:
    """Parse a header of four bytes; None if it is not of layer 3, or has no known length."""
    return _parse_header_bits(int.from_bytes(head, "big")) if len(head) == 4 else None


def frame_length_in_bytes(head: bytes) -> int:
    """Return the number of bytes of a frame by its header; 0 if it is not a header."""
    header = parse_frame_header(head)
    return 0 if header is None else header.length


def parse_xing_or_vbri(source: ByteReader, begin: int, header: FrameHeader) -> XingOrVbriTag | None:
    """Parse a Xing or VBRI frame; None if the frame is neither.

    Args:
        source: The recording.
        begin: Offset of the frame.
        header: Header of the frame.
    """
    frame = source.read(begin, 64)
    at = header.info_at
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags = frame[at + 7]
        numbers = [int.from_bytes(frame[i : i + 4], "big") for i in (at + 8, at + 12)]
        num_frames = numbers.pop(0) if flags & 1 else 0
        return XingOrVbriTag(True, num_frames, numbers[0] if flags & 2 else 0)
    if frame[VBRI_AT : VBRI_AT + 4] == b"VBRI":
        return XingOrVbriTag(False, *(int.from_bytes(frame[i : i + 4], "big") for i in (50, 46)))
    return None

"""Layout of an audio file: which of its bytes make up each stream, and file objects to read them.

Each stream is decoded as a file of its own: ranges of the recording's bytes, with header bytes
replaced where those of the recording are wrong.
"""

import bisect
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: Replacement bytes, or a range of the recording: offset and length in bytes.
Piece = bytes | tuple[int, int]

#: Name and detail of a problem, as in ``birdmix.audio.signal_problems.AudioProblem``.
ProblemTuple = tuple[str, str]


@dataclass(frozen=True)
class StreamPart:
    """A stream of samples in a file, or the part of a stream between two gaps.

    Attributes:
        pieces: The bytes to decode; empty for the whole file, unchanged.
        clock_end: End on the container's clock (granule position of OGG); None without a clock.
        clock_rate: Ticks of that clock per second; 0 for the sample rate.
        resumes: Whether it continues the stream of the previous part after a gap.
        first_frame: First frame in the recording; set when the part has been opened.
        num_frames: Number of frames; set when the part has been opened, None if unknown.
    """

    pieces: tuple[Piece, ...] = ()
    clock_end: int | None = None
    clock_rate: int = 0
    resumes: bool = False
    first_frame: int = 0
    num_frames: int | None = None


@dataclass(frozen=True)
class FileLayout:
    """The streams of a file, one after the other, and the problems of its structure.

    Attributes:
        parts: At least one part.
        problems: Problems found; empty if there are none.
        num_frames: Number of frames of all parts and gaps at the rate of the first part; set when
            they have been opened, None if only the header states it.
    """

    parts: tuple[StreamPart, ...] = (StreamPart(),)
    problems: tuple[ProblemTuple, ...] = ()
    num_frames: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the file is decoded unchanged."""
        return len(self.parts) == 1 and not self.parts[0].pieces


class ParseResult(NamedTuple):
    """Streams that a container's parser found from an offset on.

    Attributes:
        parts: The streams; empty if the file can be decoded unchanged.
        problems: Problems found.
        end: Offset after their last byte.
        num_frames: Counted frames of a stream whose header does not state them. If the decoder
            finds as many, the file is decoded unchanged.
    """

    parts: tuple[StreamPart, ...]
    problems: tuple[ProblemTuple, ...]
    end: int
    num_frames: int | None = None


class SplicedFile:
    """A read-only file object made of pieces of a file and replacement bytes, for decoders.

    A read that fails returns no bytes, since an exception cannot pass through the decoder.

    Args:
        path: The recording.
        pieces: Its contents; empty for the whole file.

    Attributes:
        error: Error of a failed read, else None.
    """

    def __init__(self, path: Path | str, pieces: tuple[Piece, ...]) -> None:
        self.error: OSError | None = None
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        size = os.fstat(self._file.fileno()).st_size
        self._pieces = pieces or ((0, size),)
        lengths = (len(p) if isinstance(p, bytes) else p[1] for p in self._pieces)
        self._starts = [0, *itertools.accumulate(lengths)]
        self._at = 0

    def __enter__(self) -> "SplicedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the offset and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._starts[-1]}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        """Return the offset."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or all if negative; fewer at the end of the file."""
        left = self._starts[-1] - self._at
        left = max(left if size < 0 else min(size, left), 0)
        parts = []
        while left:
            number = bisect.bisect_right(self._starts, self._at) - 1
            offset = self._at - self._starts[number]
            length = min(left, self._starts[number + 1] - self._at)
            part = self._read_piece(self._pieces[number], offset, length)
            parts.append(part)
            self._at += len(part)
            left -= len(part)
            if len(part) < length:  # the file was shortened, or cannot be read
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_piece(self, piece: Piece, offset: int, length: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[offset : offset + length]
        try:
            self._file.seek(piece[0] + offset)
            return self._file.read(length)
        except OSError as error:
            self.error = error
            return b""

    def close(self) -> None:
        """Close the recording."""
        self._file.close()


def total_bytes(path: Path | str, pieces: tuple[Piece, ...]) -> int:
    """Return the number of bytes of pieces.

    Args:
        path: The recording.
        pieces: The pieces; empty for the whole file.
    """
    if not pieces:
        return os.stat(path).st_size
    return sum(len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces)


class ByteReader:
    """Buffered random access to the bytes of a recording, for parsers that read few at a time.

    Args:
        path: The recording.

    Attributes:
        size: Size of the file in bytes.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self.size = os.fstat(self._file.fileno()).st_size
        self._begin = 0
        self._block = b""

    def __enter__(self) -> "ByteReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, offset: int, size: int, ahead: int = 0) -> bytes:
        """Return bytes from an offset on; fewer at the end of the file.

        Args:
            offset: Offset of the first byte.
            size: Number of bytes.
            ahead: Smallest number of bytes to read into the buffer, if they are not in it.
        """
        skip = offset - self._begin
        if skip < 0 or skip + size > len(self._block):
            self._file.seek(offset)
            self._begin, skip = offset, 0
            self._block = self._file.read(max(size, ahead))
        return self._block[skip : skip + size]


def is_start_of_audio_file(head: bytes) -> bool:
    """Return whether bytes are the start of an audio file, or of a tag before one.

    Args:
        head: At least 16 bytes, fewer at the end of the file.
    """
    is_tag = head[:3] == b"ID3" and head[3:4] < b"\x10"  # a chunk may be called "ID3 "
    return is_tag or head[:4] in _MAGIC or head[:16] == W64_RIFF


_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"fLaC", b"OggS")

#: First bytes of a W64 file: the GUID of its RIFF chunk.
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"


def format_frames_as_seconds(num_frames: float, sample_rate: int) -> str:
    """Format the duration of a number of frames, ``2.50 s``."""
    return f"{num_frames / max(sample_rate, 1):.2f} s"

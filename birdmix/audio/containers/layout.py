"""The layout of a sound file: which of its bytes make up each stream of samples.

A decoder is given a stream as a file of its own: ranges of the recording's bytes, with header bytes
put in where those of the recording are wrong.
"""

import bisect
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: Bytes to put in, or a range of the recording: offset and length in bytes.
Piece = bytes | tuple[int, int]

#: Name and detail of a problem, as in ``birdmix.audio.problems.Problem``.
Oddity = tuple[str, str]


@dataclass(frozen=True)
class Part:
    """A stream of samples within a file.

    Attributes:
        pieces: The bytes that its decoder is given; empty is the whole file as it is.
        clock_end: Where it ends on a clock that the container keeps (granule position of OGG); None
            without such a clock.
        clock_rate: Ticks of that clock per second; 0 is the sample rate.
        resumes: Whether it goes on with the stream of the part before, behind a gap.
        first_frame: Where it begins, in frames from the beginning; known once it was opened.
        num_frames: Its frames, known once it was opened; None where nothing tells.
    """

    pieces: tuple[Piece, ...] = ()
    clock_end: int | None = None
    clock_rate: int = 0
    resumes: bool = False
    first_frame: int = 0
    num_frames: int | None = None


@dataclass(frozen=True)
class Layout:
    """The parts of a file, one after the other, and what is odd about its structure.

    Attributes:
        parts: At least one.
        oddities: What was found; empty for a sound structure.
        num_frames: Of all parts and gaps, at the rate of the first part; known once they were
            opened, None where headers have to tell.
    """

    parts: tuple[Part, ...] = (Part(),)
    oddities: tuple[Oddity, ...] = ()
    num_frames: int | None = None

    @property
    def plain(self) -> bool:
        """Whether a decoder takes the file as it is."""
        return len(self.parts) == 1 and not self.parts[0].pieces


class Extent(NamedTuple):
    """What a container's parser found from an offset on.

    Attributes:
        parts: The streams; none if the decoder is to take the file as it is.
        oddities: What is odd about them.
        end: Offset behind the last byte that belongs to them.
        num_frames: Of a stream whose header does not tell them. A decoder that finds as many takes
            the file as it is, else the parts.
    """

    parts: tuple[Part, ...]
    oddities: tuple[Oddity, ...]
    end: int
    num_frames: int | None = None


class Region:
    """A read-only file made of pieces of another one, for a decoder that takes file objects.

    A read that fails gives no bytes, since an error cannot pass through the decoder; ``error``
    keeps it.

    Args:
        path: The recording.
        pieces: What to give of it; empty is all of it.
    """

    def __init__(self, path: Path | str, pieces: tuple[Piece, ...]) -> None:
        self.error: OSError | None = None
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        size = os.fstat(self._file.fileno()).st_size
        self._pieces = pieces or ((0, size),)
        lengths = (len(p) if isinstance(p, bytes) else p[1] for p in self._pieces)
        self._starts = [0, *itertools.accumulate(lengths)]
        self._at = 0

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, as files do."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._starts[-1]}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        """Return the offset."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read bytes; fewer than asked at the end."""
        left = self._starts[-1] - self._at
        left = max(left if size < 0 else min(size, left), 0)
        parts = []
        while left:
            number = bisect.bisect_right(self._starts, self._at) - 1
            skip = self._at - self._starts[number]
            take = min(left, self._starts[number + 1] - self._at)
            part = self._piece(self._pieces[number], skip, take)
            parts.append(part)
            self._at += len(part)
            left -= len(part)
            if len(part) < take:  # the file has become shorter, or cannot be read
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece(self, piece: Piece, skip: int, take: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[skip : skip + take]
        try:
            self._file.seek(piece[0] + skip)
            return self._file.read(take)
        except OSError as error:
            self.error = error
            return b""

    def close(self) -> None:
        """Close the recording."""
        self._file.close()


def size_of(path: Path | str, pieces: tuple[Piece, ...]) -> int:
    """Return how many bytes pieces of a file have; without any, the file."""
    if not pieces:
        return os.stat(path).st_size
    return sum(len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces)


class Source:
    """The bytes of a recording, read in blocks, since parsers ask for few at a time.

    Args:
        path: The recording.

    Attributes:
        size: Of the file, in bytes.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self.size = os.fstat(self._file.fileno()).st_size
        self._begin = 0
        self._block = b""

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, offset: int, size: int, ahead: int = 0) -> bytes:
        """Return bytes from an offset on; fewer at the end of the file.

        Args:
            offset: Of the first byte.
            size: Number of bytes.
            ahead: How many to read at least where they are not at hand.
        """
        skip = offset - self._begin
        if skip < 0 or skip + size > len(self._block):
            self._file.seek(offset)
            self._begin, skip = offset, 0
            self._block = self._file.read(max(size, ahead))
        return self._block[skip : skip + size]


def begins_sound(head: bytes) -> bool:
    """Tell whether bytes are the beginning of a further sound file, or of the tag before one."""
    tag = head[:3] == b"ID3" and head[3:4] < b"\x10"  # a chunk may be called "ID3 "
    return tag or head[:4] in _MAGIC or head[:16] == W64_RIFF


_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"fLaC", b"OggS")

#: What a W64 file begins with: the GUID of its RIFF chunk.
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"


def in_seconds(num_frames: float, sample_rate: int) -> str:
    """Write a number of frames in seconds."""
    return f"{num_frames / max(sample_rate, 1):.2f} s"

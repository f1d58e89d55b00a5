"""Finds the layout of a sound file: its streams, one after the other, and what lies between."""

import struct
from collections.abc import Callable
from pathlib import Path

from birdmix.audio.containers import flac, mpeg, ogg, sized
from birdmix.audio.containers.layout import (
    W64_RIFF,
    Extent,
    Layout,
    Oddity,
    Part,
    Source,
    begins_sound,
)

_MOST_STREAMS = 1000

# What lies behind the sound is looked at so far: all of it may be padding.
_LOOK = 1 << 20

# Tags at the end of a file: ID3v1, APE, Lyrics3.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")

_SIZED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd")

Parse = Callable[[Source, int, int], Extent]


def layout_of(path: Path | str) -> Layout:
    """Find the layout of a sound file; a structure that is not known is taken as it is.

    Raises:
        OSError: If the file cannot be read.
    """
    with Source(path) as source:
        try:
            return _layout(source)
        except (struct.error, OverflowError, ValueError, IndexError):  # a damaged header
            return Layout()


def _layout(source: Source) -> Layout:
    parts: list[Part] = []
    oddities: list[Oddity] = []
    at, plain, streams, num_frames = 0, True, 0, None
    while at < source.size and streams < _MOST_STREAMS:
        begin = _behind_tags(source, at)
        parse = _parser(source.read(begin, 16, 4096))
        if parse is None:
            break
        extent = parse(source, begin, source.size)
        moved = begin > 0 and parse is not mpeg.parse  # that decoder passes over tags
        plain = plain and not extent.parts and not moved and at == 0
        num_frames = extent.num_frames if not parts else None
        parts += extent.parts or [Part(((begin, extent.end - begin),))]
        oddities += extent.oddities
        streams += 1
        at = _behind_padding(source, extent.end)
    if not parts:
        return Layout()
    if at < source.size and not any(name == "truncated" for name, _ in oddities):
        left = source.size - at
        oddities.append(("surplus", f"{left} bytes behind the sound are not read"))
    if plain and len(parts) == 1:
        return Layout(oddities=tuple(oddities))
    return Layout(tuple(parts), tuple(oddities), num_frames)


def _parser(head: bytes) -> Parse | None:
    if head[:4] in _SIZED or head[:16] == W64_RIFF:
        return sized.parse
    if head[:4] == b"fLaC":
        return flac.parse
    if head[:4] == b"OggS":
        return ogg.parse
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return mpeg.parse
    return None


def _behind_tags(source: Source, at: int) -> int:
    """Return the offset behind ID3v2 tags; that of the first if no sound follows."""
    begin = at
    while (head := source.read(at, 10, 4096))[:3] == b"ID3" and len(head) == 10:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at += 10 + size + 10 * (head[5] >> 4 & 1)
    return at if _parser(source.read(at, 16)) else begin


def _behind_padding(source: Source, at: int) -> int:
    """Return the offset of what lies behind a stream: sound, or bytes of no known kind."""
    while at < source.size:
        rest = source.read(at, min(_LOOK, source.size - at))
        kept = rest.lstrip(b"\0")
        if not kept:
            at += len(rest)
            continue
        at += len(rest) - len(kept)
        if begins_sound(kept[:16]):
            return at
        return source.size if kept.startswith(_TAGS) else at
    return at

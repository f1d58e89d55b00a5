"""Find the layout of an audio file: container format, concatenated streams, tags and padding."""

import struct
from collections.abc import Callable
from pathlib import Path

from birdmix.audio.containers import chunked, flac, mp3, ogg
from birdmix.audio.containers.file_layout import (
    W64_RIFF,
    ByteReader,
    FileLayout,
    ParseResult,
    ProblemTuple,
    StreamPart,
    is_start_of_audio_file,
)

_MAX_STREAMS = 1000

# Bytes per read when searching for the end of padding after the samples.
_SEARCH_BYTES = 1 << 20

# Tags at the end of a file: ID3v1, APE, Lyrics3.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")

_CHUNKED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd")

Parse = Callable[[ByteReader, int, int], ParseResult]


def find_layout(path: Path | str) -> FileLayout:
    """Find the layout of an audio file; a file of unknown structure is decoded unchanged.

    Args:
        path: Recording.

    Raises:
        OSError: If the file cannot be read.
    """
    with ByteReader(path) as source:
        try:
            return _parse_layout(source)
        except (struct.error, OverflowError, ValueError, IndexError):  # a damaged header
            return FileLayout()


def _parse_layout(source: ByteReader) -> FileLayout:
    parts: list[StreamPart] = []
    problems: list[ProblemTuple] = []
    at, plain, streams, num_frames = 0, True, 0, None
    while at < source.size and streams < _MAX_STREAMS:
        begin = _skip_tags(source, at)
        parse = _select_parser(source.read(begin, 16, 4096))
        if parse is None:
            break
        result = parse(source, begin, source.size)
        has_tags = begin > 0 and parse is not mp3.parse_streams  # the MP3 decoder skips tags
        plain = plain and not result.parts and not has_tags and at == 0
        num_frames = result.num_frames if not parts else None
        parts += result.parts or [StreamPart(((begin, result.end - begin),))]
        problems += result.problems
        streams += 1
        at = _skip_padding(source, result.end)
    if not parts:
        return FileLayout()
    if at < source.size and not any(name == "truncated" for name, _ in problems):
        num_bytes = source.size - at
        problems.append(("surplus", f"{num_bytes} bytes after the samples are not read"))
    if plain and len(parts) == 1:
        return FileLayout(problems=tuple(problems))
    return FileLayout(tuple(parts), tuple(problems), num_frames)


def _select_parser(head: bytes) -> Parse | None:
    if head[:4] in _CHUNKED or head[:16] == W64_RIFF:
        return chunked.parse_streams
    if head[:4] == b"fLaC":
        return flac.parse_streams
    if head[:4] == b"OggS":
        return ogg.parse_streams
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return mp3.parse_streams
    return None


def _skip_tags(source: ByteReader, at: int) -> int:
    """Return the offset after ID3v2 tags; that of the first tag if no known format follows."""
    begin = at
    while (head := source.read(at, 10, 4096))[:3] == b"ID3" and len(head) == 10:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at += 10 + size + 10 * (head[5] >> 4 & 1)
    return at if _select_parser(source.read(at, 16)) else begin


def _skip_padding(source: ByteReader, at: int) -> int:
    """Return the offset after zeros and final tags: of another stream, or of unknown bytes."""
    while at < source.size:
        rest = source.read(at, min(_SEARCH_BYTES, source.size - at))
        kept = rest.lstrip(b"\0")
        if not kept:
            at += len(rest)
            continue
        at += len(rest) - len(kept)
        if is_start_of_audio_file(kept[:16]):
            return at
        return source.size if kept.startswith(_TAGS) else at
    return at

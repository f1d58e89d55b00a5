"""Chunked containers (WAV, RF64, W64, AIFF, CAF) and AU: correct a wrong size of the sample data.

The stated size is compared with the file. If it is 0, was never updated after the start of the
recording, or exceeds 32 bits, the samples after the stated end are read too.

Broken files: Frontier Labs FL003 and FL012 of ecoacoustics/known-problems.
"""

from birdmix.audio.containers.chunk_headers import (
    UNKNOWN_SIZE,
    SampleDataInfo,
    parse_sample_data_info,
)
from birdmix.audio.containers.file_layout import (
    ByteReader,
    ParseResult,
    ProblemTuple,
    StreamPart,
    is_start_of_audio_file,
)

_WRAP = 1 << 32

# Shortest duration in seconds of samples after the stated end; less is padding.
_MIN_SECONDS = 0.1

_BLOCK = 1 << 20


def parse_streams(source: ByteReader, begin: int, end: int) -> ParseResult:
    """Compare the stated size of the sample data with the file.

    Args:
        source: The recording.
        begin: Offset of the header.
        end: Offset after the last byte.
    """
    samples = parse_sample_data_info(source, begin, end)
    if samples is None or samples.begin > end:
        return ParseResult((), (), end)
    available = end - samples.begin
    if samples.size is None:
        if available < UNKNOWN_SIZE:  # decoders read up to the end
            return ParseResult((), (), end)
        return _set_data_size(samples, available, ())
    if samples.size > available:
        missing = samples.size - available
        duration = samples.format_duration_of_bytes(missing)
        detail = f"{missing} bytes of samples are missing at the end, {duration}"
        return ParseResult((), (("truncated", detail),), end)
    stop = samples.begin + samples.size
    offsets = (stop, stop + stop % 2)
    if any(is_start_of_audio_file(source.read(at, 16)) for at in offsets) and samples.size:
        return ParseResult((), (), stop)
    if samples.is_trailer(stop, end):
        return ParseResult((), (), end)
    wrapped = _find_wrapped_size(samples, end) if samples.is_32_bit else 0
    size = wrapped or _find_end_before_zeros(source, samples.begin, end) - samples.begin
    size = min(size + -size % max(samples.frame_bytes, 1), available)
    surplus = size - samples.size
    if surplus <= _MIN_SECONDS * samples.bytes_per_second:
        return ParseResult((), (), stop)
    stated, read = (
        samples.format_duration_of_bytes(samples.size),
        samples.format_duration_of_bytes(size),
    )
    detail = f"header states {stated}, {read} are read"
    if not wrapped and available - size > _MIN_SECONDS * samples.bytes_per_second:
        detail += f", followed by {samples.format_duration_of_bytes(available - size)} of zeros"
    return _set_data_size(samples, size, (("header", detail),))


def _set_data_size(
    samples: SampleDataInfo, size: int, problems: tuple[ProblemTuple, ...]
) -> ParseResult:
    """Return the file with a header that states another size of the sample data."""
    data = (samples.begin, size)
    return ParseResult((StreamPart((*samples.make_header(size), data)),), problems, sum(data))


def _find_wrapped_size(samples: SampleDataInfo, end: int) -> int:
    """Return the true size, if the stated one is its lower 32 bits; 0 if it is not."""
    assert samples.size is not None
    available = end - samples.begin
    for size in range(available - (available - samples.size) % _WRAP, samples.size, -_WRAP):
        if samples.is_trailer(samples.begin + size, end):
            return size
    return 0


def _find_end_before_zeros(source: ByteReader, begin: int, end: int) -> int:
    """Return the offset after the last byte that is not zero: files may be allocated in advance."""
    while end > begin:
        at = max(end - _BLOCK, begin)
        kept = source.read(at, end - at).rstrip(b"\0")
        if kept:
            return at + len(kept)
        end = at
    return begin

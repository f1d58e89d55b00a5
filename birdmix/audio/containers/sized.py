"""Containers that state how many bytes of samples they hold: WAV, RF64, W64, AIFF, CAF, AU.

The size is compared with the file. One of 0, one that 32 bits could not hold, or one that nobody
wrote after the recording had begun leaves sound behind its end: that is read too.

Broken files: Frontier Labs FL003 and FL012 of ecoacoustics/known-problems.
"""

from birdmix.audio.containers.headers import UNKNOWN, Samples, samples_of
from birdmix.audio.containers.layout import Extent, Oddity, Part, Source, begins_sound

_WRAP = 1 << 32

# Sound that a header leaves out lasts at least this long, in seconds; less is padding.
_LEAST_SECONDS = 0.1

_BLOCK = 1 << 20


def parse(source: Source, begin: int, end: int) -> Extent:
    """Compare what a header says about its samples with the file, from an offset on."""
    samples = samples_of(source, begin, end)
    if samples is None or samples.begin > end:
        return Extent((), (), end)
    there = end - samples.begin
    if samples.size is None:
        if there < UNKNOWN:  # decoders read up to the end
            return Extent((), (), end)
        return _read_on(samples, there, ())
    if samples.size > there:
        missing = samples.size - there
        said = f"{missing} bytes of samples are missing at the end, {samples.seconds(missing)}"
        return Extent((), (("truncated", said),), end)
    stop = samples.begin + samples.size
    if any(begins_sound(source.read(at, 16)) for at in (stop, stop + stop % 2)) and samples.size:
        return Extent((), (), stop)
    if samples.trails(stop, end):
        return Extent((), (), end)
    wrapped = _wrapped(samples, end) if samples.wraps else 0
    size = wrapped or _sound_up_to(source, samples.begin, end) - samples.begin
    size = min(size + -size % max(samples.frame_bytes, 1), there)
    surplus = size - samples.size
    if surplus <= _LEAST_SECONDS * samples.bytes_per_second:
        return Extent((), (), stop)
    said = f"header says {samples.seconds(samples.size)} of sound, {samples.seconds(size)} are read"
    if not wrapped and end - samples.begin - size > _LEAST_SECONDS * samples.bytes_per_second:
        said += f", behind it are {samples.seconds(end - samples.begin - size)} of zeros"
    return _read_on(samples, size, (("header", said),))


def _read_on(samples: Samples, size: int, oddities: tuple[Oddity, ...]) -> Extent:
    """Return the file with a header that states another size of its samples."""
    sound = (samples.begin, size)
    return Extent((Part((*samples.header(size), sound)),), oddities, sum(sound))


def _wrapped(samples: Samples, end: int) -> int:
    """Return the size that is left of a size of more than 32 bits; 0 if there is none."""
    assert samples.size is not None
    there = end - samples.begin
    for size in range(there - (there - samples.size) % _WRAP, samples.size, -_WRAP):
        if samples.trails(samples.begin + size, end):
            return size
    return 0


def _sound_up_to(source: Source, begin: int, end: int) -> int:
    """Return where zeros begin that reach to the end: a file may be made before it is filled."""
    while end > begin:
        at = max(end - _BLOCK, begin)
        kept = source.read(at, end - at).rstrip(b"\0")
        if kept:
            return at + len(kept)
        end = at
    return begin

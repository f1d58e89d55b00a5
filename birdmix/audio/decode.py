"""Decode whatever libsndfile opens to mono float32 at one sample rate.

The law of this room: a segment equals the cut of the fully decoded, fully resampled recording.
Headers are not trusted, and no type of exception is assumed: decoders raise what they like.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

#: What ``find_recordings`` takes for sound, by suffix.
SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"}
    | {".w64", ".rf64", ".caf", ".au", ".voc", ".sph"}
)

#: What decodes and resamples: another version may give other samples.
DECODER = f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"

#: Peak below which a recording is called silent: -100 dBFS ...
SILENT_PEAK = 1e-5

#: ... or three steps of 16 bits, where the codec holds nothing finer: dither, and what lossy codecs
#: make of it, stays below that.
SILENT_PEAK_16_BIT = 1e-4

#: A sample at or above this level stands at full scale ...
FULL_SCALE = 0.999

#: ... and a recording with a larger share of such samples is called clipped.
CLIPPED_SHARE = 1e-3

#: A mean beyond this share of the RMS about it is a DC offset: levels come out 1 dB too high ...
DC_SHARE = 0.5

#: ... but one below -60 dBFS is not: rounding gives quiet recordings as much.
DC_LEAST = 1e-3

#: Channels that have nothing in common leave 1 / channels of their power in the mono mix. Where the
#: mix holds less than this share of that (-10 dB), they cancel: one of two is of opposite phase.
CANCELLED_SHARE = 0.1

# soxr's filter forgets within this many samples of the slower rate (tested against full decodes).
_FILTER_MARGIN = 2048

# A decoder's error costs at most what one such read would have given.
_STEP_SECONDS = 0.5

# A shorter recording may hold less than a period of wind: its mean tells nothing.
_DC_SECONDS = 1.0

# Codecs that hold what is finer than 16 bits.
_FINE_CODECS = frozenset({"PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_24", "ALAC_32"})

# An MP3 frame borrows up to 511 bytes from frames before it and overlaps with the last of them: at
# the lowest bit rate that is eleven frames, of which libsndfile's decoder reads four by itself.
# Below 32 kHz frames may be so small that more of them are needed.
_MP3_LEAD, _MP3_LEAD_BELOW_32_KHZ = 10 * 1152, 16 * 1152

# Opus predicts packets from those before; a wrong beginning fades, if never for sure.
_OPUS_LEAD_SECONDS = 1

# Two OGG pages of the largest size, header included.
_TWO_PAGES = 2 * 65_307


class AudioError(ValueError):
    """A recording yields no samples.

    Attributes:
        reason: Why; the message has the path in front of it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """What a header says. Headers lie: only decoding tells.

    Attributes:
        sample_rate: Hz.
        channels: Number of channels.
        num_frames: Samples per channel, or None where the header does not know.
        encoding: Container and codec, ``OGG/VORBIS`` say.
    """

    sample_rate: int
    channels: int
    num_frames: int | None
    encoding: str


class Problem(NamedTuple):
    """Something odd about a recording.

    Attributes:
        name: Which kind: ``truncated``, ``header``, ``not-finite``, ``silent``, ``clipped``,
            ``dc-offset`` or ``channels-cancel`` here; ``birdmix.audio.examine`` has more.
        detail: What exactly, in words; may be empty.
    """

    name: str
    detail: str = ""

    def __str__(self) -> str:
        """Say it in one line: the name, unless the detail holds it."""
        if not self.detail or self.name.replace("-", " ") in self.detail:
            return self.detail or self.name
        return f"{self.name}: {self.detail}"


def find_recordings(folder: Path) -> list[str]:
    """List the sound files below a folder, sorted, as paths relative to it.

    Hidden files and folders are skipped, among them the ``._*`` files that macOS leaves on cards.
    Links are followed, each folder is entered once.
    """
    found = []
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        below = Path(os.path.relpath(place, folder)).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [
            prefix + name
            for name in names
            if name[0] != "."
            and os.path.splitext(name)[1].lower() in SUFFIXES
            and os.path.isfile(os.path.join(place, name))
        ]
    return sorted(found)


class _Stream(soundfile.SoundFile):
    """A file in which nothing seeks but who is asked to.

    soundfile seeks after each read of a seekable file: that costs time, and fails in a FLAC of
    unknown length.
    """

    def seekable(self) -> bool:
        return False


def _open(path: Path, kind: type[soundfile.SoundFile] = soundfile.SoundFile) -> soundfile.SoundFile:
    try:
        return kind(path)
    except Exception as error:
        if not Path(path).is_file():
            raise AudioError(path, "no such file") from None
        if Path(path).stat().st_size == 0:
            raise AudioError(path, "the file is empty (0 bytes)") from None
        raise AudioError(path, f"cannot be opened as sound: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip(" .") or type(error).__name__


def _num_frames(file: soundfile.SoundFile) -> int | None:
    return file.frames if 0 <= file.frames < 2**48 else None


def _mono(frames: np.ndarray) -> np.ndarray:
    channels = frames.shape[1]
    if channels == 1:
        return frames[:, 0]
    # Column by column: a mean over so short an axis takes forty times as long.
    waveform = frames[:, 0] + frames[:, 1]
    for channel in range(2, channels):
        waveform += frames[:, channel]
    waveform /= np.float32(channels)
    return waveform


def _begin_of_last_page(file: soundfile.SoundFile) -> int:
    """Find the frame where an OGG file's last page begins; 0 if its end does not tell."""
    with open(file.name, "rb") as raw:
        stream = raw.read(18)[14:]
        raw.seek(max(raw.seek(0, os.SEEK_END) - _TWO_PAGES, 0))
        tail = raw.read()
    # A page: "OggS", two bytes, the frame it ends at (-1: ends nothing), its stream's number.
    pages = [page for page in tail.split(b"OggS")[1:] if page[10:14] == stream]
    ends = [int.from_bytes(page[2:10], "little", signed=True) for page in pages]
    ends = [end for end in ends if end >= 0]
    return max(file.frames - (ends[-1] - ends[-2]), 0) if len(ends) > 1 else 0


def _lead(file: soundfile.SoundFile, start: int) -> int:
    """Say how many frames before ``start`` have to be decoded for it to come out right."""
    if "MPEG" in file.subtype:
        return _MP3_LEAD if file.samplerate >= 32_000 else _MP3_LEAD_BELOW_32_KHZ
    if file.subtype == "OPUS":
        return _OPUS_LEAD_SECONDS * file.samplerate
    if file.subtype == "VORBIS":
        # libsndfile (1.2.2) takes the last page to be full: what it finds there by a seek is late,
        # by up to a block. Decoding that comes from the page before has no such doubt.
        return max(start - _begin_of_last_page(file), 0)
    return 0


def _cut(file: soundfile.SoundFile, start: int, num_frames: int) -> np.ndarray:
    """Decode frames, float32 [frames, channels], as decoding from the beginning has them."""
    lead = min(_lead(file, start), start)
    file.seek(start - lead)
    num_frames = min(lead + num_frames, file.frames - (start - lead))
    return file.read(num_frames, dtype="float32", always_2d=True)[lead:]


def probe(path: Path) -> AudioInfo:
    """Read a recording's header.

    Raises:
        AudioError: If it cannot be opened.
    """
    with _open(path) as file:
        return AudioInfo(
            sample_rate=file.samplerate,
            channels=file.channels,
            num_frames=_num_frames(file),
            encoding=f"{file.format}/{file.subtype}",
        )


def read(path: Path, start: int, num_samples: int, sample_rate: int) -> np.ndarray:
    """Read a segment.

    Args:
        path: Recording.
        start: First sample, counted at ``sample_rate``.
        num_samples: Length at ``sample_rate``.
        sample_rate: Hz.

    Returns:
        Mono waveform, float32 [T]; shorter than asked where the recording ends. Samples that are
        not finite read as zero.

    Raises:
        AudioError: If nothing can be decoded there.
    """
    with _open(path, _Stream) as file:
        if _num_frames(file) is None:  # no seeking there
            return decode(path, sample_rate)[start : start + num_samples]
        common = math.gcd(file.samplerate, sample_rate)
        ticks_in, ticks_out = file.samplerate // common, sample_rate // common
        # Both rates meet every `ticks_in` native samples: starting there keeps the filter's phase.
        margin = 0 if ticks_in == ticks_out else -(-_FILTER_MARGIN // min(ticks_in, ticks_out))
        first = max(start // ticks_out - margin, 0)
        last = -(-(start + num_samples) // ticks_out) + margin
        try:
            waveform = _mono(_cut(file, first * ticks_in, (last - first) * ticks_in))
        except Exception as error:
            raise AudioError(path, f"cannot be decoded: {_reason(error)}") from error
        finite = np.isfinite(waveform)
        if not finite.all():
            waveform = np.where(finite, waveform, np.float32(0))
        if ticks_in != ticks_out and len(waveform):
            waveform = soxr.resample(waveform, file.samplerate, sample_rate)
    offset = start - first * ticks_out
    return waveform[offset : offset + num_samples]


@dataclass
class _Books:
    """What is counted of a recording while it is decoded, at its own rate.

    Attributes:
        decoded: Samples of the mono mix.
        not_finite: Those that are no numbers; they count as zero below.
        loud: Those at full scale.
        peak: Largest magnitude.
        total: Their sum.
        power: Sum of their squares.
        channel_power: Sum of squares of all channels, over the number of channels.
    """

    decoded: int = 0
    not_finite: int = 0
    loud: int = 0
    peak: float = 0.0
    total: float = 0.0
    power: float = 0.0
    channel_power: float = 0.0

    def enter(self, frames: np.ndarray) -> np.ndarray:
        """Count a block [T, channels], T > 0; return its mono mix, zero where it is not finite."""
        waveform = _mono(frames)
        finite = np.isfinite(waveform)
        if not finite.all():
            self.not_finite += int((~finite).sum())
            waveform = np.where(finite, waveform, np.float32(0))
        elif frames.shape[1] > 1:
            self.channel_power += float(np.vdot(frames, frames)) / frames.shape[1]
        level = np.abs(waveform)
        self.decoded += len(waveform)
        self.peak = max(self.peak, float(level.max()))
        self.loud += int(np.count_nonzero(level >= FULL_SCALE))
        self.total += float(waveform.sum(dtype=np.float64))
        self.power += float(np.vdot(waveform, waveform))
        return waveform

    def problems(self, file: soundfile.SoundFile) -> Iterator[Problem]:
        """Say what is odd about the samples."""
        if self.not_finite:
            said = f"{self.not_finite} samples are not finite and read as zero"
            yield Problem("not-finite", said)
        if self.peak < (SILENT_PEAK if file.subtype in _FINE_CODECS else SILENT_PEAK_16_BIT):
            yield Problem("silent")
        if self.loud > CLIPPED_SHARE * self.decoded:
            yield Problem("clipped", f"{self.loud / self.decoded:.1%} of samples at full scale")
        mean = self.total / self.decoded
        rms = math.sqrt(max(self.power / self.decoded - mean**2, 0.0))
        long = self.decoded >= _DC_SECONDS * file.samplerate
        if long and abs(mean) > max(DC_SHARE * rms, DC_LEAST):
            yield Problem("dc-offset", f"the mean is {mean:+.4f}, the RMS about it {rms:.4f}")
        if self.power < CANCELLED_SHARE / file.channels * self.channel_power:
            share = max(self.power / self.channel_power, 1e-12)
            lost = f"{-10 * math.log10(share):.0f} dB"
            yield Problem("channels-cancel", f"their mono mix is {lost} quieter than they are")


class Blocks:
    """A recording of any length as mono float32 blocks at one sample rate, in bounded memory.

    Iterate once. After the iteration ``problems`` lists what was odd: silent, clipped, truncated,
    not finite, a header whose count differs from what was decoded, a mean far from zero, channels
    that cancel.

    Args:
        path: Recording.
        sample_rate: Hz of the blocks.
        block_seconds: How much is decoded at a time.

    Raises:
        AudioError: On iteration, if the recording yields no samples at all.
    """

    def __init__(self, path: Path, sample_rate: int, block_seconds: float = 30.0) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self.block_seconds = block_seconds
        self.problems: list[Problem] = []
        self._stopped = ""

    def __iter__(self) -> Iterator[np.ndarray]:
        with _open(self.path, _Stream) as file:
            stream = None
            if file.samplerate != self.sample_rate:
                stream = soxr.ResampleStream(file.samplerate, self.sample_rate, 1, dtype="float32")
            for waveform in self._native(file):
                yield stream.resample_chunk(waveform) if stream else waveform
            if stream:
                yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

    def _frames(self, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        """Yield blocks of frames, up to a decoder's error, which is kept in ``_stopped``.

        A read that fails gives nothing of what it has decoded, so each is a short one.
        """
        step = max(int(_STEP_SECONDS * file.samplerate), 1)
        steps_per_block = max(round(self.block_seconds / _STEP_SECONDS), 1)
        ended = False
        while not ended:
            steps: list[np.ndarray] = []
            try:
                while len(steps) < steps_per_block and not ended:
                    steps.append(file.read(step, dtype="float32", always_2d=True))
                    ended = len(steps[-1]) == 0
            except Exception as error:
                self._stopped, ended = _reason(error), True
            if steps:
                yield np.concatenate(steps)

    def _native(self, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        """Yield mono blocks at the file's own rate, and keep the books."""
        books = _Books()
        for frames in self._frames(file):
            if len(frames):
                yield books.enter(frames)

        stopped, decoded = self._stopped, books.decoded
        if not decoded:
            raise AudioError(self.path, f"holds no samples{f': {stopped}' if stopped else ''}")
        if stopped:
            when = f"decoding stopped after {decoded / file.samplerate:.2f} s: {stopped}"
            self.problems.append(Problem("truncated", when))
        elif (promised := _num_frames(file)) is not None and promised != decoded:
            says = f"header says {promised} samples, {decoded} decoded"
            self.problems.append(Problem("header", says))
        self.problems += books.problems(file)


def decode(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a whole recording to mono float32 [T].

    Raises:
        AudioError: If it yields no samples.
    """
    return np.concatenate(list(Blocks(path, sample_rate)))

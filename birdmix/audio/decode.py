"""Decode whatever libsndfile opens to mono float32 at one sample rate.

The law of this room: a segment equals the cut of the fully decoded, fully resampled recording.
Headers are not trusted, and no type of exception is assumed: decoders raise what they like.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

#: What ``find_recordings`` takes for sound, by suffix.
SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"}
    | {".w64", ".rf64", ".caf", ".au", ".voc", ".sph"}
)

#: Peak below which a recording is called silent: -100 dBFS.
SILENT_PEAK = 1e-5

#: A sample at or above this level stands at full scale ...
FULL_SCALE = 0.999

#: ... and a recording with a larger share of such samples is called clipped.
CLIPPED_SHARE = 1e-3

# soxr's filter forgets within this many samples of the slower rate (tested against full decodes).
_FILTER_MARGIN = 2048

# A decoder's error costs at most what one such read would have given.
_STEP_SECONDS = 0.5

# An MP3 frame may borrow bits from up to about ten frames before it, so a seek starts that early.
_MP3_MARGIN = 16 * 1152


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


def find_recordings(folder: Path) -> list[str]:
    """List the sound files below a folder, sorted, as paths relative to it.

    Hidden files and folders are skipped, among them the ``._*`` files that macOS leaves on cards.
    """
    folder = Path(folder)
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in found
        if path.suffix.lower() in SUFFIXES and not any(part[0] == "." for part in path.parts)
    )


class _Stream(soundfile.SoundFile):
    """A file read from its start to its end.

    soundfile seeks after each read of a seekable file; that fails in a FLAC of unknown length.
    """

    def seekable(self) -> bool:
        return False


def _open(path: Path, kind: type[soundfile.SoundFile] = soundfile.SoundFile) -> soundfile.SoundFile:
    if not Path(path).is_file():
        raise AudioError(path, "no such file")
    if Path(path).stat().st_size == 0:
        raise AudioError(path, "the file is empty (0 bytes)")
    try:
        return kind(path)
    except Exception as error:
        raise AudioError(path, f"cannot be opened as sound: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip(" .") or type(error).__name__


def _num_frames(file: soundfile.SoundFile) -> int | None:
    return file.frames if 0 <= file.frames < 2**48 else None


def _mono(frames: np.ndarray) -> np.ndarray:
    return frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)


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
    with _open(path) as file:
        if _num_frames(file) is None:  # no seeking there
            return decode(path, sample_rate)[start : start + num_samples]
        common = math.gcd(file.samplerate, sample_rate)
        ticks_in, ticks_out = file.samplerate // common, sample_rate // common
        # Both rates meet every `ticks_in` native samples: starting there keeps the filter's phase.
        after = 0 if ticks_in == ticks_out else -(-_FILTER_MARGIN // min(ticks_in, ticks_out))
        before = max(after, -(-_MP3_MARGIN // ticks_in) if "MPEG" in file.subtype else 0)
        first = max(start // ticks_out - before, 0)
        last = -(-(start + num_samples) // ticks_out) + after
        try:
            file.seek(first * ticks_in)
            frames = file.read((last - first) * ticks_in, dtype="float32", always_2d=True)
        except Exception as error:
            raise AudioError(path, f"cannot be decoded: {_reason(error)}") from error
        waveform = np.nan_to_num(_mono(frames), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        if ticks_in != ticks_out and len(waveform):
            waveform = soxr.resample(waveform, file.samplerate, sample_rate)
    offset = start - first * ticks_out
    return waveform[offset : offset + num_samples]


class Blocks:
    """A recording of any length as mono float32 blocks at one sample rate, in bounded memory.

    Iterate once. After the iteration ``problems`` lists what was odd: silent, clipped, truncated,
    not finite, or a header whose count differs from what was decoded.

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
        self.problems: list[str] = []
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
        decoded, peak, loud, strange = 0, 0.0, 0, 0
        for frames in self._frames(file):
            if not len(frames):
                continue
            waveform = _mono(frames)
            finite = np.isfinite(waveform)
            if not finite.all():
                strange += int((~finite).sum())
                waveform = np.where(finite, waveform, np.float32(0))
            level = np.abs(waveform)
            decoded += len(waveform)
            peak = max(peak, float(level.max()))
            loud += int((level >= FULL_SCALE).sum())
            yield waveform

        stopped = self._stopped
        if not decoded:
            raise AudioError(self.path, f"holds no samples{f': {stopped}' if stopped else ''}")
        if stopped:
            seconds = decoded / file.samplerate
            self.problems.append(f"truncated: decoding stopped after {seconds:.2f} s: {stopped}")
        elif (promised := _num_frames(file)) is not None and promised != decoded:
            self.problems.append(f"header says {promised} samples, {decoded} decoded")
        if strange:
            self.problems.append(f"{strange} samples are not finite and read as zero")
        if peak < SILENT_PEAK:
            self.problems.append("silent")
        if loud > CLIPPED_SHARE * decoded:
            self.problems.append(f"clipped: {loud / decoded:.1%} of samples at full scale")


def decode(path: Path, sample_rate: int) -> np.ndarray:
    """Decode a whole recording to mono float32 [T].

    Raises:
        AudioError: If it yields no samples.
    """
    return np.concatenate(list(Blocks(path, sample_rate)))

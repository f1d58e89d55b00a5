"""Detect signal problems: silence, clipping, DC offset, invalid samples, cancelling channels.

Shapes: T samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soundfile

from birdmix.audio.audio_file import mix_to_mono
from birdmix.audio.channel_levels import ChannelLevels

#: A recording with a lower peak is silent: -100 dBFS.
SILENT_PEAK = 1e-5

#: The same for codecs of at most 16 bits: three quantisation steps. Dither, also after lossy
#: coding, stays below.
SILENT_PEAK_16_BIT = 1e-4

#: A sample of at least this magnitude is at full scale.
FULL_SCALE = 0.999

#: A recording with a larger share of samples at full scale is clipped.
CLIPPED_SHARE = 1e-3

#: A mean above this share of the RMS about it is a DC offset: it raises levels by 1 dB.
DC_SHARE = 0.5

#: Smallest DC offset, -60 dBFS: in quiet recordings rounding causes smaller ones.
MIN_DC = 1e-3

#: Uncorrelated channels leave 1 / channels of their power in the mono mix. If the mix has less than
#: this share of that (-10 dB), they cancel: one channel has the opposite phase.
CANCELLED_SHARE = 0.1

#: Samples of a larger magnitude are invalid and read as zero. Integers of 32 bits that were stored
#: as floats without scaling reach it; the squares of much larger values overflow.
MAX_LEVEL = 2.0**31

# Shortest recording for a DC offset: in a shorter one, low-frequency wind shifts the mean.
_DC_SECONDS = 1.0

# Codecs with a resolution above 16 bits.
_FINE_CODECS = frozenset({"PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_24", "ALAC_32"})


class AudioProblem(NamedTuple):
    """A problem of a recording.

    Attributes:
        name: Kind of problem: ``truncated``, ``header``, ``gap`` (samples missing in the middle),
            ``surplus`` (unread bytes), ``streams`` (concatenated files), ``not-finite``,
            ``absurd-level``, ``silent``, ``clipped``, ``dc-offset``, ``channels-cancel`` or
            ``channels-differ``; ``birdmix.audio.examine`` adds more.
        detail: Description; may be empty.
    """

    name: str
    detail: str = ""

    def __str__(self) -> str:
        """Format as one line: the detail, after the name unless the detail contains it."""
        if not self.detail or self.name.replace("-", " ") in self.detail:
            return self.detail or self.name
        return f"{self.name}: {self.detail}"


def zero_invalid_samples(waveform: np.ndarray) -> np.ndarray:
    """Replace samples that are not finite, or beyond ``MAX_LEVEL``, by zeros.

    Args:
        waveform: float32 [T]; not modified.

    Returns:
        float32 [T]; the same array if nothing had to be replaced.
    """
    level = np.abs(waveform)
    if not len(level) or level.max() <= MAX_LEVEL:  # the maximum is NaN if there is one
        return waveform
    return np.where(level <= MAX_LEVEL, waveform, np.float32(0))


@dataclass
class SignalStats:
    """Statistics of a recording's samples, updated block by block at the native rate.

    Attributes:
        decoded: Number of samples of the mono mix.
        not_finite: Number of samples that are not finite; they count as zero below.
        out_of_range: Number of samples beyond ``MAX_LEVEL``; they count as zero below.
        loud: Number of samples at full scale.
        peak: Largest magnitude.
        total: Sum of the samples.
        power: Sum of their squares.
        channel_power: Sum of squares of all channels, divided by the number of channels.
        levels: Levels of each channel; None for a mono recording.
    """

    decoded: int = 0
    not_finite: int = 0
    out_of_range: int = 0
    loud: int = 0
    peak: float = 0.0
    total: float = 0.0
    power: float = 0.0
    channel_power: float = 0.0
    levels: ChannelLevels | None = None

    def add_and_mix_to_mono(self, frames: np.ndarray) -> np.ndarray:
        """Add a block of samples.

        Args:
            frames: float32 [T, channels], T > 0.

        Returns:
            Its mono mix without invalid samples (``zero_invalid_samples``), float32 [T].
        """
        mix = mix_to_mono(frames)
        waveform = zero_invalid_samples(mix)
        if waveform is not mix:
            not_finite = int((~np.isfinite(mix)).sum())
            self.not_finite += not_finite
            self.out_of_range += int((~(np.abs(mix) <= MAX_LEVEL)).sum()) - not_finite
        elif frames.shape[1] > 1:
            self.channel_power += float(np.vdot(frames, frames)) / frames.shape[1]
        if frames.shape[1] > 1:
            self.levels = self.levels or ChannelLevels(frames.shape[1])
            self.levels.add(frames)
        level = np.abs(waveform)
        self.decoded += len(waveform)
        self.peak = max(self.peak, float(level.max()))
        self.loud += int(np.count_nonzero(level >= FULL_SCALE))
        self.total += float(waveform.sum(dtype=np.float64))
        self.power += float(np.vdot(waveform, waveform))
        return waveform

    def describe_if_mostly_invalid(self) -> str:
        """Return an error text if most samples are invalid, else an empty text."""
        if self.not_finite + self.out_of_range <= self.decoded / 2:
            return ""
        return (
            f"{self.not_finite} of {self.decoded} samples are not finite, {self.out_of_range} "
            f"beyond {MAX_LEVEL:.0e} times full scale: not audio; export the file again"
        )

    def find_problems(self, file: soundfile.SoundFile) -> Iterator[AudioProblem]:
        """Yield the problems of all samples added so far.

        Args:
            file: The recording, for its codec, sample rate and number of channels.
        """
        if self.not_finite:
            detail = f"{self.not_finite} samples are not finite and read as zero"
            yield AudioProblem("not-finite", detail)
        if self.out_of_range:
            number = f"{self.out_of_range} of {self.decoded} samples"
            detail = f"{number} are beyond {MAX_LEVEL:.0e} times full scale and read as zero"
            yield AudioProblem("absurd-level", detail)
        if self.peak < (SILENT_PEAK if file.subtype in _FINE_CODECS else SILENT_PEAK_16_BIT):
            yield AudioProblem("silent")
        if self.loud > CLIPPED_SHARE * self.decoded:
            yield AudioProblem(
                "clipped", f"{self.loud / self.decoded:.1%} of samples at full scale"
            )
        mean = self.total / self.decoded
        rms = math.sqrt(max(self.power / self.decoded - mean**2, 0.0))
        is_long = self.decoded >= _DC_SECONDS * file.samplerate
        if is_long and abs(mean) > max(DC_SHARE * rms, MIN_DC):
            yield AudioProblem("dc-offset", f"the mean is {mean:+.4f}, the RMS about it {rms:.4f}")
        if self.power < CANCELLED_SHARE / file.channels * self.channel_power:
            share = max(self.power / self.channel_power, 1e-12)
            lost = f"{-10 * math.log10(share):.0f} dB"
            yield AudioProblem("channels-cancel", f"their mono mix is {lost} below the channels")
        if self.levels is not None and (detail := self.levels.describe_problem()):
            yield AudioProblem("channels-differ", detail)

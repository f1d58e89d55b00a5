"""What may be odd about the samples of a recording.

Shapes: T samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soundfile

from birdmix.audio.channels import ChannelLevels
from birdmix.audio.sound_file import mono

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

#: Samples beyond it are no sound, and read as zero: integers of 32 bits, stored as floats and never
#: scaled, reach it, and the squares of what is far beyond it are no numbers any more.
HIGHEST_LEVEL = 2.0**31

# A shorter recording may hold less than a period of wind: its mean tells nothing.
_DC_SECONDS = 1.0

# Codecs that hold what is finer than 16 bits.
_FINE_CODECS = frozenset({"PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_24", "ALAC_32"})


class Problem(NamedTuple):
    """Something odd about a recording.

    Attributes:
        name: Which kind: ``truncated``, ``header``, ``gap`` (lost in the middle), ``surplus``
            (bytes that are not read), ``streams`` (joined files), ``not-finite``,
            ``absurd-level``, ``silent``, ``clipped``, ``dc-offset``, ``channels-cancel`` or
            ``channels-differ`` here; ``birdmix.audio.examine`` has more.
        detail: What exactly, in words; may be empty.
    """

    name: str
    detail: str = ""

    def __str__(self) -> str:
        """Say it in one line: the name, unless the detail holds it."""
        if not self.detail or self.name.replace("-", " ") in self.detail:
            return self.detail or self.name
        return f"{self.name}: {self.detail}"


def sanitised(waveform: np.ndarray) -> np.ndarray:
    """Return a waveform, float32 [T], with zeros for what is not finite or no sound.

    It is the same array where nothing had to be changed.
    """
    level = np.abs(waveform)
    if not len(level) or level.max() <= HIGHEST_LEVEL:  # a NaN among them is the maximum
        return waveform
    return np.where(level <= HIGHEST_LEVEL, waveform, np.float32(0))


@dataclass
class Books:
    """What is counted of a recording while it is decoded, at its own rate.

    Attributes:
        decoded: Samples of the mono mix.
        not_finite: Those that are no numbers; they count as zero below.
        absurd: Those beyond ``HIGHEST_LEVEL``; they count as zero below.
        loud: Those at full scale.
        peak: Largest magnitude.
        total: Their sum.
        power: Sum of their squares.
        channel_power: Sum of squares of all channels, over the number of channels.
        levels: How loud each channel is; None while there is one.
    """

    decoded: int = 0
    not_finite: int = 0
    absurd: int = 0
    loud: int = 0
    peak: float = 0.0
    total: float = 0.0
    power: float = 0.0
    channel_power: float = 0.0
    levels: ChannelLevels | None = None

    def enter(self, frames: np.ndarray) -> np.ndarray:
        """Count a block [T, channels], T > 0; return its mono mix, ``sanitised``."""
        mix = mono(frames)
        waveform = sanitised(mix)
        if waveform is not mix:
            not_finite = int((~np.isfinite(mix)).sum())
            self.not_finite += not_finite
            self.absurd += int((~(np.abs(mix) <= HIGHEST_LEVEL)).sum()) - not_finite
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

    def no_sound(self) -> str:
        """Say why most samples are no sound; empty if they are."""
        if self.not_finite + self.absurd <= self.decoded / 2:
            return ""
        return (
            f"{self.not_finite} of {self.decoded} samples are not finite, {self.absurd} beyond "
            f"{HIGHEST_LEVEL:.0e} times full scale: it is no sound; write it again"
        )

    def problems(self, file: soundfile.SoundFile) -> Iterator[Problem]:
        """Say what is odd about the samples."""
        if self.not_finite:
            said = f"{self.not_finite} samples are not finite and read as zero"
            yield Problem("not-finite", said)
        if self.absurd:
            number = f"{self.absurd} of {self.decoded} samples"
            said = f"{number} are beyond {HIGHEST_LEVEL:.0e} times full scale and read as zero"
            yield Problem("absurd-level", said)
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
        if self.levels is not None and (said := self.levels.problem()):
            yield Problem("channels-differ", said)

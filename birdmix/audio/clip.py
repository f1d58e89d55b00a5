"""Cut clips out of recordings, for ears.

Shapes: T samples.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.audio.reader import probe
from birdmix.audio.segment import read
from birdmix.audio.sound_file import AudioError

#: A longer clip is nothing to listen to again and again.
LONGEST_SECONDS = 15.0

#: Hz; what is above is resampled, as browsers play no more everywhere.
HIGHEST_RATE = 48_000

#: Largest magnitude of a levelled clip: -1 dBFS.
PEAK = 10 ** (-1 / 20)


class Clip(NamedTuple):
    """A clip of a recording, levelled: its largest magnitude is ``PEAK``.

    Attributes:
        waveform: Mono, float32 [T].
        sample_rate: Hz.
        begin_seconds: Where in the recording it begins.
        gain_db: By how many decibels it was made louder.
    """

    waveform: np.ndarray
    sample_rate: int
    begin_seconds: float
    gain_db: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.waveform) / self.sample_rate


def cut_clip(
    path: Path, begin_seconds: float, end_seconds: float, channel: int | None = None
) -> Clip:
    """Cut a clip out of a recording, and level it.

    A constant offset is taken away: it cannot be heard, and would count as loudness.

    Args:
        path: Recording.
        begin_seconds: Where the clip begins.
        end_seconds: Where it ends; the recording may end before.
        channel: The one to hear, counted from 1; None is the mean of all.

    Raises:
        AudioError: If the recording cannot be read there, or ends before.
    """
    sample_rate = min(probe(path).sample_rate, HIGHEST_RATE)
    first = round(begin_seconds * sample_rate)
    waveform = read(path, first, round(end_seconds * sample_rate) - first, sample_rate, channel)
    if not len(waveform):
        raise AudioError(path, f"ends before {begin_seconds:g} s")
    waveform = waveform - waveform.mean()
    peak = float(np.abs(waveform).max())
    gain = PEAK / peak if peak else 1.0
    gain_db = 20 * float(np.log10(gain))
    return Clip(waveform * np.float32(gain), sample_rate, first / sample_rate, gain_db)


def bounds(
    start_seconds: float, end_seconds: float, peak_seconds: float, pad_seconds: float
) -> tuple[float, float]:
    """Return where the clip of a stretch begins and ends, in seconds; the recording may end first.

    Of a stretch too long for a clip it is what is around the peak. A padding that does not fit is
    not moved to the other side.

    Args:
        start_seconds: Where the stretch starts.
        end_seconds: Where it ends.
        peak_seconds: Where in it to listen, if not everywhere.
        pad_seconds: How much to add on either side, where there is any.
    """
    half = min((end_seconds - start_seconds) / 2 + pad_seconds, LONGEST_SECONDS / 2)
    middle = (start_seconds + end_seconds) / 2
    if end_seconds - start_seconds > LONGEST_SECONDS:
        first, last = start_seconds - pad_seconds + half, end_seconds + pad_seconds - half
        middle = min(max(peak_seconds, first), last)
    return max(middle - half, 0.0), middle + half

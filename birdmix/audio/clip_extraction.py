"""Extract short excerpts of recordings for people to listen to, at a normalised level.

Shapes: T samples.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.audio.audio_file import AudioError
from birdmix.audio.segment_reader import read_segment
from birdmix.audio.stream_reader import read_audio_info

#: Longest clip: longer ones are impractical for reviewing many detections.
MAX_SECONDS = 15.0

#: Highest sample rate of a clip in Hz, as not all browsers play higher ones.
MAX_RATE = 48_000

#: Largest magnitude of a clip after normalisation: -1 dBFS.
PEAK = 10 ** (-1 / 20)


class Clip(NamedTuple):
    """A short excerpt of a recording, normalised so that its largest magnitude is ``PEAK``.

    Attributes:
        waveform: Mono, float32 [T].
        sample_rate: Hz.
        begin_seconds: Start in the recording, in seconds.
        gain_db: Gain of the normalisation, in dB.
    """

    waveform: np.ndarray
    sample_rate: int
    begin_seconds: float
    gain_db: float

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.sample_rate


def extract_clip(
    path: Path, begin_seconds: float, end_seconds: float, channel: int | None = None
) -> Clip:
    """Read a clip from a recording, remove its offset and normalise its peak.

    A constant offset is inaudible, but would count as loudness.

    Args:
        path: Recording.
        begin_seconds: Start of the clip, in seconds.
        end_seconds: End of the clip, in seconds; the recording may end earlier.
        channel: Number of the channel, from 1; None for the mean of all.

    Returns:
        The clip.

    Raises:
        AudioError: If the recording cannot be read there, or ends before ``begin_seconds``.
    """
    sample_rate = min(read_audio_info(path).sample_rate, MAX_RATE)
    first = round(begin_seconds * sample_rate)
    waveform = read_segment(
        path, first, round(end_seconds * sample_rate) - first, sample_rate, channel
    )
    if not len(waveform):
        raise AudioError(path, f"ends before {begin_seconds:g} s")
    waveform = waveform - waveform.mean()
    peak = float(np.abs(waveform).max())
    gain = PEAK / peak if peak else 1.0
    gain_db = 20 * float(np.log10(gain))
    return Clip(waveform * np.float32(gain), sample_rate, first / sample_rate, gain_db)


def detection_clip_bounds(
    start_seconds: float, end_seconds: float, peak_seconds: float, pad_seconds: float
) -> tuple[float, float]:
    """Return the start and end of the clip of a detection, in seconds.

    The end may lie beyond that of the recording. A detection that is longer than ``MAX_SECONDS``
    gives a clip around its peak. Padding that does not fit on one side is not added to the other.

    Args:
        start_seconds: Start of the detection, in seconds.
        end_seconds: End of the detection, in seconds.
        peak_seconds: Time of its highest confidence, in seconds.
        pad_seconds: Padding on either side, in seconds.

    Returns:
        Start, at least 0, and end, in seconds.
    """
    half = min((end_seconds - start_seconds) / 2 + pad_seconds, MAX_SECONDS / 2)
    middle = (start_seconds + end_seconds) / 2
    if end_seconds - start_seconds > MAX_SECONDS:
        first, last = start_seconds - pad_seconds + half, end_seconds + pad_seconds - half
        middle = min(max(peak_seconds, first), last)
    return max(middle - half, 0.0), middle + half

"""Read a segment of a recording.

The law: a segment equals the cut of the fully decoded, fully resampled recording. Opus alone may
break it: its decoder forgets what it has not seen within a second, as a rule and not for sure.

Shapes: T samples.
"""

import math
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.decode import Blocks
from birdmix.audio.problems import sanitised
from birdmix.audio.sound_file import (
    AudioError,
    Stream,
    channels_heard,
    mono,
    num_frames_of,
    open_sound,
    reason_of,
)

# soxr's filter forgets within this many samples of the slower rate (tested against full decodes).
_FILTER_MARGIN = 2048

# An MP3 frame borrows up to 511 bytes from frames before it and overlaps with the last of them: at
# the lowest bit rate that is eleven frames, of which libsndfile's decoder reads four by itself.
# Below 32 kHz frames may be so small that more of them are needed.
_MP3_LEAD, _MP3_LEAD_BELOW_32_KHZ = 10 * 1152, 16 * 1152

# Opus predicts packets from those before; a wrong beginning fades, if never for sure.
_OPUS_LEAD_SECONDS = 1

# Two OGG pages of the largest size, header included.
_TWO_PAGES = 2 * 65_307


def read(
    path: Path, start: int, num_samples: int, sample_rate: int, channel: int | None = None
) -> np.ndarray:
    """Read a segment.

    Args:
        path: Recording.
        start: First sample, counted at ``sample_rate``.
        num_samples: Length at ``sample_rate``.
        sample_rate: Hz.
        channel: The one to hear, counted from 1; None is the mean of all.

    Returns:
        Mono waveform, float32 [T], ``sanitised``; shorter than asked where the recording ends.

    Raises:
        AudioError: If nothing can be decoded there, or it lacks the channel.
    """
    with open_sound(path, Stream) as file:
        heard = channels_heard(path, file.channels, channel)
        if num_frames_of(file) is None:  # no seeking there
            blocks = Blocks(path, sample_rate, channel=channel)
            return np.concatenate(list(blocks))[start : start + num_samples]
        common = math.gcd(file.samplerate, sample_rate)
        ticks_in, ticks_out = file.samplerate // common, sample_rate // common
        # Both rates meet every `ticks_in` native samples: starting there keeps the filter's phase.
        margin = 0 if ticks_in == ticks_out else -(-_FILTER_MARGIN // min(ticks_in, ticks_out))
        first = max(start // ticks_out - margin, 0)
        last = -(-(start + num_samples) // ticks_out) + margin
        try:
            frames = _cut(file, first * ticks_in, (last - first) * ticks_in)
        except Exception as error:
            raise AudioError(path, f"cannot be decoded: {reason_of(error)}") from error
        waveform = sanitised(mono(frames[:, heard]))
        if ticks_in != ticks_out and len(waveform):
            waveform = soxr.resample(waveform, file.samplerate, sample_rate)
    offset = start - first * ticks_out
    return waveform[offset : offset + num_samples]


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
    if start >= file.frames:
        return np.zeros((0, file.channels), np.float32)
    lead = min(_lead(file, start), start)
    file.seek(start - lead)
    num_frames = min(lead + num_frames, file.frames - (start - lead))
    return file.read(num_frames, dtype="float32", always_2d=True)[lead:]

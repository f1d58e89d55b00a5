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

from birdmix.audio.containers.layout import Layout, Part, Region
from birdmix.audio.decode import Blocks
from birdmix.audio.problems import sanitised
from birdmix.audio.reader import Reader, with_channels
from birdmix.audio.sound_file import channels_heard, mono, open_sound

# soxr's filter forgets within this many samples of the slower rate (tested against full decodes).
_FILTER_MARGIN = 2048

# An MP3 frame borrows up to 511 bytes from frames before it and overlaps with the last of them: at
# the lowest bit rate that is eleven frames, of which libsndfile's decoder reads four by itself.
# Below 32 kHz frames may be so small that more of them are needed.
_MP3_LEAD, _MP3_LEAD_BELOW_32_KHZ = 10 * 1152, 16 * 1152

# Opus predicts packets from those before; a wrong beginning fades, if never for sure.
_OPUS_LEAD_SECONDS = 1

# Of what is decoded where there is no seek.
_BLOCK_SECONDS = 5.0

# Two OGG pages of the largest size, header included.
_TWO_PAGES = 2 * 65_307


def read(
    path: Path,
    start: int,
    num_samples: int,
    sample_rate: int,
    channel: int | None = None,
    layout: Layout | None = None,
) -> np.ndarray:
    """Read a segment: by a seek where the file allows it, else by decoding from the beginning.

    Args:
        path: Recording.
        start: First sample, counted at ``sample_rate``.
        num_samples: Length at ``sample_rate``.
        sample_rate: Hz.
        channel: The one to hear, counted from 1; None is the mean of all.
        layout: The recording's structure, where that is known.

    Returns:
        Mono waveform, float32 [T], ``sanitised``; shorter than asked where the recording ends.

    Raises:
        AudioError: If it yields no samples at all, or lacks the channel.
    """
    with Reader(path, layout) as reader:
        native = reader.first.samplerate
        heard = channels_heard(path, reader.first.channels, channel)
        common = math.gcd(native, sample_rate)
        ticks_in, ticks_out = native // common, sample_rate // common
        # Both rates meet every `ticks_in` native samples: starting there keeps the filter's phase.
        margin = 0 if ticks_in == ticks_out else -(-_FILTER_MARGIN // min(ticks_in, ticks_out))
        first = max(start // ticks_out - margin, 0)
        last = -(-(start + num_samples) // ticks_out) + margin
        try:
            frames = _cut(reader, first * ticks_in, (last - first) * ticks_in)
        except Exception:  # no seek, or a decoder's error: decoders raise what they like
            return _from_beginning(path, start, num_samples, sample_rate, channel, reader.layout)
        waveform = sanitised(mono(frames[:, heard]))
        if ticks_in != ticks_out and len(waveform):
            waveform = soxr.resample(waveform, native, sample_rate)
    offset = start - first * ticks_out
    return waveform[offset : offset + num_samples]


def _from_beginning(
    path: Path, start: int, num_samples: int, sample_rate: int, channel: int | None, layout: Layout
) -> np.ndarray:
    """Read a segment by decoding what is before it too, in bounded memory."""
    kept, place = [np.zeros(0, np.float32)], 0
    blocks = Blocks(path, sample_rate, _BLOCK_SECONDS, channel, layout)
    for block in blocks:
        kept.append(block[max(start - place, 0) : max(start + num_samples - place, 0)])
        place += len(block)
        if place >= start + num_samples:
            break
    return np.concatenate(kept)


def _begin_of_last_page(path: Path, part: Part, num_frames: int) -> int:
    """Find the frame where an OGG stream's last page begins; 0 if its end does not tell."""
    with Region(path, part.pieces) as raw:
        stream = raw.read(18)[14:]
        raw.seek(max(raw.seek(0, os.SEEK_END) - _TWO_PAGES, 0))
        tail = raw.read()
    # A page: "OggS", two bytes, the frame it ends at (-1: ends nothing), its stream's number.
    pages = [page for page in tail.split(b"OggS")[1:] if page[10:14] == stream]
    ends = [int.from_bytes(page[2:10], "little", signed=True) for page in pages]
    ends = [end for end in ends if end >= 0]
    return max(num_frames - (ends[-1] - ends[-2]), 0) if len(ends) > 1 else 0


def _lead(path: Path, part: Part, file: soundfile.SoundFile, start: int) -> int:
    """Say how many frames before ``start`` have to be decoded for it to come out right."""
    if "MPEG" in file.subtype:
        return _MP3_LEAD if file.samplerate >= 32_000 else _MP3_LEAD_BELOW_32_KHZ
    if file.subtype == "OPUS":
        return _OPUS_LEAD_SECONDS * file.samplerate
    if file.subtype == "VORBIS":
        # libsndfile (1.2.2) takes the last page to be full: what it finds there by a seek is late,
        # by up to a block. Decoding that comes from the page before has no such doubt.
        return max(start - _begin_of_last_page(path, part, file.frames), 0)
    return 0


def _cut(reader: Reader, start: int, num_frames: int) -> np.ndarray:
    """Decode frames, float32 [frames, channels], as decoding from the beginning has them.

    Raises:
        Exception: If that cannot be done by a seek.
    """
    if reader.num_frames is None:
        raise ValueError("no seeking in a stream of unknown length")
    layout, end = reader.layout, min(start + num_frames, reader.num_frames)
    if len(layout.parts) == 1:
        return _cut_part(reader.path, layout.parts[0], reader.first, start, end)
    frames = np.zeros((max(end - start, 0), reader.first.channels), np.float32)
    for part in layout.parts:
        assert part.num_frames is not None
        part_start, part_end = part.first_frame, part.first_frame + part.num_frames
        if part_end <= start or part_start >= end:
            continue
        with open_sound(reader.path, part) as file:
            if file.samplerate != reader.first.samplerate:
                raise ValueError("no seeking behind a stream of another rate")
            first, last = max(start, part_start), min(end, part_end)
            piece = _cut_part(reader.path, part, file, first - part_start, last - part_start)
        piece = with_channels(piece, frames.shape[1])
        frames[first - start : first - start + len(piece)] = piece
    return frames


def _cut_part(
    path: Path, part: Part, file: soundfile.SoundFile, start: int, end: int
) -> np.ndarray:
    """Decode the frames of one stream between two places."""
    if start >= end:
        return np.zeros((0, file.channels), np.float32)
    lead = min(_lead(path, part, file, start), start)
    file.seek(start - lead)
    return file.read(lead + end - start, dtype="float32", always_2d=True)[lead:]

"""Read a segment of a recording, by a seek where the format allows it.

A segment equals the same samples of the fully decoded, fully resampled recording. Opus is the
exception: its decoder converges within a second, usually but not always.

Shapes: T samples.
"""

import math
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from birdmix.audio.audio_file import channel_slice, mix_to_mono, open_audio
from birdmix.audio.containers.file_layout import FileLayout, SplicedFile, StreamPart
from birdmix.audio.decode import DecodedBlocks
from birdmix.audio.signal_problems import zero_invalid_samples
from birdmix.audio.stream_reader import StreamReader, convert_channels

# Length of soxr's filter in samples of the slower rate (tested against full decodes).
_FILTER_MARGIN = 2048

# Frames decoded before an MP3 segment. An MP3 frame uses up to 511 bytes of earlier frames (the bit
# reservoir) and overlaps with the previous one: at the lowest bit rate that is eleven frames, of
# which libsndfile's decoder reads four by itself. Below 32 kHz frames may be smaller.
_MP3_PREROLL, _MP3_PREROLL_BELOW_32_KHZ = 10 * 1152, 16 * 1152

# Opus predicts packets from earlier ones; the error of a wrong start usually decays within this.
_OPUS_PREROLL_SECONDS = 1

# Length of a block, in seconds, where seeking is impossible.
_BLOCK_SECONDS = 5.0

# Two OGG pages of the largest size, header included.
_TWO_PAGES = 2 * 65_307


def read_segment(
    path: Path,
    start: int,
    num_samples: int,
    sample_rate: int,
    channel: int | None = None,
    layout: FileLayout | None = None,
) -> np.ndarray:
    """Read a segment by a seek if possible, else by decoding from the start.

    Args:
        path: Recording.
        start: First sample, counted at ``sample_rate``.
        num_samples: Number of samples at ``sample_rate``.
        sample_rate: Hz of the result.
        channel: Number of the channel, from 1; None for the mean of all.
        layout: Streams of the recording, if known.

    Returns:
        Mono waveform without invalid samples, float32 [T]; shorter than ``num_samples`` at the end
        of the recording.

    Raises:
        AudioError: If the recording has no samples, or no such channel.
    """
    with StreamReader(path, layout) as reader:
        native = reader.first_stream.samplerate
        selected = channel_slice(path, reader.first_stream.channels, channel)
        common = math.gcd(native, sample_rate)
        ticks_in, ticks_out = native // common, sample_rate // common
        # Both rates meet every `ticks_in` native samples: starting there keeps the filter's phase.
        margin = 0 if ticks_in == ticks_out else -(-_FILTER_MARGIN // min(ticks_in, ticks_out))
        first = max(start // ticks_out - margin, 0)
        last = -(-(start + num_samples) // ticks_out) + margin
        try:
            frames = _decode_range(reader, first * ticks_in, (last - first) * ticks_in)
        except Exception:  # no seeking, or a decoder's error of any type
            return _read_from_start(path, start, num_samples, sample_rate, channel, reader.layout)
        waveform = zero_invalid_samples(mix_to_mono(frames[:, selected]))
        if ticks_in != ticks_out and len(waveform):
            waveform = soxr.resample(waveform, native, sample_rate)
    offset = start - first * ticks_out
    return waveform[offset : offset + num_samples]


def _read_from_start(
    path: Path,
    start: int,
    num_samples: int,
    sample_rate: int,
    channel: int | None,
    layout: FileLayout,
) -> np.ndarray:
    """Read a segment by decoding from the start of the recording, in bounded memory."""
    kept, position = [np.zeros(0, np.float32)], 0
    blocks = DecodedBlocks(path, sample_rate, _BLOCK_SECONDS, channel, layout)
    for block in blocks:
        kept.append(block[max(start - position, 0) : max(start + num_samples - position, 0)])
        position += len(block)
        if position >= start + num_samples:
            break
    return np.concatenate(kept)


def _find_last_page(path: Path, part: StreamPart, num_frames: int) -> int:
    """Return the first frame of an OGG stream's last page; 0 if unknown."""
    with SplicedFile(path, part.pieces) as raw:
        stream = raw.read(18)[14:]
        raw.seek(max(raw.seek(0, os.SEEK_END) - _TWO_PAGES, 0))
        tail = raw.read()
    # A page: "OggS", two bytes, the frame it ends at (-1: no packet ends), the stream's serial.
    pages = [page for page in tail.split(b"OggS")[1:] if page[10:14] == stream]
    ends = [int.from_bytes(page[2:10], "little", signed=True) for page in pages]
    ends = [end for end in ends if end >= 0]
    return max(num_frames - (ends[-1] - ends[-2]), 0) if len(ends) > 1 else 0


def _count_preroll_frames(
    path: Path, part: StreamPart, file: soundfile.SoundFile, start: int
) -> int:
    """Return how many frames before ``start`` the decoder needs to give exact samples."""
    if "MPEG" in file.subtype:
        return _MP3_PREROLL if file.samplerate >= 32_000 else _MP3_PREROLL_BELOW_32_KHZ
    if file.subtype == "OPUS":
        return _OPUS_PREROLL_SECONDS * file.samplerate
    if file.subtype == "VORBIS":
        # libsndfile (1.2.2) assumes that the last page is full: after a seek into it, samples are
        # late by up to a block. Decoding from the page before is exact.
        return max(start - _find_last_page(path, part, file.frames), 0)
    return 0


def _decode_range(reader: StreamReader, start: int, num_frames: int) -> np.ndarray:
    """Decode a range of frames by a seek, float32 [frames, channels].

    Raises:
        Exception: If seeking is impossible.
    """
    if reader.num_frames is None:
        raise ValueError("no seeking in a stream of unknown length")
    layout, end = reader.layout, min(start + num_frames, reader.num_frames)
    if len(layout.parts) == 1:
        return _decode_part_range(reader.path, layout.parts[0], reader.first_stream, start, end)
    frames = np.zeros((max(end - start, 0), reader.first_stream.channels), np.float32)
    for part in layout.parts:
        assert part.num_frames is not None
        part_start, part_end = part.first_frame, part.first_frame + part.num_frames
        if part_end <= start or part_start >= end:
            continue
        with open_audio(reader.path, part) as file:
            if file.samplerate != reader.first_stream.samplerate:
                raise ValueError("no seeking after a stream of another rate")
            first, last = max(start, part_start), min(end, part_end)
            piece = _decode_part_range(
                reader.path, part, file, first - part_start, last - part_start
            )
        piece = convert_channels(piece, frames.shape[1])
        frames[first - start : first - start + len(piece)] = piece
    return frames


def _decode_part_range(
    path: Path, part: StreamPart, file: soundfile.SoundFile, start: int, end: int
) -> np.ndarray:
    """Decode the frames of one stream from ``start`` to ``end``."""
    if start >= end:
        return np.zeros((0, file.channels), np.float32)
    preroll = min(_count_preroll_frames(path, part, file, start), start)
    file.seek(start - preroll)
    return file.read(preroll + end - start, dtype="float32", always_2d=True)[preroll:]

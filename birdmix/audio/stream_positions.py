"""Locate the streams of a recording: first frame and number of frames of each."""

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from birdmix.audio.audio_file import (
    WHOLE_FILE,
    AudioError,
    StreamingSoundFile,
    open_audio,
    stated_num_frames,
)
from birdmix.audio.containers.file_layout import (
    FileLayout,
    StreamPart,
    format_frames_as_seconds,
    total_bytes,
)
from birdmix.audio.containers.find_layout import find_layout

#: Layout of a file that is decoded unchanged.
PLAIN_LAYOUT = FileLayout()

# Longest gap in seconds; a longer one is not a loss of pages, but a changed granule position.
_MAX_GAP_SECONDS = 3600

# Number of cached layouts: a file is opened several times in a row.
_CACHE_SIZE = 256


def find_layout_with_positions(path: Path) -> FileLayout:
    """Return the streams of a recording with their positions and lengths, and their problems.

    Args:
        path: Recording. A missing file gives ``PLAIN_LAYOUT``; opening it reports the error.

    Raises:
        AudioError: If it cannot be opened as audio.
    """
    try:
        state = os.stat(path)
        return _find_layout_with_positions(os.fspath(path), state.st_size, state.st_mtime_ns)
    except OSError:
        return PLAIN_LAYOUT  # opening it reports the error


@lru_cache(maxsize=_CACHE_SIZE)
def _find_layout_with_positions(path: str, size: int, modified: int) -> FileLayout:
    layout = find_layout(path)
    return layout if layout.is_plain else _measure_parts(Path(path), layout)


def _measure_parts(path: Path, layout: FileLayout) -> FileLayout:
    """Open each part to find its first frame and its number of frames."""
    if layout.num_frames is not None:
        with open_audio(path) as stream:
            if (stated_num_frames_of_part(path, WHOLE_FILE, stream) or 0) >= layout.num_frames:
                return FileLayout(problems=layout.problems, num_frames=layout.num_frames)
    parts: list[StreamPart] = []
    problems = list(layout.problems)
    sample_rate, end, clock = 0, 0, 0
    for part in layout.parts:
        try:
            with open_audio(path, part) as stream:
                rate, num_frames = stream.samplerate, stated_num_frames_of_part(path, part, stream)
        except AudioError as error:
            if not parts:  # opening the whole file reports the error, or succeeds
                return FileLayout(problems=layout.problems)
            where = format_frames_as_seconds(end, sample_rate)
            problems.append(("surplus", f"another stream, at {where}: {error.reason}"))
            continue
        sample_rate = sample_rate or rate
        ticks = part.clock_end or 0
        ticks = ticks * rate // part.clock_rate if part.clock_rate else ticks
        if part.resumes and num_frames is not None:
            gap = ticks - num_frames - clock
            where = format_frames_as_seconds(end, sample_rate)
            if gap > _MAX_GAP_SECONDS * rate:
                problems.append(("gap", f"an unknown number of pages is missing at {where}"))
            elif gap > 0:
                lost = format_frames_as_seconds(gap, rate)
                problems.append(("gap", f"{lost} are missing at {where}, replaced by silence"))
                end += gap
        clock = ticks
        parts.append(replace(part, first_frame=end, num_frames=num_frames))
        end += -(-(num_frames or 0) * sample_rate // rate)
    begins = [p.first_frame for p in parts if not p.resumes]
    if len(begins) > 1:
        places = ", ".join(format_frames_as_seconds(begin, sample_rate) for begin in begins[1:4])
        more = ", ..." if len(begins) > 4 else ""
        detail = f"{len(begins)} streams are concatenated, at {places}{more}"
        problems.append(("streams", detail))
    known = all(part.num_frames is not None for part in parts)
    return FileLayout(tuple(parts), tuple(problems), end if known else None)


def stated_num_frames_of_part(
    path: Path, part: StreamPart, stream: StreamingSoundFile
) -> int | None:
    """Return the number of frames of an opened part, None if unknown.

    Args:
        path: Recording.
        part: The part.
        stream: The opened part.
    """
    try:
        return stated_num_frames(stream, total_bytes(path, part.pieces))
    except OSError:  # the file was removed: reading it reports the error
        return None

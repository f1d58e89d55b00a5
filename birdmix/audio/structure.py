"""The streams that make up a recording: where each begins, and how long it is."""

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from birdmix.audio.containers.find import layout_of
from birdmix.audio.containers.layout import Layout, Part, in_seconds, size_of
from birdmix.audio.sound_file import WHOLE, AudioError, Stream, num_frames_of, open_sound

#: A file whose decoder takes it as it is.
PLAIN = Layout()

# A longer gap, in seconds, is no loss of pages but a clock that was set.
_LONGEST_GAP = 3600

# Layouts that are kept: a file is opened several times in a row.
_KEPT = 256


def structure_of(path: Path) -> Layout:
    """Return the parts of a recording, with their places and lengths, and what is odd about them.

    Raises:
        AudioError: If it cannot be opened. (Mostly that is left to who opens it next.)
    """
    try:
        state = os.stat(path)
        return _structure_of(os.fspath(path), state.st_size, state.st_mtime_ns)
    except OSError:
        return PLAIN  # opening it tells why


@lru_cache(maxsize=_KEPT)
def _structure_of(path: str, size: int, modified: int) -> Layout:
    layout = layout_of(path)
    return layout if layout.plain else _measured(Path(path), layout)


def _measured(path: Path, layout: Layout) -> Layout:
    """Open each part, and note where it begins and how long it is."""
    if layout.num_frames is not None:
        with open_sound(path) as stream:
            if (frames_of(path, WHOLE, stream) or 0) >= layout.num_frames:
                return Layout(oddities=layout.oddities, num_frames=layout.num_frames)
    parts: list[Part] = []
    oddities = list(layout.oddities)
    sample_rate, end, clock = 0, 0, 0
    for part in layout.parts:
        try:
            with open_sound(path, part) as stream:
                rate, num_frames = stream.samplerate, frames_of(path, part, stream)
        except AudioError as error:
            if not parts:  # opening the whole file tells why, or does better
                return Layout(oddities=layout.oddities)
            where = in_seconds(end, sample_rate)
            oddities.append(("surplus", f"a further stream, at {where}, {error.reason}"))
            continue
        sample_rate = sample_rate or rate
        ticks = part.clock_end or 0
        ticks = ticks * rate // part.clock_rate if part.clock_rate else ticks
        if part.resumes and num_frames is not None:
            gap = ticks - num_frames - clock
            where = in_seconds(end, sample_rate)
            if gap > _LONGEST_GAP * rate:
                oddities.append(("gap", f"at {where} pages are missing, no one knows how many"))
            elif gap > 0:
                lost = in_seconds(gap, rate)
                oddities.append(("gap", f"{lost} are missing at {where}, silence stands there"))
                end += gap
        clock = ticks
        parts.append(replace(part, first_frame=end, num_frames=num_frames))
        end += -(-(num_frames or 0) * sample_rate // rate)
    begins = [p.first_frame for p in parts if not p.resumes]
    if len(begins) > 1:
        said = ", ".join(in_seconds(begin, sample_rate) for begin in begins[1:4])
        more = ", ..." if len(begins) > 4 else ""
        said = f"{len(begins)} streams follow each other and are joined, at {said}{more}"
        oddities.append(("streams", said))
    known = all(part.num_frames is not None for part in parts)
    return Layout(tuple(parts), tuple(oddities), end if known else None)


def frames_of(path: Path, part: Part, stream: Stream) -> int | None:
    """Return the frames of an opened part, None where nothing tells."""
    try:
        return num_frames_of(stream, size_of(path, part.pieces))
    except OSError:  # the file is gone: reading tells
        return None

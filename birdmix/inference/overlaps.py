"""Recordings of one place that overlap in time, and copies of one recording.

Effort is time in which a place was recorded: what two recordings of a place cover counts once, and
a copy counts for nothing.
"""

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from birdmix.audio.duplicates import is_named_as_copy

#: Seconds. Names of files tell whole seconds, and clocks drift: recordings that follow each other
#: may seem to overlap by as much.
CLOCK_SECONDS = 2.0

# Two files of one size are compared in so many places, of so many bytes each.
_PLACES, _BYTES = 16, 1 << 16

Group = TypeVar("Group", bound=Hashable)


class Timed(NamedTuple):
    """When and where a recording was made.

    Attributes:
        path: Relative to the folder predicted.
        deployment: The place.
        began: When it began, with an offset from UTC if that is known.
        seconds: Its length.
    """

    path: str
    deployment: str
    began: datetime
    seconds: float


@dataclass(frozen=True, eq=False)
class Overlap:
    """Recordings of one place of which each overlaps another of them.

    Attributes:
        partner: For each recording, by when they began, one that it overlaps.
        seconds: What the recordings have together, without the time that they cover.
    """

    partner: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Repeated:
    """What is there twice: copies of recordings, and time that several recordings cover.

    Attributes:
        copies: The original of each copy.
        overlaps: Groups of recordings that overlap; copies are in none.
    """

    copies: Mapping[str, str]
    overlaps: Sequence[Overlap]

    @cached_property
    def overlap_of(self) -> dict[str, Overlap]:
        """The group of each recording that is in one."""
        return {path: each for each in self.overlaps for path in each.partner}

    def note(self, path: str) -> str:
        """Say of a recording what it repeats; empty if nothing."""
        if path in self.copies:
            return f"copy of {self.copies[path]}"
        if path in self.overlap_of:
            return f"overlaps in time with {self.overlap_of[path].partner[path]}"
        return ""

    def lines(self) -> Iterator[str]:
        """Say what is there twice, in a line each."""
        once = "activity.csv and effort.csv count it once"
        if self.copies:
            path, original = next(iter(self.copies.items()))
            copies = f"{len(self.copies)} recordings have the bytes of others"
            yield f"{copies}, first {path} of {original}; {once}"
        if self.overlaps:
            seconds = sum(each.seconds for each in self.overlaps)
            path, other = next(iter(self.overlaps[0].partner.items()))
            yield (
                f"{len(self.overlap_of)} recordings overlap others of their deployment in time, by "
                f"{seconds:.0f} s in all, first {path} and {other}; {once}"
            )


def elapsed(since: datetime, until: datetime) -> float:
    """Return the seconds between two moments, of which both or neither state an offset from UTC."""
    return (_utc(until) - _utc(since)).total_seconds()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def find_overlaps(recordings: Iterable[Timed]) -> list[Overlap]:
    """Group the recordings that overlap others of their deployment by more than clocks are off.

    Clocks that state an offset from UTC and those that do not cannot be compared.
    """
    places: dict[tuple[str, bool], list[tuple[float, float, str]]] = defaultdict(list)
    for path, deployment, began, seconds in recordings:
        start = elapsed(datetime(1970, 1, 1, tzinfo=began.tzinfo and UTC), began)
        places[deployment, began.tzinfo is None].append((start, start + seconds, path))
    overlaps: list[Overlap] = []
    for spans in places.values():
        spans.sort()
        together: list[tuple[float, float, str]] = []  # each overlaps one before it
        partner: dict[str, str] = {}
        end, last = -math.inf, ""  # which of them ends last, and when
        for span in [*spans, (math.inf, math.inf, "")]:
            start, stop, path = span
            if start < end - CLOCK_SECONDS:
                partner.setdefault(last, path)
                partner[path] = last
            else:
                if partner:
                    covered = end - together[0][0]
                    overlaps.append(Overlap(partner, sum(b - a for a, b, _ in together) - covered))
                together, partner = [], {}
            together.append(span)
            if stop > end:
                end, last = stop, path
    return overlaps


def find_copies(folder: Path, alike: Mapping[Group, Sequence[str]]) -> dict[str, str]:
    """Find the recordings that have the same bytes as another one.

    Args:
        folder: Folder of the recordings.
        alike: Groups of paths that may be copies: of one size, beginning and result. Of these the
            bytes are compared in a few places, since to read terabytes again would take hours.

    Returns:
        The original of each copy. It is the one that is not named as a copy, the first of several.
    """
    original_of: dict[str, str] = {}
    for paths in alike.values():
        originals: dict[bytes, str] = {}
        for path in sorted(paths, key=lambda each: (is_named_as_copy(each), each)):
            try:
                content = _digest(folder / path)
            except OSError:  # it is gone: nobody knows
                continue
            if content in originals:
                original_of[path] = originals[content]
            else:
                originals[content] = path
    return original_of


def _digest(file: Path) -> bytes:
    """Hash a few places of a file, its beginning and end among them."""
    digest = hashlib.blake2b()
    with open(file, "rb") as stream:
        last = max(stream.seek(0, os.SEEK_END) - _BYTES, 0)
        for number in range(_PLACES):
            stream.seek(last * number // (_PLACES - 1))
            digest.update(stream.read(_BYTES))
    return digest.digest()

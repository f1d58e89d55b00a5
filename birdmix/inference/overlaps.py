"""Recordings of one deployment that overlap in time, and copies of recordings.

Effort is the time in which a deployment was recorded: time that two of its recordings cover counts
once, and copies do not count.
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

from birdmix.audio.duplicates import has_copy_name

#: Seconds. Times in file names are rounded to seconds, and clocks drift: recordings that follow
#: each other may seem to overlap by as much.
CLOCK_SECONDS = 2.0

# Possible copies are compared in this number of blocks, of this size in bytes.
_NUM_BLOCKS, _BLOCK_BYTES = 16, 1 << 16

Group = TypeVar("Group", bound=Hashable)


class TimedRecording(NamedTuple):
    """When and where a recording was made.

    Attributes:
        path: Relative to the folder predicted.
        deployment: The deployment.
        recorded_at: When its recording began, with an offset from UTC if that is known.
        seconds: Its length.
    """

    path: str
    deployment: str
    recorded_at: datetime
    seconds: float


@dataclass(frozen=True, eq=False)
class OverlapGroup:
    """Recordings of one deployment of which each overlaps another of them.

    Attributes:
        partner: For each recording, one that it overlaps; sorted by start time.
        seconds: Their total length, minus the time that they cover.
    """

    partner: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class RepeatedAudio:
    """Audio that exists twice: copies of recordings, and time that several recordings cover.

    Attributes:
        copies: The original of each copy.
        overlaps: Groups of recordings that overlap; they contain no copies.
    """

    copies: Mapping[str, str]
    overlaps: Sequence[OverlapGroup]

    @cached_property
    def overlap_by_path(self) -> dict[str, OverlapGroup]:
        """The group of each recording that overlaps others."""
        return {path: each for each in self.overlaps for path in each.partner}

    def warning_about_recording(self, path: str) -> str:
        """Return a warning about a recording; empty if it repeats nothing."""
        if path in self.copies:
            return f"copy of {self.copies[path]}"
        if path in self.overlap_by_path:
            return f"overlaps in time with {self.overlap_by_path[path].partner[path]}"
        return ""

    def summary_lines(self) -> Iterator[str]:
        """Yield a line about the copies and a line about the overlaps, if there are any."""
        remark = "activity.csv and effort.csv count it once"
        if self.copies:
            path, original = next(iter(self.copies.items()))
            copies = f"{len(self.copies)} recordings have the same bytes as others"
            yield f"{copies}, first {path} (copy of {original}); {remark}"
        if self.overlaps:
            seconds = sum(each.seconds for each in self.overlaps)
            path, other = next(iter(self.overlaps[0].partner.items()))
            yield (
                f"{len(self.overlap_by_path)} recordings overlap others of their deployment in "
                f"time, by {seconds:.0f} s in all, first {path} and {other}; {remark}"
            )


def seconds_between_datetimes(since: datetime, until: datetime) -> float:
    """Return the seconds between two moments, of which both or neither state an offset from UTC."""
    return (_to_utc(until) - _to_utc(since)).total_seconds()


def _to_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def find_overlaps(recordings: Iterable[TimedRecording]) -> list[OverlapGroup]:
    """Group the recordings that overlap others of their deployment by over ``CLOCK_SECONDS``.

    Clocks that state an offset from UTC are not compared with those that do not.
    """
    deployments: dict[tuple[str, bool], list[tuple[float, float, str]]] = defaultdict(list)
    for path, deployment, recorded_at, seconds in recordings:
        start = seconds_between_datetimes(
            datetime(1970, 1, 1, tzinfo=recorded_at.tzinfo and UTC), recorded_at
        )
        deployments[deployment, recorded_at.tzinfo is None].append((start, start + seconds, path))
    overlaps: list[OverlapGroup] = []
    for spans in deployments.values():
        spans.sort()
        group: list[tuple[float, float, str]] = []  # each overlaps one before it
        partner: dict[str, str] = {}
        end, last = -math.inf, ""  # the latest end so far, and whose it is
        for span in [*spans, (math.inf, math.inf, "")]:
            start, stop, path = span
            if start < end - CLOCK_SECONDS:
                partner.setdefault(last, path)
                partner[path] = last
            else:
                if partner:
                    covered = end - group[0][0]
                    overlaps.append(
                        OverlapGroup(partner, sum(b - a for a, b, _ in group) - covered)
                    )
                group, partner = [], {}
            group.append(span)
            if stop > end:
                end, last = stop, path
    return overlaps


def map_copies_to_originals(
    folder: Path, candidates: Mapping[Group, Sequence[str]]
) -> dict[str, str]:
    """Find the recordings that have the same bytes as another one.

    Args:
        folder: Folder of the recordings.
        candidates: Groups of paths that may be copies, with equal size, beginning and logits. Their
            bytes are compared in a few blocks, since reading terabytes again would take hours.

    Returns:
        The original of each copy: one that is not named as a copy, the first of several.
    """
    original_of: dict[str, str] = {}
    for paths in candidates.values():
        originals: dict[bytes, str] = {}
        for path in sorted(paths, key=lambda each: (has_copy_name(each), each)):
            try:
                content = _hash_blocks(folder / path)
            except OSError:  # it was removed: unknown
                continue
            if content in originals:
                original_of[path] = originals[content]
            else:
                originals[content] = path
    return original_of


def _hash_blocks(file: Path) -> bytes:
    """Hash some blocks of a file, evenly spread, its first and last among them; a short one all."""
    digest = hashlib.blake2b()
    with open(file, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size <= _NUM_BLOCKS * _BLOCK_BYTES:
            stream.seek(0)
            digest.update(stream.read())
            return digest.digest()
        last = size - _BLOCK_BYTES
        for number in range(_NUM_BLOCKS):
            stream.seek(last * number // (_NUM_BLOCKS - 1))
            digest.update(stream.read(_BLOCK_BYTES))
    return digest.digest()

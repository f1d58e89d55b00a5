"""``activity.csv`` and ``effort.csv``: when each species was heard, and how long anybody listened.

A listening knows but the species detected in it, so several (the parts of one, or deployments heard
one by one) add up so: ``detections`` and ``seconds`` of ``activity.csv`` over all of them, by
species, date and hour; ``recorded_seconds`` of ``effort.csv`` over all of them, by date and hour.
Where there is effort and no activity is a true zero.

Time counts once: what several recordings of a deployment cover is added up as one, detections that
lie in each other there are one, and copies of a recording count for nothing. (Recordings that
overlap and are shared out to several parts count in each.)
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from birdmix.audio.clock import later
from birdmix.inference.csv_files import decimal, table
from birdmix.inference.detections import Detection, HeardRecording
from birdmix.inference.overlaps import Overlap, elapsed
from birdmix.labels import Labels

ACTIVITY_COLUMNS = (
    *("species", "common_name", "date", "hour"),
    *("detections", "seconds", "recorded_seconds"),
)

EFFORT_COLUMNS = ("date", "hour", "deployment", "recorded_seconds")

#: A date, and an hour of it: both of a night's two hours from 2 to 3 where clocks are put back.
Hour = tuple[str, int]


def write_activity(file: Path, recordings: Iterable[HeardRecording], labels: Labels) -> int:
    """Write a row for each species that was detected x each hour that was recorded.

    Detections count in the hour they start in; seconds of detections and of recordings are split
    where hours change, and those of recordings add up over all places. So a zero is a true one:
    somebody listened, and the species was not called. Beside it stands ``effort.csv``, with the
    seconds recorded at each place.

    Returns:
        Number of recordings left out, since nobody knows when they began.
    """
    effort: dict[tuple[Hour, str], float] = defaultdict(float)
    species: dict[int, _Activity] = defaultdict(_Activity)
    waiting: dict[Overlap, list[_Recorded]] = defaultdict(list)
    num_undated = 0
    for each in recordings:
        if each.began is None:
            num_undated += 1
        elif not each.copy_of:
            what = _Recorded(each.began, each.seconds, each.detections)
            if each.overlap is None:
                _count([what], each.deployment, effort, species)
                continue
            together = waiting[each.overlap]
            together.append(what)
            if len(together) == len(each.overlap.partner):
                _count(waiting.pop(each.overlap), each.deployment, effort, species)
    recorded: dict[Hour, float] = defaultdict(float)
    with table(file.with_name("effort.csv"), EFFORT_COLUMNS) as writer:
        for (hour, deployment), seconds in sorted(effort.items()):
            writer.writerow([*hour, deployment, decimal(seconds)])
            recorded[hour] += seconds
    with table(file, ACTIVITY_COLUMNS) as writer:
        for column, activity in sorted(species.items()):
            name = (labels.codes[column], labels.names[column])
            for hour, seconds in sorted(recorded.items()):
                heard = (activity.detections[hour], decimal(activity.seconds[hour]))
                writer.writerow([*name, *hour, *heard, decimal(seconds)])
    return num_undated


@dataclass
class _Activity:
    """Of a species, by the hour."""

    detections: dict[Hour, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[Hour, float] = field(default_factory=lambda: defaultdict(float))


class _Recorded(NamedTuple):
    """What counts of a recording."""

    began: datetime
    seconds: float
    detections: tuple[Detection, ...]


def _count(
    recordings: list[_Recorded],
    deployment: str,
    effort: dict[tuple[Hour, str], float],
    species: dict[int, _Activity],
) -> None:
    """Add up recordings that overlap each other, or one; the padding of a last window is no sound.

    Seconds below are counted from the beginning of the first recording.
    """
    any_moment = recordings[0].began
    recordings = sorted(recordings, key=lambda each: elapsed(any_moment, each.began))
    first = recordings[0].began
    covered = 0.0
    found: list[tuple[float, float, int, float, _Clock]] = []
    for began, seconds, detections in recordings:
        offset, clock = elapsed(first, began), _Clock(began, seconds)
        for hour, some in clock.split(max(covered - offset, 0.0), seconds):
            effort[hour, deployment] += some
        covered = max(covered, offset + seconds)
        for start, end, column, *_ in detections:
            found.append((offset + start, offset + min(end, seconds), column, offset, clock))
    found.sort(key=lambda each: each[0])
    heard_until: dict[int, float] = defaultdict(lambda: -math.inf)
    for start, end, column, offset, clock in found:
        activity, until = species[column], heard_until[column]
        if start >= until:
            activity.detections[clock.hour(start - offset)] += 1
        for hour, some in clock.split(max(start, until) - offset, end - offset):
            activity.seconds[hour] += some
        heard_until[column] = max(until, end)


class _Clock:
    """The hours of a recording."""

    def __init__(self, began: datetime, seconds: float) -> None:
        self.starts, self.hours = zip(*_hours(began, seconds), strict=True)
        self.ends = (*self.starts[1:], seconds)

    def hour(self, seconds: float) -> Hour:
        """Return the hour so many seconds into the recording."""
        return self.hours[bisect_right(self.starts, seconds) - 1]

    def split(self, start: float, end: float) -> Iterator[tuple[Hour, float]]:
        """Yield the hours of a part of the recording, each with its seconds."""
        at = bisect_right(self.starts, start) - 1
        while at < len(self.starts) and self.starts[at] < end:
            inside = min(end, self.ends[at]) - max(start, self.starts[at])
            if inside > 0:
                yield self.hours[at], inside
            at += 1


def _hours(began: datetime, seconds: float) -> Iterator[tuple[float, Hour]]:
    """Yield where the hours of a recording start in it, in seconds: the first at 0."""
    at = 0.0
    while at == 0 or at < seconds:
        moment = later(began, at)
        yield at, (moment.date().isoformat(), moment.hour)
        at += 3600 - (60 * moment.minute + moment.second + moment.microsecond / 1e6)

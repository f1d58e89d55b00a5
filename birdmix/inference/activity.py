"""``activity.csv`` and ``effort.csv``: when each species was heard, and how long anybody listened.

A listening knows but the species detected in it, so several (the parts of one, or deployments heard
one by one) add up so: ``detections`` and ``seconds`` of ``activity.csv`` over all of them, by
species, date and hour; ``recorded_seconds`` of ``effort.csv`` over all of them, by date and hour.
Where there is effort and no activity is a true zero.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from birdmix.audio.clock import later
from birdmix.inference.csv_files import decimal, table
from birdmix.inference.detections import HeardRecording
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
    num_undated = 0
    for each in recordings:
        if each.began is None:
            num_undated += 1
        else:
            _count(each, each.began, effort, species)
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


def _count(
    recording: HeardRecording,
    began: datetime,
    effort: dict[tuple[Hour, str], float],
    species: dict[int, _Activity],
) -> None:
    """Add up a recording; the padding of its last window is no sound."""
    starts, hours = zip(*_hours(began, recording.seconds), strict=True)
    ends = (*starts[1:], recording.seconds)
    for start, end, hour in zip(starts, ends, hours, strict=True):
        effort[hour, recording.deployment] += end - start
    for start, end, column, *_ in recording.detections:
        activity = species[column]
        at = bisect_right(starts, start) - 1
        activity.detections[hours[at]] += 1
        while at < len(starts) and starts[at] < end:
            inside = min(end, ends[at]) - max(start, starts[at])
            activity.seconds[hours[at]] += max(inside, 0.0)
            at += 1


def _hours(began: datetime, seconds: float) -> Iterator[tuple[float, Hour]]:
    """Yield where the hours of a recording start in it, in seconds: the first at 0."""
    at = 0.0
    while at == 0 or at < seconds:
        moment = later(began, at)
        yield at, (moment.date().isoformat(), moment.hour)
        at += 3600 - (60 * moment.minute + moment.second + moment.microsecond / 1e6)

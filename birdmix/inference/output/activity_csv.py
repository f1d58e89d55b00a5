"""``activity.csv`` and ``effort.csv``: hourly detections of each species, and hours recorded.

Predictions of several folders, or parts of one, add up: ``detections`` and ``seconds`` of
``activity.csv`` over all tables, by species, date and hour; ``recorded_seconds`` of ``effort.csv``
over all tables, by date and hour. An hour with effort and without activity is a true zero. A table
contains only the species detected in it.

Time counts once: where several recordings of a deployment overlap, their time is counted once and
their coinciding detections are merged, and copies of recordings are ignored. (Overlapping
recordings in different parts of one prediction count in each part.)
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from birdmix.audio.start_time import add_elapsed_seconds
from birdmix.inference.detections import Detection
from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import Write, format_decimal, open_partial_csv
from birdmix.inference.overlaps import OverlapGroup, seconds_between_datetimes

ACTIVITY_COLUMNS = (
    *("species", "common_name", "date", "hour"),
    *("detections", "seconds", "recorded_seconds"),
)

EFFORT_COLUMNS = ("date", "hour", "deployment", "recorded_seconds")

#: Date and hour. When clocks are put back, the two hours from 2 to 3 of that night are one.
Hour = tuple[str, int]


@contextmanager
def open_activity(file: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``activity.csv``: a row for each detected species x each recorded hour.

    Detections count in the hour they start in; seconds of detections and of recordings are split at
    full hours, and those of recordings are summed over all deployments. So a zero is a true one:
    the hour was recorded, and the species was not detected. Recordings whose datetime is unknown
    are left out.
    """
    hours = _Hours()
    yield hours.add
    recorded: dict[Hour, float] = defaultdict(float)
    for (hour, _), seconds in sorted(hours.effort.items()):
        recorded[hour] += seconds
    effort = [(hour, format_decimal(seconds)) for hour, seconds in sorted(recorded.items())]
    with open_partial_csv(file, ACTIVITY_COLUMNS) as writer:
        for column, activity in sorted(hours.species.items()):
            name = (info.labels.codes[column], info.labels.names[column])
            for hour, recorded_seconds in effort:
                # Not by index, which would keep a zero for each species and hour.
                active_seconds = format_decimal(activity.seconds.get(hour, 0.0))
                counts = (activity.detections.get(hour, 0), active_seconds)
                writer.writerow([*name, *hour, *counts, recorded_seconds])


@contextmanager
def open_effort(file: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``effort.csv``: the seconds recorded in each hour and deployment."""
    hours = _Hours()
    yield hours.add
    with open_partial_csv(file, EFFORT_COLUMNS) as writer:
        for (hour, deployment), seconds in sorted(hours.effort.items()):
            writer.writerow([*hour, deployment, format_decimal(seconds)])


@dataclass
class _Activity:
    """Detections of a species and their seconds, by hour."""

    detections: dict[Hour, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[Hour, float] = field(default_factory=lambda: defaultdict(float))


class _DatedRecording(NamedTuple):
    """Start time of a recording, its length in seconds, and its detections."""

    recorded_at: datetime
    seconds: float
    detections: tuple[Detection, ...]


class _Hours:
    """Effort and activity of recordings, by hour.

    Attributes:
        effort: Seconds recorded in each hour and deployment.
        species: Activity of each detected species, by its column.
    """

    def __init__(self) -> None:
        self.effort: dict[tuple[Hour, str], float] = defaultdict(float)
        self.species: dict[int, _Activity] = defaultdict(_Activity)
        self._incomplete: dict[OverlapGroup, list[_DatedRecording]] = defaultdict(list)

    def add(self, result: RecordingResult) -> None:
        """Add a recording; those that overlap are counted together, when the last one is added."""
        if result.recorded_at is None or result.copy_of:
            return
        seconds, overlap = result.predictions.seconds, result.overlap
        recording = _DatedRecording(result.recorded_at, seconds, result.detections)
        if overlap is None:
            self._count([recording], result.deployment)
            return
        self._incomplete[overlap].append(recording)
        if len(self._incomplete[overlap]) == len(overlap.partner):
            self._count(self._incomplete.pop(overlap), result.deployment)

    def _count(self, recordings: list[_DatedRecording], deployment: str) -> None:
        """Count one recording, or recordings that overlap each other.

        The padding of a last window does not count. Seconds below are counted from the beginning of
        the first recording.
        """
        reference = recordings[0].recorded_at
        recordings = sorted(
            recordings, key=lambda each: seconds_between_datetimes(reference, each.recorded_at)
        )
        first = recordings[0].recorded_at
        covered = 0.0
        spans: list[tuple[float, float, int, float, _RecordingHours]] = []
        for recorded_at, seconds, detections in recordings:
            offset, hours = (
                seconds_between_datetimes(first, recorded_at),
                _RecordingHours(recorded_at, seconds),
            )
            for hour, part in hours.split(max(covered - offset, 0.0), seconds):
                self.effort[hour, deployment] += part
            covered = max(covered, offset + seconds)
            for start, end, column, *_ in detections:
                spans.append((offset + start, offset + min(end, seconds), column, offset, hours))
        spans.sort(key=lambda span: span[0])
        counted_until: dict[int, float] = defaultdict(lambda: -math.inf)
        for start, end, column, offset, hours in spans:
            activity, until = self.species[column], counted_until[column]
            if start >= until:
                activity.detections[hours.hour(start - offset)] += 1
            for hour, part in hours.split(max(start, until) - offset, end - offset):
                activity.seconds[hour] += part
            counted_until[column] = max(until, end)


class _RecordingHours:
    """The hours of a recording.

    Args:
        recorded_at: Its start time.
        seconds: Its length.
    """

    def __init__(self, recorded_at: datetime, seconds: float) -> None:
        self.starts, self.hours = zip(*_split_into_hours(recorded_at, seconds), strict=True)
        self.ends = (*self.starts[1:], seconds)

    def hour(self, seconds: float) -> Hour:
        """Return the hour at some seconds into the recording."""
        return self.hours[bisect_right(self.starts, seconds) - 1]

    def split(self, start: float, end: float) -> Iterator[tuple[Hour, float]]:
        """Yield the hours of a span of the recording, each with its seconds."""
        at = bisect_right(self.starts, start) - 1
        while at < len(self.starts) and self.starts[at] < end:
            inside = min(end, self.ends[at]) - max(start, self.starts[at])
            if inside > 0:
                yield self.hours[at], inside
            at += 1


def _split_into_hours(recorded_at: datetime, seconds: float) -> Iterator[tuple[float, Hour]]:
    """Yield the hours of a recording and where they start in it, in seconds: the first at 0."""
    at = 0.0
    while at == 0 or at < seconds:
        moment = add_elapsed_seconds(recorded_at, at)
        yield at, (moment.date().isoformat(), moment.hour)
        at += 3600 - (60 * moment.minute + moment.second + moment.microsecond / 1e6)

"""When a recording began: what recorders write into files and their names, and in which zone.

Sources of the formats: AudioMoth's comment and its names, the firmware of Open Acoustic Devices;
GUANO, the specification of riggsd/guano-py; ``bext``, EBU Tech 3285; Song Meter, Frontier Labs and
BirdCLEF by their names.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import timezone as fixed_zone
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from birdmix.audio.riff import words_of
from birdmix.audio.sound_file import AudioError, open_sound
from birdmix.suggest import did_you_mean

_STAMP = re.compile(
    r"(?<!\d)((?:19|20)\d\d)(\d\d)(\d\d)"
    r"(?:[T_-]?(\d\d)(\d\d)(\d\d)(?:(?:\.\d+)?(Z|\+\d\d(?::?\d\d)?|-\d\d:?\d\d))?)?(?!\d)"
)
_AUDIOMOTH = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.\d+)? (\d\d)/(\d\d)/(\d{4})"
    r"(?: \(UTC([+-]\d+(?:: ?\d+)?)?\))?"
)
_GUANO = re.compile(r"^\s*Timestamp\s*:(.*)$", re.MULTILINE)
_BEXT = re.compile(rb"(\d{4})\D(\d\d)\D(\d\d)(\d\d)\D(\d\d)\D(\d\d)")
_BEXT_DATE = 320  # after description, originator and its reference

_OFFSET = re.compile(r"(?:UTC)?([+-])(\d\d?)(?::? ?([0-5]?\d))?")
_HEXADECIMAL = re.compile(r"(?=.*[A-F])([0-9A-F]{8})\.(?i:wav)")
_HEXADECIMAL_YEARS = range(2016, 2031)

#: No two zones lie further apart.
_ZONES_APART = timedelta(hours=26)


class Stamp(NamedTuple):
    """A date in a file's name.

    Attributes:
        moment: Midnight where there is no time of day.
        timed: Whether there is one.
    """

    moment: datetime
    timed: bool


def stamps(name: str) -> Iterator[Stamp]:
    """Yield the dates in a file's name: ``..._20160625_213143.wav``, ``20200504T053000+1000``."""
    for match in _STAMP.finditer(name):
        *digits, zone = match.groups()
        with suppress(ValueError):  # digits that are no date
            moment = datetime(*(int(part or 0) for part in digits))  # type: ignore[arg-type]
            yield Stamp(moment.replace(tzinfo=_offset(zone)), digits[-1] is not None)


def recorded_at(file: Path) -> datetime | None:
    """Return when a recording began, with an offset from UTC if its clock states one.

    What the recorder wrote into the file (AudioMoth's comment, GUANO) comes before the name: it
    has the offset. Where the two lie more than a day apart the name holds: somebody has corrected
    it. ``bext`` comes last, since programs date what they export. A date without a time of day is
    no beginning.
    """
    words = _words(file)
    named = _named(file)
    told = _possible(_of_audiomoth(words.get("ICMT", b"")) or _of_guano(words.get("guan", b"")))
    if told is not None and (not named or any(_near(told, each) for each in named)):
        return told
    return named[0] if named else _possible(_of_bext(words.get("bext", b"")))


def later(moment: datetime, seconds: float) -> datetime:
    """Return the moment so many seconds later, in the same zone, whatever its clocks do."""
    if moment.tzinfo is None:
        return moment + timedelta(seconds=seconds)
    return (moment.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(moment.tzinfo)


class Clock:
    """Tells in a zone when recordings began.

    Args:
        timezone: What datetimes are written in, ``Europe/Berlin`` or ``UTC+2``; None leaves them
            as the clocks have them.
        clock_timezone: Where recorders' clocks ran that state no zone; None is ``timezone``.

    Raises:
        ValueError: If there is no such zone.
    """

    def __init__(self, timezone: str | None = None, clock_timezone: str | None = None) -> None:
        self.zone = _zone("--timezone", timezone)
        self.clock_zone = _zone("--clock-timezone", clock_timezone) or self.zone

    def zoned(self, moment: datetime) -> datetime:
        """Return what a clock says in the zone; an hour that clocks skip is the one after."""
        if moment.tzinfo is None and self.clock_zone is not None:
            moment = later(moment.replace(tzinfo=self.clock_zone), 0)
        if moment.tzinfo is not None and self.zone is not None:
            moment = moment.astimezone(self.zone)
        return moment


def _zone(flag: str, name: str | None) -> tzinfo | None:
    if name is None:
        return None
    zone = _offset(name)
    if zone is not None:
        return zone
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        names = available_timezones()
    if not names:
        raise ValueError(f"{flag}={name!r}: no time zones are known here; pip install tzdata")
    near = did_you_mean(name, sorted(names), lister="the IANA time zone database")
    raise ValueError(f"{flag}={name!r} is no time zone like Europe/Berlin or UTC+2{near}")


def _offset(text: str | None) -> tzinfo | None:
    """Read ``Z``, ``UTC``, ``UTC+2``, ``-3:30`` and ``+1000``; None if it is no offset."""
    if text in ("Z", "UTC"):
        return UTC
    match = _OFFSET.fullmatch(text or "")
    if match is None:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    if offset > timedelta(hours=14) or offset % timedelta(minutes=15):
        return None  # no clock runs so
    return fixed_zone(-offset if match[1] == "-" else offset)


def _words(file: Path) -> dict[str, bytes]:
    """Return the words in a WAV, or the comment of a FLAC or Ogg in the place of its own."""
    try:
        with file.open("rb") as stream:
            kind = stream.read(4)
        if kind not in (b"fLaC", b"OggS"):
            return words_of(file)
        with open_sound(file) as sound:
            return {"ICMT": sound.comment.encode()}
    except (OSError, AudioError):
        return {}  # whoever wants to hear it is told


def _named(file: Path) -> list[datetime]:
    """Return the moments in a name, or that which early AudioMoths wrote: ``5B07FAC0.WAV``."""
    if match := _HEXADECIMAL.fullmatch(file.name):
        moment = datetime.fromtimestamp(int(match[1], 16), UTC)
        return [moment] if moment.year in _HEXADECIMAL_YEARS else []
    return [moment for moment, timed in stamps(file.name) if timed]


def _possible(moment: datetime | None) -> datetime | None:
    """Refuse what damaged headers tell; names have their years in their pattern."""
    return moment if moment is not None and 1900 <= moment.year < 2100 else None


def _near(one: datetime, other: datetime) -> bool:
    return abs(one.replace(tzinfo=None) - other.replace(tzinfo=None)) <= _ZONES_APART


def _of_audiomoth(comment: bytes) -> datetime | None:
    """Read AudioMoth's comment; before it told of zones it ran on UTC."""
    match = _AUDIOMOTH.search(comment.decode("utf-8", "replace"))
    if match is None:
        return None
    hour, minute, second, day, month, year = map(int, match.groups()[:6])
    with suppress(ValueError):  # digits that are no date
        zone = _offset(match[7]) or UTC
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    return None


def _of_guano(text: bytes) -> datetime | None:
    match = _GUANO.search(text.decode("utf-8", "replace"))
    if match is None or ":" not in match[1]:
        return None
    with suppress(ValueError):
        return datetime.fromisoformat(match[1].strip(" \0\r\t"))
    return None


def _of_bext(text: bytes) -> datetime | None:
    match = _BEXT.match(text, _BEXT_DATE)
    with suppress(ValueError):
        return datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]
    return None

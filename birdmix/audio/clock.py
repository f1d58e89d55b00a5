"""When a recording began: what recorders write into files and their names, and in which zone.

Sources of the formats: AudioMoth's comment and its names, the firmware of Open Acoustic Devices;
GUANO, the specification of riggsd/guano-py; ``bext``, EBU Tech 3285; ``wamd``, Wildlife Acoustics'
wa_meta 1.0, as riggsd/guano-py reads it; Song Meter, Frontier Labs and BirdCLEF by their names
(ecoacoustics known problems, QutEcoacoustics/emu).
"""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from birdmix.audio.riff import words_of
from birdmix.audio.sound_file import AudioError, open_sound
from birdmix.audio.zones import offset_of, zone_named

# 20240501, 2024-05-01, and Frontier Labs' 202405 1T, whose day has lost its zero.
_DATE = r"((?:19|20)\d\d)(?:(\d\d)(\d\d| \d(?=T\d{6}))|-(\d\d)-(\d\d))"
# 053000 and 05-30-00, then perhaps milliseconds.
_TIME = r"(\d\d)(?:(\d\d)(\d\d)|[-:.](\d\d)[-:.](\d\d))(?:\.\d+|\d{3})?"
_ZONE = r"(Z|\+\d\d(?::?\d\d)?|-\d\d:?\d\d)"
_STAMP = re.compile(rf"(?<!\d){_DATE}(?:[T_$ -]?{_TIME}{_ZONE}?)?(?!\d)")

_AUDIOMOTH = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.\d+)? (\d\d)/(\d\d)/(\d{4})"
    r"(?: \(UTC([+-]\d+(?:: ?\d+)?)?\))?"
)
_GUANO = re.compile(r"^\s*Timestamp\s*:(.*)$", re.MULTILINE)
_BEXT = re.compile(rb"(\d{4})\D(\d\d)\D(\d\d)(\d\d)\D(\d\d)\D(\d\d)")
_BEXT_DATE = 320  # after description, originator and its reference
_WAMD_TIMESTAMP = 5

_HEXADECIMAL = re.compile(r"(?=\d*[A-F])([0-9A-F]{8})\.(?i:wav)")
_HEXADECIMAL_YEARS = range(2016, 2031)

#: No two zones lie further apart.
_ZONES_APART = timedelta(hours=26)

# A clock that nobody set counts from the beginning of Unix time, in its own zone, for as long as
# the batteries last.
_UNSET_FROM, _UNSET_UNTIL = datetime(1969, 12, 31), datetime(1970, 2, 1)


class Stamp(NamedTuple):
    """A date in a file's name.

    Attributes:
        moment: Midnight where there is no time of day.
        timed: Whether there is one.
    """

    moment: datetime
    timed: bool


class ClockReading(NamedTuple):
    """When a recording began, as far as its clock can be believed.

    Attributes:
        moment: With an offset from UTC if the clock states one; None if nothing tells.
        problem: Why what the clock says does not count; empty if it does.
    """

    moment: datetime | None
    problem: str = ""


def stamps(name: str) -> list[Stamp]:
    """Return the dates in a file's name, those with a time of day first.

    ``..._20160625_213143.wav``, ``20200504T053000+1000``, ``20181219$100000``; and the only one of
    early AudioMoths, ``5B07FAC0.WAV``.
    """
    if match := _HEXADECIMAL.fullmatch(name):
        moment = datetime.fromtimestamp(int(match[1], 16), UTC)
        return [Stamp(moment, True)] if moment.year in _HEXADECIMAL_YEARS else []
    return sorted(_stamps(name), key=lambda stamp: not stamp.timed)


def _stamps(name: str) -> Iterator[Stamp]:
    for match in _STAMP.finditer(name):
        *digits, zone = match.groups()
        timed = digits[5] is not None
        with suppress(ValueError):  # digits that are no date
            parts = [int(part) for part in digits if part is not None]
            moment = datetime(*parts)  # type: ignore[arg-type]
            yield Stamp(moment.replace(tzinfo=offset_of(zone)), timed)


def recorded_at(file: Path) -> datetime | None:
    """Return when a recording began, with an offset from UTC if its clock states one."""
    return read_clock(file).moment


def read_clock(file: Path) -> ClockReading:
    """Find out when a recording began.

    What the recorder wrote into the file (AudioMoth's comment, GUANO, ``wamd``) comes before the
    name: it has the offset. Where the two lie more than a day apart the name holds: somebody has
    corrected it. ``bext`` comes last, since programs date what they export. A date without a time
    of day is no beginning, and a clock that was never set tells nothing.
    """
    texts = _texts(file)
    written = [
        _of_audiomoth(texts.get("ICMT", b"")),
        _of_guano(texts.get("guan", b"")),
        _of_wamd(texts.get("wamd", b"")),
    ]
    stamped = [stamp.moment for stamp in stamps(file.name) if stamp.timed]
    exported = [_of_bext(texts.get("bext", b""))]
    stated, named = _believable(written), _believable(stamped)
    if stated and (not named or any(_near(stated[0], each) for each in named)):
        return ClockReading(stated[0])
    if moments := [*named, *_believable(exported)]:
        return ClockReading(moments[0])
    unset = [m for m in (*written, *stamped, *exported) if m is not None and is_unset(m)]
    return ClockReading(None, f"the clock was not set: {unset[0].isoformat()}" if unset else "")


def is_unset(moment: datetime) -> bool:
    """Tell whether this is the date of a clock that nobody set: January 1970."""
    return _UNSET_FROM <= moment.replace(tzinfo=None) < _UNSET_UNTIL


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
        zones = {"--timezone": timezone, "--clock-timezone": clock_timezone}
        self.zone, other = (None if n is None else zone_named(f, n) for f, n in zones.items())
        self.clock_zone = other or self.zone

    def zoned(self, moment: datetime) -> datetime:
        """Return what a clock says in the zone; an hour that clocks skip is the one after."""
        if moment.tzinfo is None and self.clock_zone is not None:
            moment = later(moment.replace(tzinfo=self.clock_zone), 0)
        if moment.tzinfo is not None and self.zone is not None:
            moment = moment.astimezone(self.zone)
        return moment


def _texts(file: Path) -> dict[str, bytes]:
    """Return the chunks of text in a WAV; of a FLAC or Ogg its comment, as ``ICMT``."""
    try:
        with file.open("rb") as stream:
            kind = stream.read(4)
        if kind not in (b"fLaC", b"OggS"):
            return words_of(file)
        with open_sound(file) as sound:
            return {"ICMT": sound.comment.encode()}
    except (OSError, AudioError):
        return {}  # whoever wants to hear it is told


def _believable(moments: Iterable[datetime | None]) -> list[datetime]:
    """Leave out what damaged headers say, and clocks that were never set."""
    dates = (moment for moment in moments if moment is not None)
    return [date for date in dates if 1900 <= date.year < 2100 and not is_unset(date)]


def _near(one: datetime, other: datetime) -> bool:
    return abs(one.replace(tzinfo=None) - other.replace(tzinfo=None)) <= _ZONES_APART


def _of_audiomoth(comment: bytes) -> datetime | None:
    """Read AudioMoth's comment; before it told of zones it ran on UTC."""
    match = _AUDIOMOTH.search(comment.decode("utf-8", "replace"))
    if match is None:
        return None
    hour, minute, second, day, month, year = map(int, match.groups()[:6])
    with suppress(ValueError):  # digits that are no date
        zone = offset_of(match[7]) or UTC
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    return None


def _of_guano(text: bytes) -> datetime | None:
    match = _GUANO.search(text.decode("utf-8", "replace"))
    return _of_iso(match[1]) if match else None


def _of_wamd(body: bytes) -> datetime | None:
    """Read ``2014-04-02 22:59:14-05:00`` from entries of number (2 bytes), size (4) and value."""
    at = 0
    while at + 6 <= len(body):
        number, size = struct.unpack_from("<HI", body, at)
        at += 6
        if number == _WAMD_TIMESTAMP and at + size <= len(body):
            return _of_iso(body[at : at + size].decode("utf-8", "replace"))
        at += size
    return None


def _of_iso(text: str) -> datetime | None:
    """Read an ISO 8601 date with a time of day."""
    if ":" not in text:
        return None
    with suppress(ValueError):
        return datetime.fromisoformat(text.strip(" \0\r\t"))
    return None


def _of_bext(text: bytes) -> datetime | None:
    match = _BEXT.match(text, _BEXT_DATE)
    with suppress(ValueError):
        return datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]
    return None

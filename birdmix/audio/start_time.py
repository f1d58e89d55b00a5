"""Start time of a recording: read from metadata and file names, converted between time zones.

Sources of the formats: AudioMoth's comment and file names, the firmware of Open Acoustic Devices;
GUANO, the specification of riggsd/guano-py; ``bext``, EBU Tech 3285; ``wamd``, Wildlife Acoustics'
wa_meta 1.0, as riggsd/guano-py reads it; file names of Song Meter, Frontier Labs and BirdCLEF
(ecoacoustics known problems, QutEcoacoustics/emu).
"""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from birdmix.audio.audio_file import AudioError, open_audio
from birdmix.audio.time_zones import parse_time_zone, parse_utc_offset
from birdmix.audio.wav_metadata_chunks import read_metadata_chunks

# 20240501, 2024-05-01, and Frontier Labs' 202405 1T, whose day has no leading zero.
_DATE = r"((?:19|20)\d\d)(?:(\d\d)(\d\d| \d(?=T\d{6}))|-(\d\d)-(\d\d))"
# 053000 and 05-30-00, with optional milliseconds.
_TIME = r"(\d\d)(?:(\d\d)(\d\d)|[-:.](\d\d)[-:.](\d\d))(?:\.\d+|\d{3})?"
_ZONE = r"(Z|\+\d\d(?::?\d\d)?|-\d\d:?\d\d)"
_DATE_TIME = re.compile(rf"(?<!\d){_DATE}(?:[T_$ -]?{_TIME}{_ZONE}?)?(?!\d)")

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

#: Largest difference between the local times of any two zones.
_MAX_ZONE_DIFFERENCE = timedelta(hours=26)

# A clock that was never set starts at the Unix epoch, in its own zone, and runs for as long as the
# batteries last.
_UNSET_FROM, _UNSET_UNTIL = datetime(1969, 12, 31), datetime(1970, 2, 1)


class FileNameDate(NamedTuple):
    """A date in a file name.

    Attributes:
        moment: Date and time; midnight if the name has no time of day.
        has_time: Whether the name has a time of day.
    """

    moment: datetime
    has_time: bool


class StartTime(NamedTuple):
    """Start time of a recording.

    Attributes:
        moment: Start, with an offset from UTC if one is stated; None if unknown.
        problem: Why a stated time was rejected; empty if none was.
    """

    moment: datetime | None
    problem: str = ""


def parse_file_name_dates(name: str) -> list[FileNameDate]:
    """Return the dates in a file name, those with a time of day first.

    Formats: ``..._20160625_213143.wav``, ``20200504T053000+1000``, ``20181219$100000``, and the
    hexadecimal Unix time of early AudioMoths, ``5B07FAC0.WAV``.

    Args:
        name: File name without folders.
    """
    if match := _HEXADECIMAL.fullmatch(name):
        moment = datetime.fromtimestamp(int(match[1], 16), UTC)
        return [FileNameDate(moment, True)] if moment.year in _HEXADECIMAL_YEARS else []
    return sorted(_find_dates(name), key=lambda date: not date.has_time)


def _find_dates(name: str) -> Iterator[FileNameDate]:
    for match in _DATE_TIME.finditer(name):
        *digits, zone = match.groups()
        has_time = digits[5] is not None
        with suppress(ValueError):  # digits that are not a date
            parts = [int(part) for part in digits if part is not None]
            moment = datetime(*parts)  # type: ignore[arg-type]
            yield FileNameDate(moment.replace(tzinfo=parse_utc_offset(zone)), has_time)


def read_start_datetime(file: Path) -> datetime | None:
    """Return the start time of a recording, with an offset from UTC if one is stated.

    Args:
        file: Recording; see ``read_start_time``.

    Returns:
        Time of the first sample; None if unknown.
    """
    return read_start_time(file).moment


def read_start_time(file: Path) -> StartTime:
    """Read the start time of a recording from its metadata and its file name.

    Metadata of the recorder (AudioMoth's comment, GUANO, ``wamd``) takes precedence over the file
    name, because it states the offset from UTC. If the two differ by more than any two time zones
    (26 hours), the name is used: users correct a wrong clock there. ``bext`` comes last, since
    programs write the date of an export into it. A date without a time of day is not used, nor is
    the time of a clock that was never set.

    Args:
        file: Recording; if it cannot be read, its name is used alone.
    """
    texts = _read_metadata(file)
    from_metadata = [
        _parse_audiomoth(texts.get("ICMT", b"")),
        _parse_guano(texts.get("guan", b"")),
        _parse_wamd(texts.get("wamd", b"")),
    ]
    from_name = [date.moment for date in parse_file_name_dates(file.name) if date.has_time]
    from_bext = [_parse_bext(texts.get("bext", b""))]
    metadata_times, name_times = _remove_implausible(from_metadata), _remove_implausible(from_name)
    if metadata_times and (
        not name_times
        or any(_differ_by_zone_at_most(metadata_times[0], moment) for moment in name_times)
    ):
        return StartTime(metadata_times[0])
    if moments := [*name_times, *_remove_implausible(from_bext)]:
        return StartTime(moments[0])
    candidates = [*from_metadata, *from_name, *from_bext]
    unset = [moment for moment in candidates if moment is not None and is_unset_clock(moment)]
    return StartTime(None, f"the clock was not set: {unset[0].isoformat()}" if unset else "")


def is_unset_clock(moment: datetime) -> bool:
    """Return whether a time is from a clock that was never set: January 1970."""
    return _UNSET_FROM <= moment.replace(tzinfo=None) < _UNSET_UNTIL


def add_elapsed_seconds(moment: datetime, seconds: float) -> datetime:
    """Add elapsed seconds to a time, correctly across changes of daylight saving time.

    Args:
        moment: Time, with or without a zone.
        seconds: Elapsed time to add, in seconds.

    Returns:
        Time in the same zone.
    """
    if moment.tzinfo is None:
        return moment + timedelta(seconds=seconds)
    return (moment.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(moment.tzinfo)


class TimeZoneConverter:
    """Converts start times of recordings to the time zone of the output.

    Args:
        timezone: Zone of the output, ``Europe/Berlin`` or ``UTC+2``; None keeps that of each clock.
        clock_timezone: Zone of recorder clocks that state none; None is ``timezone``.

    Raises:
        ValueError: If a zone is unknown.
    """

    def __init__(self, timezone: str | None = None, clock_timezone: str | None = None) -> None:
        zones = {"--timezone": timezone, "--clock-timezone": clock_timezone}
        self.zone, clock_zone = (
            None if name is None else parse_time_zone(flag, name) for flag, name in zones.items()
        )
        self.clock_zone = clock_zone or self.zone

    def convert(self, moment: datetime) -> datetime:
        """Convert a start time to the output zone.

        A time in the hour that is skipped at the start of daylight saving time is moved one hour
        ahead.

        Args:
            moment: Start time, with an offset from UTC if the clock states one.

        Returns:
            Start time in the zone of the output; without an offset if no zone is known.
        """
        if moment.tzinfo is None and self.clock_zone is not None:
            moment = add_elapsed_seconds(moment.replace(tzinfo=self.clock_zone), 0)
        if moment.tzinfo is not None and self.zone is not None:
            moment = moment.astimezone(self.zone)
        return moment


def _read_metadata(file: Path) -> dict[str, bytes]:
    """Return the metadata chunks of a WAV file; of FLAC and OGG the comment, as ``ICMT``."""
    try:
        with file.open("rb") as stream:
            kind = stream.read(4)
        if kind not in (b"fLaC", b"OggS"):
            return read_metadata_chunks(file)
        with open_audio(file) as sound:
            return {"ICMT": sound.comment.encode()}
    except (OSError, AudioError):
        return {}  # decoding reports the error


def _remove_implausible(moments: Iterable[datetime | None]) -> list[datetime]:
    """Remove times from corrupt headers and from clocks that were never set."""
    dates = (moment for moment in moments if moment is not None)
    return [date for date in dates if 1900 <= date.year < 2100 and not is_unset_clock(date)]


def _differ_by_zone_at_most(first: datetime, second: datetime) -> bool:
    """Return whether two local times may be the same moment in different zones."""
    return abs(first.replace(tzinfo=None) - second.replace(tzinfo=None)) <= _MAX_ZONE_DIFFERENCE


def _parse_audiomoth(comment: bytes) -> datetime | None:
    """Parse AudioMoth's comment; firmware that does not write a zone runs on UTC."""
    match = _AUDIOMOTH.search(comment.decode("utf-8", "replace"))
    if match is None:
        return None
    hour, minute, second, day, month, year = map(int, match.groups()[:6])
    with suppress(ValueError):  # digits that are not a date
        zone = parse_utc_offset(match[7]) or UTC
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    return None


def _parse_guano(text: bytes) -> datetime | None:
    match = _GUANO.search(text.decode("utf-8", "replace"))
    return _parse_iso(match[1]) if match else None


def _parse_wamd(body: bytes) -> datetime | None:
    """Parse the timestamp of ``wamd``: entries of number (2 bytes), size (4 bytes) and value.

    The value is like ``2014-04-02 22:59:14-05:00``.
    """
    at = 0
    while at + 6 <= len(body):
        number, size = struct.unpack_from("<HI", body, at)
        at += 6
        if number == _WAMD_TIMESTAMP and at + size <= len(body):
            return _parse_iso(body[at : at + size].decode("utf-8", "replace"))
        at += size
    return None


def _parse_iso(text: str) -> datetime | None:
    """Parse an ISO 8601 date with a time of day."""
    if ":" not in text:
        return None
    with suppress(ValueError):
        return datetime.fromisoformat(text.strip(" \0\r\t"))
    return None


def _parse_bext(text: bytes) -> datetime | None:
    match = _BEXT.match(text, _BEXT_DATE)
    with suppress(ValueError):
        return datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]
    return None

"""Parse time zones given as offset or name, and suggest corrections of invalid ones."""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import timezone as fixed_zone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from birdmix.messages import did_you_mean, first_few

_OFFSET = re.compile(r"(?:UTC)?([+-])(\d\d?)(?::? ?([0-5]?\d))?")

# An offset in another notation: "GMT+10", "utc 10", "10:30".
_LOOSE_OFFSET = re.compile(r"\s*(?:UTC|GMT|Z)?\s*([+\-\u2212]?)\s*(\d\d?)(?::?([0-5]\d))?\s*", re.I)

_ABBREVIATION = re.compile(r"[A-Z]{2,5}")

# Regions whose places are listed for an abbreviation, by population.
_REGIONS = ("Europe/", "America/", "Asia/", "Australia/", "Africa/", "Pacific/")

# Times in winter and summer, to find both offsets of a zone.
_WINTER_AND_SUMMER = (datetime(2026, 1, 1), datetime(2026, 7, 1))


def parse_utc_offset(text: str | None) -> tzinfo | None:
    """Parse ``Z``, ``UTC``, ``UTC+2``, ``-3:30`` or ``+1000``; None for anything else."""
    if text in ("Z", "UTC"):
        return UTC
    match = _OFFSET.fullmatch(text or "")
    if match is None:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    if offset > timedelta(hours=14) or offset % timedelta(minutes=15):
        return None  # no zone has such an offset
    return fixed_zone(-offset if match[1] == "-" else offset)


def parse_time_zone(flag: str, name: str) -> tzinfo:
    """Return the zone of an offset (``UTC+2``) or a name of the IANA time zone database.

    Args:
        flag: Name of the option, for the error message.
        name: Offset or name.

    Raises:
        ValueError: If the zone is unknown; a zone with another offset is never suggested.
    """
    zone = parse_utc_offset(name)
    if zone is not None:
        return zone
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        names = sorted(available_timezones())
    if not names:
        raise ValueError(f"{flag}={name!r}: no time zone database found; pip install tzdata")
    message = f"{flag}={name!r} is not a time zone like Europe/Berlin or UTC+2"
    raise ValueError(f"{message}{_suggestion(name, names)}")


def _suggestion(text: str, names: list[str]) -> str:
    """Return ``"; use UTC+10 ..."`` or ``"; did you mean 'Europe/Berlin'?"``."""
    places = [name for name in names if "/" in name and not name.startswith("Etc/")]
    wanted = text.strip().replace(" ", "_").casefold()
    same = [name for name in names if name.casefold() == wanted]
    same += [name for name in places if name.rpartition("/")[2].casefold() == wanted]
    if same:
        return f"; did you mean '{same[0]}'?"
    if match := _LOOSE_OFFSET.fullmatch(text):
        offset = _format_offset(match[1] or "+", int(match[2]), int(match[3] or 0))
        ahead = "behind" if "-" in offset else "ahead of"
        if parse_utc_offset(offset) is not None:
            return f"; use {offset} for a clock {ahead} UTC, or a place as REGION/CITY"
    if offsets := _offsets_of_abbreviation(text.strip().upper(), names):
        return f": {text} is {' or '.join(offsets)}; use one of them"
    if re.search(r"\d", text) or _ABBREVIATION.fullmatch(text):
        return "; use the offset from UTC, or a place as REGION/CITY"
    return did_you_mean(text, places, list_source="the IANA time zone database")


def _format_offset(sign: str, hours: int, minutes: int) -> str:
    sign = "-" if sign in "-\u2212" else "+"
    return f"UTC{sign}{hours}" + (f":{minutes:02d}" if minutes else "")


def _offsets_of_abbreviation(abbreviation: str, names: list[str]) -> list[str]:
    """Return the offsets that an abbreviation is used for, each with examples of places."""
    places: dict[timedelta, list[str]] = defaultdict(list)
    if not _ABBREVIATION.fullmatch(abbreviation):
        return []
    for name in sorted(filter(_region_rank, names), key=_region_rank):
        for offset in set(_offsets_in_zone(ZoneInfo(name), abbreviation)):
            places[offset].append(name)
    return [
        f"{_format_timedelta(offset)} ({first_few(examples, 2)})"
        for offset, examples in places.items()
    ]


def _region_rank(name: str) -> int:
    """Return the rank of a place's region, from 1; 0 if the zone is not in one of the regions."""
    return next((i for i, region in enumerate(_REGIONS, 1) if name.startswith(region)), 0)


def _offsets_in_zone(zone: ZoneInfo, abbreviation: str) -> Iterator[timedelta]:
    for moment in _WINTER_AND_SUMMER:
        offset = zone.utcoffset(moment)
        if zone.tzname(moment) == abbreviation and offset is not None:
            yield offset


def _format_timedelta(offset: timedelta) -> str:
    hours, minutes = divmod(int(abs(offset).total_seconds()) // 60, 60)
    return _format_offset("-" if offset < timedelta(0) else "+", hours, minutes)

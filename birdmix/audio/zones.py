"""Time zones by offset or by name, and what to write where a text is neither."""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import timezone as fixed_zone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from birdmix.suggest import did_you_mean, first_few

_OFFSET = re.compile(r"(?:UTC)?([+-])(\d\d?)(?::? ?([0-5]?\d))?")

# An offset in another form: "GMT+10", "utc 10", "10:30".
_LOOSE_OFFSET = re.compile(r"\s*(?:UTC|GMT|Z)?\s*([+\-\u2212]?)\s*(\d\d?)(?::?([0-5]\d))?\s*", re.I)

_ABBREVIATION = re.compile(r"[A-Z]{2,5}")

# Regions in which a place stands for an abbreviation, the ones with most people first.
_REGIONS = ("Europe/", "America/", "Asia/", "Australia/", "Africa/", "Pacific/")

# Moments of winter and summer, to see both offsets of a zone.
_HALF_YEARS = (datetime(2026, 1, 1), datetime(2026, 7, 1))


def offset_of(text: str | None) -> tzinfo | None:
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


def zone_named(flag: str, name: str) -> tzinfo:
    """Return the zone of an offset (``UTC+2``) or a name of the IANA time zone database.

    Raises:
        ValueError: If there is none; a zone of another offset is never suggested.
    """
    zone = offset_of(name)
    if zone is not None:
        return zone
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        names = sorted(available_timezones())
    if not names:
        raise ValueError(f"{flag}={name!r}: no time zones are known here; pip install tzdata")
    wrong = f"{flag}={name!r} is no time zone like Europe/Berlin or UTC+2"
    raise ValueError(f"{wrong}{_remedy(name, names)}")


def _remedy(text: str, names: list[str]) -> str:
    """Return ``"; write UTC+10 ..."`` or ``"; did you mean 'Europe/Berlin'?"``."""
    places = [name for name in names if "/" in name and not name.startswith("Etc/")]
    wanted = text.strip().replace(" ", "_").casefold()
    same = [name for name in names if name.casefold() == wanted]
    same += [name for name in places if name.rpartition("/")[2].casefold() == wanted]
    if same:
        return f"; did you mean '{same[0]}'?"
    if match := _LOOSE_OFFSET.fullmatch(text):
        written = _written(match[1] or "+", int(match[2]), int(match[3] or 0))
        ahead = "behind" if "-" in written else "ahead of"
        if offset_of(written) is not None:
            return f"; write {written} for a clock {ahead} UTC, or a place as REGION/CITY"
    if meanings := _meanings(text.strip().upper(), names):
        return f": {text} is {' or '.join(meanings)}; write one of them"
    if re.search(r"\d", text) or _ABBREVIATION.fullmatch(text):
        return "; write the offset from UTC, or a place as REGION/CITY"
    return did_you_mean(text, places, lister="the IANA time zone database")


def _written(sign: str, hours: int, minutes: int) -> str:
    sign = "-" if sign in "-\u2212" else "+"
    return f"UTC{sign}{hours}" + (f":{minutes:02d}" if minutes else "")


def _meanings(abbreviation: str, names: list[str]) -> list[str]:
    """Return the offsets that an abbreviation stands for somewhere, each with places."""
    places: dict[timedelta, list[str]] = defaultdict(list)
    if not _ABBREVIATION.fullmatch(abbreviation):
        return []
    for name in sorted(filter(_rank, names), key=_rank):
        for offset in set(_offsets(ZoneInfo(name), abbreviation)):
            places[offset].append(name)
    return [f"{_of(offset)} ({first_few(found, 2)})" for offset, found in places.items()]


def _rank(name: str) -> int:
    """Return the rank of a place's region, from 1; 0 for what is no place of a region."""
    return next((i for i, region in enumerate(_REGIONS, 1) if name.startswith(region)), 0)


def _offsets(zone: ZoneInfo, abbreviation: str) -> Iterator[timedelta]:
    for moment in _HALF_YEARS:
        offset = zone.utcoffset(moment)
        if zone.tzname(moment) == abbreviation and offset is not None:
            yield offset


def _of(offset: timedelta) -> str:
    hours, minutes = divmod(int(abs(offset).total_seconds()) // 60, 60)
    return _written("-" if offset < timedelta(0) else "+", hours, minutes)

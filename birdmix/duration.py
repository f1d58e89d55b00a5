"""Parsing of durations such as 90m, 8h30m or 00:08:30:00."""

import re

_UNITS = (86400, 3600, 60, 1)
_WORDS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d\d):(\d\d)")


def parse_duration(duration: str) -> int:
    """Return the seconds of a duration.

    Args:
        duration: Units in descending order (``90m``, ``8h30m``, ``1d2h``, ``45s``), or
            ``HH:MM:SS``, or Lightning's ``DD:HH:MM:SS``.

    Raises:
        ValueError: If it has another format, or is zero.
    """
    match = _WORDS.fullmatch(duration) or _CLOCK.fullmatch(duration)
    parts = [int(part or 0) for part in match.groups()] if match else []
    if not any(parts):
        raise ValueError(
            f"{duration!r} is not a duration above 0; write it like 90m, 8h30m or 00:08:30:00"
        )
    return sum(part * unit for part, unit in zip(parts, _UNITS, strict=True))

"""Durations as people type them."""

import re

_UNITS = (86400, 3600, 60, 1)
_WORDS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d\d):(\d\d)")


def seconds_of(duration: str) -> int:
    """Return the seconds of a duration.

    Args:
        duration: Units in falling order (``90m``, ``8h30m``, ``1d2h``, ``45s``), or a clock's
            ``HH:MM:SS`` and Lightning's ``DD:HH:MM:SS``.

    Raises:
        ValueError: If it is neither, or nothing at all.
    """
    match = _WORDS.fullmatch(duration) or _CLOCK.fullmatch(duration)
    parts = [int(part or 0) for part in match.groups()] if match else []
    if not any(parts):
        raise ValueError(f"{duration!r} is no duration; write it like 90m, 8h30m or 00:08:30:00")
    return sum(part * unit for part, unit in zip(parts, _UNITS, strict=True))

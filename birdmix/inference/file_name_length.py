"""Shortening of file names that are derived from longer ones to what file systems support."""

import os
from hashlib import sha256

#: Longest name that file systems support, in bytes.
MAX_NAME_BYTES = 255


def shorten_name(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return a name of at most ``max_bytes`` bytes.

    A longer name becomes a hash of it and its end, which is more specific than its beginning; so
    different names stay different.
    """
    encoded = os.fsencode(name)
    if len(encoded) <= max_bytes:
        return name
    prefix = sha256(encoded).hexdigest()[:8] + "_"
    return prefix + encoded[len(prefix) - max_bytes :].decode("utf-8", "ignore")

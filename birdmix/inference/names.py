"""Names of files that are made of the names of others."""

import os
from hashlib import sha256

#: Bytes in a name, the most that file systems take.
LONGEST = 255


def shortened(name: str, longest: int = LONGEST) -> str:
    """Return a name of so many bytes at most: of a longer one its end, and what tells it apart.

    The end of a name tells more than its beginning. A hash of the whole stands before it, so that
    different names stay different.
    """
    whole = os.fsencode(name)
    if len(whole) <= longest:
        return name
    mark = sha256(whole).hexdigest()[:8] + "_"
    return mark + whole[len(mark) - longest :].decode("utf-8", "ignore")

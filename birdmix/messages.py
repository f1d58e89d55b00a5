"""Parts of messages: suggested names, shortened lists, counts, lines of other errors."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from birdmix.text import nfc


def did_you_mean(wrong: str, right: Iterable[str], list_source: str | None = None) -> str:
    """Return ``"; did you mean 'x'?"`` or, if no name is similar, the valid names.

    Args:
        wrong: The invalid name.
        right: The valid names.
        list_source: A command that lists the valid names, where they are too many for a message.
    """
    names = list(right)
    by_nfc = {nfc(name): name for name in names}
    similar = difflib.get_close_matches(nfc(wrong), by_nfc, n=1, cutoff=0.6)
    if similar:
        return f"; did you mean '{by_nfc[similar[0]]}'?"
    if list_source is not None:
        return f"; {list_source} lists them"
    return f"; valid names: {first_few(names, 12) or 'none'}"


def first_few(names: Sequence[str], count: int = 3, full_list: str = "") -> str:
    """Return ``"a, b, c, ..."``: the first names, with dots if there are more.

    Args:
        names: The names.
        count: Most names to list.
        full_list: Where the full list can be found; added if there are more names.
    """
    if len(names) <= count:
        return ", ".join(names)
    return ", ".join(names[:count]) + ", ..." + (f" (all: {full_list})" if full_list else "")


def check_choice(key: str, value: str, right: Iterable[str]) -> None:
    """Refuse a setting that is not one of the valid names.

    Args:
        key: Key or option of the setting.
        value: Its value.
        right: The valid names.

    Raises:
        ValueError: With the key, the value and the most similar name.
    """
    names = list(right)
    if value not in names:
        raise ValueError(f"{key}={value!r} is unknown{did_you_mean(str(value), names)}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class if the message is empty."""
    return (str(error) or type(error).__name__).splitlines()[0]


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, which names the cause in tracebacks of runtimes.

    If the message is empty, it is the error's class.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


def training_command() -> str:
    """Return the command of training: ``python train.py`` in that script or ``birdmix train``."""
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "birdmix train"


def format_count(number: int, what: str) -> str:
    """Return ``"1 row"`` or ``"2,000 rows"``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"

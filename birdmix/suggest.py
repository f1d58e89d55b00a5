"""Words for errors: the nearest right name for a wrong one, the first line of a long story."""

import difflib
from collections.abc import Iterable, Sequence

from birdmix.text import nfc


def did_you_mean(wrong: str, right: Iterable[str], lister: str | None = None) -> str:
    """Return ``"; did you mean 'x'?"`` or, if nothing is near, what there is.

    Args:
        wrong: A name.
        right: The right names.
        lister: What lists them, where they are too many to name.
    """
    names = list(right)
    by_nfc = {nfc(name): name for name in names}
    near = difflib.get_close_matches(nfc(wrong), by_nfc, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{by_nfc[near[0]]}'?"
    if lister is not None:
        return f"; {lister} lists them"
    return f"; there is: {first_few(names, 12) or 'nothing to choose from'}"


def first_few(names: Sequence[str], count: int = 3, whole: str = "") -> str:
    """Return ``"a, b, c, ..."``: the first names, and whether there are more.

    Args:
        names: Any number.
        count: At most so many are named.
        whole: Where the whole list stands; it is told if there are more.
    """
    if len(names) <= count:
        return ", ".join(names)
    return ", ".join(names[:count]) + ", ..." + (f" (all: {whole})" if whole else "")


def check_choice(key: str, value: str, right: Iterable[str]) -> None:
    """Refuse a setting that is not one of the right names.

    Raises:
        ValueError: With the key, the value and the nearest right name.
    """
    names = list(right)
    if value not in names:
        raise ValueError(f"{key}={value!r} is unknown{did_you_mean(str(value), names)}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's words, or its kind if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]


def last_line(error: Exception) -> str:
    """Return the last line of an error's words, where runtimes say what is wrong, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()

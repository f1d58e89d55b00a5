"""Words for errors: the nearest right name for a wrong one, the first line of a long story."""

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(wrong: str, right: Iterable[str], lister: str | None = None) -> str:
    """Return ``"; did you mean 'x'?"`` or, if nothing is near, what there is.

    Args:
        wrong: A name.
        right: The right names.
        lister: What lists them, where they are too many to name.
    """
    names = list(right)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if lister is not None:
        return f"; {lister} lists them"
    return f"; there is: {first_few(names, 12) or 'nothing to choose from'}"


def first_few(names: Sequence[str], count: int = 3) -> str:
    """Return ``"a, b, c, ..."``: the first names, and whether there are more."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


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

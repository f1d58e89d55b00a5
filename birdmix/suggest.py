"""Words for errors: the nearest right name for a wrong one, the first line of a long story."""

import difflib
from collections.abc import Iterable


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` or, if nothing is near, the list of right names."""
    names = list(right)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; there is: {shown or 'nothing to choose from'}"


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

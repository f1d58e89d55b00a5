"""Columns that several sources share: groups, secondary labels, dates."""

import ast
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from birdmix.audio.clock import is_unset, stamps
from birdmix.suggest import check_choice
from birdmix.text import nfc

LABEL_SEPARATOR = ";"

SECONDARY = ("positive", "soft", "unknown", "ignore")

#: What a recording's group may be, the first that a source has if nobody chooses.
GROUPS = ("group", "recordist", "site", "date", "recording")


def split_labels(text: str, separator: str | None = LABEL_SEPARATOR) -> tuple[str, ...]:
    """Return the labels of a cell or a name, each once and in order, accents as one sign."""
    text = nfc(text)
    parts = [text] if separator is None else text.split(separator)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def parse_labels(text: str) -> tuple[str, ...]:
    """Parse a flat list of strings as Python or JSON writes it: ``['rufhor2']``, ``[]``, ``['']``.

    Returns:
        Each label once and in order, NFC and without the spaces around; blank ones are left out. A
        blank cell is an empty list.

    Raises:
        ValueError: If it is anything else, a string alone or a list of numbers too.
    """
    try:
        parsed = ast.literal_eval(text.strip() or "[]")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        parsed = None
    if not isinstance(parsed, list) or not all(isinstance(each, str) for each in parsed):
        raise ValueError(f"{text!r} is no list of labels like ['rufhor2', 'whtdov']")
    return tuple(dict.fromkeys(filter(None, (nfc(each).strip() for each in parsed))))


def groups_of(
    paths: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    group_by: str = "auto",
    pattern: str | None = None,
) -> list[str]:
    """Return each recording's group.

    Args:
        paths: Of the recordings; one without a group is a group of its own, since the nameless are
            not all one person.
        columns: What the source has of ``GROUPS``.
        group_by: One of them, or auto: the pattern's if there is one, then the first there is.
        pattern: Regular expression found in a file's name; its first group, or the whole match.

    Raises:
        ValueError: If the source has no such column, or a name does not hold the pattern.
    """
    columns = {**columns, "recording": paths}
    if pattern is not None and group_by in ("auto", "group"):
        return _found(paths, pattern)
    if group_by == "date" and "date" not in columns:
        columns["date"] = [_date(path) for path in paths]
    if group_by == "auto":
        group_by = next(name for name in GROUPS if name in columns)
    elif group_by not in columns:
        check_choice("data.group_by", group_by, columns)
    return [group or path for group, path in zip(columns[group_by], paths, strict=True)]


def with_secondary(
    primary: Sequence[tuple[str, ...]],
    secondary: Sequence[tuple[str, ...]],
    treatment: str,
    soft_value: float,
) -> dict[str, list]:
    """Return the label columns of recordings with primary and secondary labels.

    Args:
        primary: Labels that are heard in the foreground; their target is 1.
        secondary: Labels that are somewhere in the background.
        treatment: Of secondary labels: positive (1), soft, unknown (left out of the loss), ignore.
        soft_value: Target of a soft label.
    """
    others = [
        tuple(code for code in second if code not in first)
        for first, second in zip(primary, secondary, strict=True)
    ]
    value = {"positive": 1.0, "soft": soft_value}.get(treatment)
    if value is None:
        unknown = others if treatment == "unknown" else [()] * len(others)
        return {"codes": list(primary), "unknown": unknown}
    pairs = list(zip(primary, others, strict=True))
    return {
        "codes": [(*first, *second) for first, second in pairs],
        "values": [(*(1.0,) * len(first), *(value,) * len(second)) for first, second in pairs],
    }


def datetime_of(path: str) -> datetime | None:
    """Return when a recording began, if its name says so: ``..._20160625_213143.wav``."""
    moments = (stamp.moment for stamp in stamps(path.rsplit("/", 1)[-1]))
    first = next((moment for moment in moments if not is_unset(moment)), None)
    return None if first is None else first.replace(tzinfo=None)


def read_datetime(text: str) -> datetime | None:
    """Read a cell such as ``2024-05-01 05:30:00``; None if it is blank.

    Raises:
        ValueError: If it is something else.
    """
    if not text.strip():
        return None
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=None)
    except ValueError as error:
        raise ValueError(f"'{text}' is no date like 2024-05-01 05:30:00") from error


def _date(path: str) -> str:
    moment = datetime_of(path)
    return "" if moment is None else moment.date().isoformat()


def _found(paths: Sequence[str], pattern: str) -> list[str]:
    groups = []
    for path in paths:
        match = re.search(nfc(pattern), nfc(path.rsplit("/", 1)[-1]))
        if match is None or not match.group(match.re.groups and 1):
            raise ValueError(f"data.group_pattern={pattern!r} is not found in the name of {path}")
        groups.append(match.group(match.re.groups and 1))
    return groups

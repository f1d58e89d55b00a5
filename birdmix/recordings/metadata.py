"""Labels, groups and times of recordings, parsed from table cells and file names."""

import ast
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from birdmix.audio.start_time import is_unset_clock, parse_file_name_dates
from birdmix.messages import check_choice
from birdmix.text import nfc

LABEL_SEPARATOR = ";"

SECONDARY = ("positive", "soft", "unknown", "ignore")

#: Columns that can define groups; ``data.group_by=auto`` takes the first that a source has.
GROUPS = ("group", "recordist", "site", "date", "recording")


def split_label_text(text: str, separator: str | None = LABEL_SEPARATOR) -> tuple[str, ...]:
    """Split a cell or name into labels: each once, in order, NFC, without surrounding spaces.

    Args:
        text: The cell or name.
        separator: Text between two labels; None takes the text as one label.
    """
    text = nfc(text)
    parts = [text] if separator is None else text.split(separator)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def parse_label_list(text: str) -> tuple[str, ...]:
    """Parse a flat list of strings as Python or JSON writes it: ``['rufhor2']``, ``[]``, ``['']``.

    Returns:
        Each label once and in order, NFC and without surrounding spaces; blank ones are left out. A
        blank cell is an empty list.

    Raises:
        ValueError: If it is anything else, including a single string or a list of numbers.
    """
    try:
        parsed = ast.literal_eval(text.strip() or "[]")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        parsed = None
    if not isinstance(parsed, list) or not all(isinstance(label, str) for label in parsed):
        raise ValueError(f"{text!r} is not a list of labels such as ['rufhor2', 'whtdov']")
    return tuple(dict.fromkeys(filter(None, (nfc(label).strip() for label in parsed))))


def assign_groups(
    paths: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    group_by: str = "auto",
    pattern: str | None = None,
) -> list[str]:
    """Return the group of each recording.

    Args:
        paths: Paths of the recordings. A recording with a blank group is a group of its own, since
            recordings without a recordist are not all by one person.
        columns: The columns among ``GROUPS`` that the source has.
        group_by: One of ``GROUPS``, or auto: the pattern if there is one, else the first column
            that the source has.
        pattern: Regular expression searched in file names; its first group, or else the whole
            match, is the recording's group.

    Raises:
        ValueError: If the source has no such column, or a file name does not match the pattern.
    """
    columns = {**columns, "recording": paths}
    if pattern is not None and group_by in ("auto", "group"):
        return _match_groups(paths, pattern)
    if group_by == "date" and "date" not in columns:
        columns["date"] = [_date_in_name(path) for path in paths]
    if group_by == "auto":
        group_by = next(name for name in GROUPS if name in columns)
    elif group_by not in columns:
        check_choice("data.group_by", group_by, columns)
    return [group or path for group, path in zip(columns[group_by], paths, strict=True)]


def assign_groups_by_name(
    paths: Sequence[str], group_by: str = "auto", pattern: str | None = None
) -> list[str]:
    """Return the group of each recording of a pool, or with pseudo labels.

    Such recordings have no metadata but their names. A recording whose name does not give the
    group is a group of its own, since the names of a second source may follow another scheme.

    Args:
        paths: Paths of the recordings.
        group_by: One of ``GROUPS``, or auto.
        pattern: See ``assign_groups``.
    """
    if pattern is not None and group_by in ("auto", "group"):
        groups = [_search_group(pattern, path) for path in paths]
    else:
        groups = [_date_in_name(path) if group_by == "date" else "" for path in paths]
    return [group or path for group, path in zip(groups, paths, strict=True)]


def combine_primary_and_secondary_labels(
    primary: Sequence[tuple[str, ...]],
    secondary: Sequence[tuple[str, ...]],
    treatment: str,
    soft_value: float,
) -> dict[str, list]:
    """Return the label columns of recordings with primary and secondary labels.

    Args:
        primary: Labels of the foreground; their target is 1.
        secondary: Labels of the background.
        treatment: Treatment of secondary labels: positive (target 1), soft (target
            ``soft_value``), unknown (left out of the loss) or ignore (dropped, so target 0).
        soft_value: Target of a soft label, in [0, 1].

    Returns:
        Arguments of ``Recordings.build``: codes and values, or codes and unknown.
    """
    secondary_only = [
        tuple(code for code in second if code not in first)
        for first, second in zip(primary, secondary, strict=True)
    ]
    value = {"positive": 1.0, "soft": soft_value}.get(treatment)
    if value is None:
        unknown = secondary_only if treatment == "unknown" else [()] * len(secondary_only)
        return {"codes": list(primary), "unknown": unknown}
    pairs = list(zip(primary, secondary_only, strict=True))
    return {
        "codes": [(*first, *second) for first, second in pairs],
        "values": [(*(1.0,) * len(first), *(value,) * len(second)) for first, second in pairs],
    }


def parse_start_time_from_name(path: str) -> datetime | None:
    """Parse the start time in a recording's file name, as in ``..._20160625_213143.wav``.

    Returns:
        Local time of the first sample; None if the name holds no time.
    """
    moments = (stamp.moment for stamp in parse_file_name_dates(path.rsplit("/", 1)[-1]))
    first = next((moment for moment in moments if not is_unset_clock(moment)), None)
    return None if first is None else first.replace(tzinfo=None)


def parse_datetime(text: str) -> datetime | None:
    """Parse a cell such as ``2024-05-01 05:30:00``; a blank one is None.

    Raises:
        ValueError: If it is not a date in ISO format.
    """
    if not text.strip():
        return None
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=None)
    except ValueError as error:
        raise ValueError(f"'{text}' is not a date such as 2024-05-01 05:30:00") from error


def _date_in_name(path: str) -> str:
    moment = parse_start_time_from_name(path)
    return "" if moment is None else moment.date().isoformat()


def _match_groups(paths: Sequence[str], pattern: str) -> list[str]:
    groups = [_search_group(pattern, path) for path in paths]
    for path, group in zip(paths, groups, strict=True):
        if not group:
            raise ValueError(
                f"data.group_pattern={pattern!r}: the file name of {path} does not match it"
            )
    return groups


def _search_group(pattern: str, path: str) -> str:
    """Return the group that a pattern finds in a file name; "" if it does not match."""
    match = re.search(nfc(pattern), nfc(path.rsplit("/", 1)[-1]))
    return "" if match is None else match.group(match.re.groups and 1) or ""

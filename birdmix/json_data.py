"""Untrusted JSON: read in bounded memory, and checked against the types of dataclasses.

A dataclass is built only after every value has the type of its field, so an error is one line with
the key and the value, and nothing is computed from unchecked values.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from birdmix.messages import did_you_mean, first_line

#: Largest JSON file that is read, in bytes: 100,000 classes take 10 MB.
MAX_BYTES = 32_000_000

#: Longest text in it, in characters.
MAX_TEXT = 10_000

# Most characters of a value in a message.
_MAX_SHOWN = 60

T = TypeVar("T")


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is not JSON, too large or too deeply nested. The message has no file name;
            the caller adds it together with a remedy.
        OSError: If it cannot be read.
    """
    with open(file, "rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 1_000_000} MB")
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {first_line(error)}") from error


def parse_dataclass(kind: type[T], content: Any, key: str = "", *, finite: bool = True) -> T:
    """Build a dataclass from a JSON object.

    Fields that have a default may be absent; keys that are not fields are refused. Nested
    dataclasses are built first.

    Args:
        kind: The dataclass.
        content: The JSON object.
        key: Key of the object, for messages: ``log_mel`` for example.
        finite: Whether numbers must be finite.

    Raises:
        ValueError: With the full key and the value, if a value is of another type, not finite or
            out of the range that the dataclass itself checks.
    """
    fields = {each.name: each for each in dataclasses.fields(typing.cast(Any, kind)) if each.init}
    check_keys(content, fields, _required(fields.values()), key)
    prefix = f"{key}." if key else ""
    hints = typing.get_type_hints(kind)
    values = {
        name: convert_json_value(hints[name], value, f"{prefix}{name}", finite=finite)
        for name, value in content.items()
    }
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error


def check_keys(
    content: Any, known: Iterable[str] | None, required: Iterable[str], key: str
) -> None:
    """Refuse a JSON value that is not an object with certain keys.

    Args:
        content: The JSON value.
        known: The keys that it may have; None allows all.
        required: The keys that it must have.
        key: Key of the value, for the message.

    Raises:
        ValueError: If it is not an object, lacks a required key or has an unknown one.
    """
    if not isinstance(content, dict):
        raise ValueError(
            f"{key or 'content'}={format_for_message(content)}: it must be an "
            "object of names and values"
        )
    prefix = f"{key}." if key else ""
    names = dict.fromkeys(content if known is None else known)
    for name in content:
        if name not in names:
            hint = did_you_mean(name[:MAX_TEXT], names)
            raise ValueError(
                f"{prefix}{format_for_message(name, quoted=False)} is an unknown key{hint}"
            )
    for name in required:
        if name not in content:
            raise ValueError(f"{prefix}{name} is missing")


def convert_json_value(kind: Any, value: Any, key: str, *, finite: bool = True) -> Any:
    """Return a JSON value converted to a type; lists become tuples where the type is a tuple.

    Args:
        kind: bool, int, float, str, Any, a dataclass, or a list, tuple, dict or optional of these.
        value: The JSON value.
        key: Its key, for the message.
        finite: Whether numbers must be finite.

    Raises:
        ValueError: If it is of another type.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        (kind,) = [each for each in inner if each is not type(None)]
        return convert_json_value(kind, value, key, finite=finite)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise ValueError(f"{key}={format_for_message(value)}: it must be a list")
        items = [
            convert_json_value(inner[0], v, f"{key}[{i}]", finite=finite)
            for i, v in enumerate(value)
        ]
        return items if origin is list else tuple(items)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(
                f"{key}={format_for_message(value)}: it must be an object of names and values"
            )
        return {
            convert_json_value(str, name, key): convert_json_value(
                inner[1], v, f"{key}.{name[:_MAX_SHOWN]}", finite=finite
            )
            for name, v in value.items()
        }
    if dataclasses.is_dataclass(kind):
        return parse_dataclass(typing.cast(type, kind), value, key, finite=finite)
    return _convert_json_scalar(kind, value, key, finite)


def _convert_json_scalar(kind: Any, value: Any, key: str, finite: bool) -> Any:
    if kind is Any:
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 2**63:
            raise ValueError(f"{key}={format_for_message(value)}: it must be below 2 ** 63")
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if finite and not math.isfinite(number):
            raise ValueError(f"{key}={format_for_message(value)}: it must be finite")
        return number
    if kind is str and isinstance(value, str):
        return _check_text(value, key)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    raise ValueError(f"{key}={format_for_message(value)}: it must be {names[kind]}")


def _check_text(value: str, key: str) -> str:
    if len(value) > MAX_TEXT:
        raise ValueError(
            f"{key}={format_for_message(value)}: it must have at most {MAX_TEXT} characters"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # JSON can hold half of a surrogate pair
        raise ValueError(f"{key}={format_for_message(value)}: it must be valid Unicode") from None
    return value


def format_for_message(value: Any, *, quoted: bool = True) -> str:
    """Return a value as one short line of printable characters, for a message."""
    if isinstance(value, int) and abs(value) >= 10**_MAX_SHOWN:  # too long for Python to print
        return "an integer of many digits"
    if isinstance(value, str):
        text = ascii(value[: _MAX_SHOWN + 1]) if quoted else ascii(value[: _MAX_SHOWN + 1])[1:-1]
        return text if len(value) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return json.dumps(value)


def check_setting_magnitudes(settings: object, **limits: float) -> None:
    """Refuse settings whose magnitude is above a limit, or NaN.

    Args:
        settings: An object with settings as attributes.
        limits: Upper limit of the magnitude, by attribute.

    Raises:
        ValueError: With the name, the value and the limit.
    """
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and not -limit <= value <= limit:
            raise ValueError(f"{name}={value}: it must be at most {limit:,}")


def _required(fields: Iterable["dataclasses.Field[Any]"]) -> list[str]:
    missing = dataclasses.MISSING
    return [f.name for f in fields if f.default is missing and f.default_factory is missing]

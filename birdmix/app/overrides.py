"""Overrides of the command line, ``key=value``: text settings get the text that was typed.

Hydra reads a value by its form: ``2024_05`` is the number 202405, and a path with ``=``, ``~`` or
an accent is an error. Here the schema decides: a value that Hydra would read as something else than
the text it is gets quotes before Hydra sees it. Commas still separate the values of a sweep, quotes
still hold one value together, and ``null`` still is nothing.
"""

import functools
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from birdmix.app.schema import Config

_OVERRIDE = re.compile(r"(?P<plus>\+{0,2})(?P<key>[\w./]+)(?P<package>@[^=]*)?=(?P<value>.*)", re.S)
_QUOTED = re.compile(r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*""", re.S)

# Hydra's functions: their results are values, their arguments are not.
_FUNCTION = re.compile(r"\s*(?P<name>[a-z_]+)\((?P<arguments>.*)\)\s*", re.S)
_SWEEPS = ("choice", "shuffle")
_CASTS = ("int", "float", "str", "bool")
_FUNCTIONS = (*_SWEEPS, "range", "interval", "sort", "tag", "glob", *_CASTS)

_OPENING, _CLOSING = "([{", ")]}"

# Quoted text, or what stands between the signs of lists and mappings.
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,:\[\]{}'"]+""", re.S)
_NUMBER = re.compile(r"[+-]?\d[\d_]*(\.[\d_]*)?([eE][+-]?[\d_]+)?")


def typed_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line of ``train.py`` whose text settings Hydra reads as they were typed.

    Args:
        arguments: Overrides and Hydra's own flags, among them perhaps ``-m``.

    Raises:
        ValueError: As ``as_typed``.
    """
    sweeps = any(
        each == "-m" or (len(each) > 3 and "--multirun".startswith(each)) for each in arguments
    )
    return [each if each.startswith("-") else _typed(each, sweeps) for each in arguments]


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Return overrides whose text settings Hydra reads as they were typed; none is a sweep.

    Raises:
        ValueError: For a number with ``_`` where anything may stand: it may be meant as text.
    """
    return [_typed(each, sweeps=False) for each in overrides]


def quoted(text: str, quote: str = "'") -> str:
    """Quote a text for Hydra: backslashes count only before a quote and at the end."""
    pattern = rf"(\\*)({quote}|$)"
    inner = re.sub(pattern, lambda m: 2 * m[1] + (f"\\{quote}" if m[2] else ""), text)
    return f"{quote}{inner}{quote}"


def is_read_as_text(text: str) -> bool:
    """Tell whether Hydra reads a text as itself where it stands without quotes."""
    return _is_read_as(text, (text,))


def unquoted(value: str) -> str:
    """Return the text of an override's value without the quotes around it."""
    if not _QUOTED.fullmatch(value):
        return value
    return str(_parser().parse_override(f"key={value}").value())


def type_of(key: str) -> Any:
    """Return the schema's type of a setting, without null; ``Any`` below one that takes any key.

    None for a group of settings, and for what is none of the schema.
    """
    hint: Any = Config
    for part in key.split("."):
        if typing.get_origin(hint) is dict:
            return Any
        hint = _hints(hint).get(part) if isinstance(hint, type) and is_dataclass(hint) else None
    if isinstance(hint, types.UnionType):
        hint, *others = (each for each in typing.get_args(hint) if each is not types.NoneType)
        assert not others
    return None if is_dataclass(hint) else hint


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


@functools.cache
def _hints(settings: type) -> dict[str, Any]:
    return typing.get_type_hints(settings)


def _typed(override: str, sweeps: bool) -> str:
    if override.startswith("="):
        raise ValueError(f"'{override}' is no setting: write key=value, as seed=1")
    match = _OVERRIDE.fullmatch(override)
    if match is None or match["key"].startswith("hydra"):
        return override
    key, value = match["key"], match["value"]
    hint = type_of(key)
    if hint is str:
        convert = _typed_text
    elif hint == list[str]:
        convert = _typed_list
    elif hint is None:
        convert = _typed_option
    else:
        if hint is Any or typing.get_origin(hint) in (list, dict):
            _refuse_numbers_with_underscores(override, value)
        return override
    value = _each_value(value, convert) if sweeps else _unless_function(value, convert)
    return override[: match.start("value")] + value


def _typed_text(text: str) -> str:
    """Quote a text that Hydra would not read as it stands."""
    if _QUOTED.fullmatch(text) or text.strip()[:1] in ("'", '"') or _is_read_as(text, (text, None)):
        return text
    return quoted(text)


def _typed_option(text: str) -> str:
    """Quote the name of a group's option; lists and sweeps of them stay as they are."""
    return text if text.strip()[:1] in _OPENING or "," in text else _typed_text(text)


def _typed_list(text: str) -> str:
    """Quote the elements of a list that Hydra would not read as they stand."""
    inner = text.strip()
    if not (inner.startswith("[") and inner.endswith("]")) or len(_split(text)) > 1:
        return text
    elements = [each.strip() for each in _split(inner[1:-1])]
    if elements == [""]:
        return text
    typed = [quoted(each) if each.lower() == "null" else _typed_text(each) for each in elements]
    return f"[{','.join(typed)}]"


def _is_read_as(text: str, values: Sequence[object]) -> bool:
    """Tell whether Hydra reads a text as one of some values."""
    try:
        override = _parser().parse_override(f"key={text}")
    except HydraException:
        return False
    return not override.is_sweep_override() and override.value() in values


def _unless_function(value: str, convert: Callable[[str], str]) -> str:
    match = _FUNCTION.fullmatch(value)
    return value if match and match["name"] in _FUNCTIONS else convert(value)


def _each_value(value: str, convert: Callable[[str], str]) -> str:
    """Convert the values of a sweep: ``a,b`` or ``choice(a,b)``."""
    match = _FUNCTION.fullmatch(value)
    if match and match["name"] in _SWEEPS:
        return f"{match['name']}({_each_value(match['arguments'], convert)})"
    return ",".join(_unless_function(each, convert) for each in _split(value))


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside of quotes and brackets."""
    parts, begin, depth = [], 0, 0
    for at, sign in _signs(text):
        depth += (sign in _OPENING) - (sign in _CLOSING)
        if sign == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]


def _signs(text: str) -> Iterator[tuple[int, str]]:
    """Yield the signs of a text outside of quotes, which open where a value begins."""
    at, value_begins = 0, True
    while at < len(text):
        sign = text[at]
        quoted_text = _QUOTED.match(text, at) if value_begins and sign in "'\"" else None
        if quoted_text:
            at, value_begins = quoted_text.end(), False
            continue
        yield at, sign
        value_begins = sign in ",:" or sign in _OPENING or (value_begins and sign.isspace())
        at += 1


def _refuse_numbers_with_underscores(override: str, value: str) -> None:
    for token in _TOKEN.findall(value):
        if isinstance(token, str) and "_" in token and _NUMBER.fullmatch(token):
            number = token.replace("_", "")
            raise ValueError(
                f"{override}: {token} would be read as the number {number}; write {number}, or "
                f"{quoted(token)} with its quotes for text"
            )

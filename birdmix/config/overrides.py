"""Overrides of the command line, ``key=value``: text settings get exactly the text that was typed.

Hydra infers a value's type from its form: ``2024_05`` is the number 202405, and a path with ``=``,
``~`` or an accent is an error. Here the schema decides: if a setting is text and Hydra would read
another value, the value is quoted before Hydra reads it. As in Hydra, commas separate the values of
a sweep, quotes enclose one value, and ``null`` is None. Unlike in Hydra, a mapping from names that
the user chooses, such as ``data.pools={noise: {...}}``, needs no ``+``.
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

from birdmix.config.schema import Config

_OVERRIDE = re.compile(r"(?P<plus>\+{0,2})(?P<key>[\w./]+)(?P<package>@[^=]*)?=(?P<value>.*)", re.S)
_QUOTED = re.compile(r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*""", re.S)

# Hydra's functions. A call of one gets no quotes; the values inside choice() and shuffle() do.
_FUNCTION = re.compile(r"\s*(?P<name>[a-z_]+)\((?P<arguments>.*)\)\s*", re.S)
_SWEEP_FUNCTIONS = ("choice", "shuffle")
_CASTS = ("int", "float", "str", "bool")
_FUNCTIONS = (*_SWEEP_FUNCTIONS, "range", "interval", "sort", "tag", "glob", *_CASTS)

_OPENING, _CLOSING = "([{", ")]}"

# Quoted text, or text between the punctuation of lists and mappings.
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,:\[\]{}'"]+""", re.S)
_NUMBER = re.compile(r"[+-]?\d[\d_]*(\.[\d_]*)?([eE][+-]?[\d_]+)?")


#: Flags of Hydra that are followed by their value.
_FLAGS_WITH_VALUE = {
    *("--cfg", "--package", "--config-path", "--config-name", "--config-dir"),
    *("-c", "-p", "-cp", "-cn", "-cd"),
}


def quote_arguments(arguments: Sequence[str]) -> list[str]:
    """Quote the text settings on the command line of training: Hydra then reads what was typed.

    Args:
        arguments: Overrides and Hydra's flags; with ``-m``, commas separate values of a sweep.

    Returns:
        The arguments, with quotes added.

    Raises:
        ValueError: See ``quote_overrides``.
    """
    is_sweep = any(
        argument == "-m" or (len(argument) > 3 and "--multirun".startswith(argument))
        for argument in arguments
    )
    return [
        argument if argument.startswith("-") else _quote_override(argument, is_sweep)
        for argument in arguments
    ]


def move_flags_first(arguments: Sequence[str]) -> list[str]:
    """Move Hydra's flags, each with its value, before the overrides: argparse needs them so.

    Args:
        arguments: Overrides and flags in any order.
    """
    flags: list[str] = []
    overrides: list[str] = []
    takes_value = False
    for argument in arguments:
        (flags if takes_value or argument.startswith("-") else overrides).append(argument)
        takes_value = argument in _FLAGS_WITH_VALUE
    return [*flags, *overrides]


def quote_overrides(overrides: Sequence[str]) -> list[str]:
    """Quote the text settings in overrides of one run: Hydra then reads what was typed.

    Raises:
        ValueError: For a number with ``_`` in a setting of any type, where text may be meant.
    """
    return [_quote_override(override, is_sweep=False) for override in overrides]


def add_quotes(text: str, quote: str = "'") -> str:
    """Quote a text for Hydra; backslashes are doubled before a quote and at the end."""
    pattern = rf"(\\*)({quote}|$)"
    inner = re.sub(pattern, lambda m: 2 * m[1] + (f"\\{quote}" if m[2] else ""), text)
    return f"{quote}{inner}{quote}"


def needs_no_quotes(text: str) -> bool:
    """Return whether Hydra reads a text without quotes as this same text."""
    return _is_read_as(text, (text,))


def remove_quotes(value: str) -> str:
    """Return the value of an override without quotes around it, if it has any."""
    if not _QUOTED.fullmatch(value):
        return value
    return str(_parser().parse_override(f"key={value}").value())


def schema_type(key: str) -> Any:
    """Return the type of a setting by the schema.

    Args:
        key: Full key of the setting.

    Returns:
        The type, without None if the setting may be null; that of the values for a key of a mapping
        that accepts any key; None for a group of settings and for an unknown key.
    """
    setting_type = _schema_node(key)
    return None if is_dataclass(setting_type) else setting_type


def schema_fields(key: str) -> list[str]:
    """Return the names of the settings in a group of settings; none if it is no group.

    Args:
        key: Full key of the group.
    """
    group = _schema_node(key)
    return list(_field_types(group)) if isinstance(group, type) and is_dataclass(group) else []


def _schema_node(key: str) -> Any:
    """Return the type of a setting or the class of a group; None for an unknown key."""
    node: Any = Config
    for part in key.split("."):
        if node is Any:
            return Any
        if typing.get_origin(node) is dict:
            node = typing.get_args(node)[1]
            continue
        is_group = isinstance(node, type) and is_dataclass(node)
        node = _field_types(node).get(part) if is_group else None
        if isinstance(node, types.UnionType):
            node, *others = (each for each in typing.get_args(node) if each is not types.NoneType)
            assert not others
    return node


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


@functools.cache
def _field_types(settings: type) -> dict[str, Any]:
    return typing.get_type_hints(settings)


def _quote_override(override: str, is_sweep: bool) -> str:
    """Quote the value of an override if its setting is text or a list of texts."""
    if override.startswith("="):
        raise ValueError(f"'{override}' is not a setting; write key=value, for example seed=1")
    match = _OVERRIDE.fullmatch(override)
    if match is None or match["key"].startswith("hydra"):
        return override
    key, value = match["key"], match["value"]
    setting_type = schema_type(key)
    if setting_type is str:
        convert = _quote_text
    elif setting_type == list[str]:
        convert = _quote_list
    elif setting_type is None:
        convert = _quote_option
    else:
        is_mapping = typing.get_origin(setting_type) is dict
        if setting_type is Any or is_mapping or typing.get_origin(setting_type) is list:
            _refuse_numbers_with_underscores(override, value)
        has_names_of_user = is_mapping and typing.get_args(setting_type)[1] is not Any
        if has_names_of_user and not match["plus"] and value.lstrip().startswith("{"):
            return f"+{override}"  # Hydra merges it in either case, but adds names only with a +
        return override
    convert_value = _convert_sweep if is_sweep else _convert_unless_function
    value = convert_value(value, convert)
    return override[: match.start("value")] + value


def _quote_text(text: str) -> str:
    """Quote a text that Hydra would read as another value."""
    if _QUOTED.fullmatch(text) or text.strip()[:1] in ("'", '"') or _is_read_as(text, (text, None)):
        return text
    return add_quotes(text)


def _quote_option(text: str) -> str:
    """Quote the name of a group's option; lists and sweeps are not changed."""
    return text if text.strip()[:1] in _OPENING or "," in text else _quote_text(text)


def _quote_list(text: str) -> str:
    """Quote the elements of a list that Hydra would read as other values."""
    inner = text.strip()
    if not (inner.startswith("[") and inner.endswith("]")) or len(_split(text)) > 1:
        return text
    elements = [element.strip() for element in _split(inner[1:-1])]
    if elements == [""]:
        return text
    texts = [add_quotes(text) if text.lower() == "null" else _quote_text(text) for text in elements]
    return f"[{','.join(texts)}]"


def _is_read_as(text: str, values: Sequence[object]) -> bool:
    """Return whether Hydra reads a text as one of the given values."""
    try:
        override = _parser().parse_override(f"key={text}")
    except HydraException:
        return False
    return not override.is_sweep_override() and override.value() in values


def _convert_unless_function(value: str, convert: Callable[[str], str]) -> str:
    """Convert a value that is not a call of one of Hydra's functions."""
    match = _FUNCTION.fullmatch(value)
    return value if match and match["name"] in _FUNCTIONS else convert(value)


def _convert_sweep(value: str, convert: Callable[[str], str]) -> str:
    """Convert each value of a sweep, ``a,b`` or ``choice(a,b)``."""
    match = _FUNCTION.fullmatch(value)
    if match and match["name"] in _SWEEP_FUNCTIONS:
        return f"{match['name']}({_convert_sweep(match['arguments'], convert)})"
    return ",".join(_convert_unless_function(part, convert) for part in _split(value))


def _split(text: str) -> list[str]:
    """Split a text at the commas outside of quotes and brackets."""
    parts, begin, depth = [], 0, 0
    for index, char in _unquoted_characters(text):
        depth += (char in _OPENING) - (char in _CLOSING)
        if char == "," and depth == 0:
            parts.append(text[begin:index])
            begin = index + 1
    return [*parts, text[begin:]]


def _unquoted_characters(text: str) -> Iterator[tuple[int, str]]:
    """Yield index and character outside of quotes; a quote opens only where a value begins."""
    index, value_begins = 0, True
    while index < len(text):
        char = text[index]
        quoted_text = _QUOTED.match(text, index) if value_begins and char in "'\"" else None
        if quoted_text:
            index, value_begins = quoted_text.end(), False
            continue
        yield index, char
        value_begins = char in ",:" or char in _OPENING or (value_begins and char.isspace())
        index += 1


def _refuse_numbers_with_underscores(override: str, value: str) -> None:
    """Raise a ValueError for a number such as 2024_05 in a value; it may be meant as text."""
    for token in _TOKEN.findall(value):
        if isinstance(token, str) and "_" in token and _NUMBER.fullmatch(token):
            number = token.replace("_", "")
            raise ValueError(
                f"{override}: {token} would be read as the number {number}; write {number}, or "
                f"{add_quotes(token)} with the quotes for text"
            )

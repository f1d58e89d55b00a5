"""Nested settings as plain mappings and lists: escaping of ``${``, and values with full keys."""

import re
from collections.abc import Iterator
from typing import Any


def escape_interpolations(value: Any) -> Any:
    """Return plain data with every ``${`` escaped: OmegaConf then reads all texts literally."""
    if isinstance(value, dict):
        return {key: escape_interpolations(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escape_interpolations(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + r"\${", value)
    return value


def values_with_keys(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value of plain data with its full key, for example ``data.negative[0]``."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from values_with_keys(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from values_with_keys(inner, f"{key}[{index}]")
    else:
        yield key, value

"""Search space of a hyper-parameter search: bounds or choices for each setting."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from birdmix.config.overrides import add_quotes, needs_no_quotes, schema_type
from birdmix.messages import did_you_mean, first_line

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: By key of a setting or name of a group: bounds (low, high, log, step) or a list of choices.
Space = dict[str, Any]

# A line of a search space, for messages.
_EXAMPLE = "for example optim.lr: {low: 1e-4, high: 1e-2, log: true}"

_BOUNDS = ("low", "high", "log", "step")


def read_search_space(file: Path) -> Space:
    """Read a search space: ``optim.lr: {low: 1e-4, high: 1e-2, log: true}``, ``mix: [none, both]``.

    Raises:
        ValueError: If an entry is neither bounds nor choices.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; name a search space, {_EXAMPLE}")
    try:
        parsed = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
        as_text = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{file}: not readable as YAML ({first_line(error)})") from error
    if not isinstance(parsed, dict) or not parsed:
        raise ValueError(f"{file}: a search space is a mapping with a line per setting, {_EXAMPLE}")
    space = {str(key): entry for key, entry in parsed.items()}
    for key, entry in space.items():
        try:
            _check_entry(entry)
        except ValueError as error:
            raise ValueError(f"{file}: {key}: {error}") from error
        if isinstance(entry, list) and schema_type(key) is str:  # 2024_05 is text here
            space[key] = [str(text) for text in as_text[key]]
    return space


def _check_entry(entry: Any) -> None:
    """Raise a ValueError if an entry is neither valid bounds nor a valid list of choices."""
    if isinstance(entry, list):
        if len(entry) < 2 or not all(isinstance(each, str | int | float) for each in entry):
            raise ValueError(
                f"{entry}: a list of choices needs at least two texts, numbers or true and false"
            )
        return
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys():
        raise ValueError(f"{entry}: write {{low: NUMBER, high: NUMBER}}, or a list of choices")
    for name in map(str, entry.keys() - set(_BOUNDS)):
        raise ValueError(f"{name} is unknown{did_you_mean(name, _BOUNDS)}")
    numbers = [entry[name] for name in ("low", "high", "step") if name in entry]
    if not all(isinstance(each, int | float) for each in numbers):
        raise ValueError(f"{entry}: low, high and step must be numbers")
    if not entry["low"] < entry["high"]:
        raise ValueError(f"low={entry['low']} must be below high={entry['high']}")
    if entry.get("log") and (entry["low"] <= 0 or "step" in entry):
        raise ValueError(f"{entry}: log needs low above 0, and no step")


def covering_points(space: Space) -> Iterator[dict[str, Any]]:
    """Yield points of the space that together contain every bound and every choice."""
    extremes = {
        key: entry if isinstance(entry, list) else [entry["low"], entry["high"]]
        for key, entry in space.items()
    }
    for index in range(max(map(len, extremes.values()))):
        yield {key: values[index % len(values)] for key, values in extremes.items()}


def to_distributions(space: Space) -> "dict[str, BaseDistribution]":
    """Return the Optuna distribution of each entry; the schema decides between int and float."""
    return {key: _make_distribution(key, entry) for key, entry in space.items()}


def _make_distribution(key: str, entry: Any) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(entry, list):
        return CategoricalDistribution(entry)
    bounds = {name: entry[name] for name in ("low", "high", "step") if name in entry}
    if _is_integer(key, list(bounds.values())):
        return IntDistribution(**bounds, log=entry.get("log", False))
    return FloatDistribution(**bounds, log=entry.get("log", False))


def _is_integer(key: str, bounds: list[float]) -> bool:
    """Return whether a setting is an integer, by the schema or else by its bounds."""
    setting_type = schema_type(key)
    if setting_type in (int, float):
        return setting_type is int
    return all(isinstance(each, int) for each in bounds)


def to_overrides(point: dict[str, Any]) -> list[str]:
    """Return a point of the space as overrides of ``birdmix train``."""
    return [f"{key}={_format_value(value)}" for key, value in point.items()]


def _format_value(value: Any) -> str:
    """Return a value as an override writes it, with quotes if Hydra needs them."""
    if isinstance(value, bool):
        return str(value).lower()
    is_plain = (
        isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and needs_no_quotes(value)
    )
    if isinstance(value, str) and not is_plain:
        return add_quotes(value)
    return str(value)

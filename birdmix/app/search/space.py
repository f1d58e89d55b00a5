"""A space of settings to search: between which bounds, or among what, each of them may lie."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import FloatNode, IntegerNode, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from birdmix.app.overrides import is_read_as_text, quoted, type_of
from birdmix.app.schema import Config
from birdmix.suggest import did_you_mean, first_line

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: By key of a setting, or name of a group: bounds (low, high, log, step), or a list of choices.
Space = dict[str, Any]

_BOUNDS = ("low", "high", "log", "step")


def read_space(file: Path) -> Space:
    """Read a space: ``optim.lr: {low: 1e-4, high: 1e-2, log: true}``, ``mix: [none, both]``.

    Raises:
        ValueError: If a line of it is no bounds and no choices.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; name a space, as in conf/search.yaml")
    try:
        read = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
        typed = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{file}: no YAML that can be read ({first_line(error)})") from error
    if not isinstance(read, dict) or not read:
        raise ValueError(f"{file}: a space is a line for each setting, as in conf/search.yaml")
    space = {str(key): wanted for key, wanted in read.items()}
    for key, wanted in space.items():
        try:
            _check(wanted)
        except ValueError as error:
            raise ValueError(f"{file}: {key}: {error}") from error
        if isinstance(wanted, list) and type_of(key) is str:  # 2024_05 is no number there
            space[key] = [str(each) for each in typed[key]]
    return space


def _check(wanted: Any) -> None:
    if isinstance(wanted, list):
        if len(wanted) < 2 or not all(isinstance(each, str | int | float) for each in wanted):
            raise ValueError(f"{wanted}: choices are at least two words, numbers or truth values")
        return
    if not isinstance(wanted, dict) or not {"low", "high"} <= wanted.keys():
        raise ValueError(f"{wanted}: write {{low: , high: }}, or a list of choices")
    for name in map(str, wanted.keys() - set(_BOUNDS)):
        raise ValueError(f"{name} is unknown{did_you_mean(name, _BOUNDS)}")
    numbers = [wanted[name] for name in ("low", "high", "step") if name in wanted]
    if not all(isinstance(each, int | float) for each in numbers):
        raise ValueError(f"{wanted}: low, high and step are numbers")
    if not wanted["low"] < wanted["high"]:
        raise ValueError(f"low={wanted['low']} must be below high={wanted['high']}")
    if wanted.get("log") and (wanted["low"] <= 0 or "step" in wanted):
        raise ValueError(f"{wanted}: log needs low above 0, and no step")


def corners(space: Space) -> Iterator[dict[str, Any]]:
    """Yield points that touch every bound and every choice, all at once."""
    edges = {
        key: wanted if isinstance(wanted, list) else [wanted["low"], wanted["high"]]
        for key, wanted in space.items()
    }
    for index in range(max(map(len, edges.values()))):
        yield {key: values[index % len(values)] for key, values in edges.items()}


def distributions(space: Space) -> "dict[str, BaseDistribution]":
    """Return a space as Optuna knows it; what the schema says is a float is no whole number."""
    return {key: _distribution(key, wanted) for key, wanted in space.items()}


def _distribution(key: str, wanted: Any) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(wanted, list):
        return CategoricalDistribution(wanted)
    bounds = {name: wanted[name] for name in ("low", "high", "step") if name in wanted}
    if _is_whole(key, list(bounds.values())):
        return IntDistribution(**bounds, log=wanted.get("log", False))
    return FloatDistribution(**bounds, log=wanted.get("log", False))


def _is_whole(key: str, bounds: list[float]) -> bool:
    node: Any = OmegaConf.structured(Config)
    for part in key.split("."):
        node = node._get_node(part) if OmegaConf.is_dict(node) else None
    if isinstance(node, IntegerNode | FloatNode):
        return isinstance(node, IntegerNode)
    return all(isinstance(each, int) for each in bounds)


def as_overrides(point: dict[str, Any]) -> list[str]:
    """Return a point of a space as ``train.py`` takes it."""
    return [f"{key}={_value(value)}" for key, value in point.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and is_read_as_text(value)
    if isinstance(value, str) and not plain:
        return quoted(value)
    return str(value)

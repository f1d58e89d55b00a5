"""``config.yaml`` of a run directory: a run's settings, written and read back."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from birdmix.config.composition import to_config
from birdmix.config.nested_values import escape_interpolations, values_with_keys
from birdmix.config.overrides import schema_type
from birdmix.config.schema import Config
from birdmix.files import write_text
from birdmix.messages import first_line

#: File of the settings in a run directory.
CONFIG = "config.yaml"

# Upper limits for a file that is read. A run's settings have about 200 values; with YAML aliases a
# small file can have far more.
_MAX_VALUES = 20_000
_MAX_BYTES = 1 << 20


def write_config(run: Path, config: Config, name: str = CONFIG) -> None:
    """Write a run's settings to a file in its directory; texts with ``${`` are escaped.

    Args:
        run: Run directory.
        config: The settings.
        name: Name of the file.
    """
    plain = escape_interpolations(dataclasses.asdict(config))
    stored = OmegaConf.merge(OmegaConf.structured(Config), plain)
    write_text(run / name, OmegaConf.to_yaml(stored))


def read_config(run: Path, name: str = CONFIG) -> Config:
    """Read a run's settings from a file in its directory.

    Raises:
        ValueError: If there is no such file, or it does not fit this version's schema.
    """
    file = run / name
    if not file.is_file():
        raise ValueError(f"{file}: no such file; name the directory of an earlier run")
    stored = read_yaml(file)
    for key, value in values_with_keys(stored):
        if isinstance(value, str) and re.search(r"(?<!\\)(?:\\\\)*\$\{", value):
            raise ValueError(
                f"{file}: {key}={value}: ${{...}} is not resolved in a run's file; write the value"
            )
        if schema_type(key) is str and not isinstance(value, str | None):
            raise ValueError(f"{file}: {key}: {value} is not text; put the text in quotes")
    try:
        return to_config(OmegaConf.create(stored))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping as OmegaConf does, without tags and with limits on its size.

    Raises:
        ValueError: If the file is not such a mapping, or is too large.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError(
                f"{file}: larger than {_MAX_BYTES >> 20} MiB, not the settings of a run"
            )
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if root is not None and _num_values(root, {}) > _MAX_VALUES:
            raise ValueError(f"{file}: more than {_MAX_VALUES} values, not the settings of a run")
        loaded = OmegaConf.load(file)
        if isinstance(loaded, DictConfig):
            plain = OmegaConf.to_container(loaded, resolve=False)
            assert isinstance(plain, dict)
            return {str(key): value for key, value in plain.items()}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OmegaConfBaseException) as error:
        raise ValueError(f"{file}: not readable as YAML ({first_line(error)})") from error
    raise ValueError(f"{file}: not a mapping of settings")


def _num_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Return the number of values of a YAML node with all aliases expanded.

    Args:
        node: The node.
        counts: Results by id of the node, filled by the calls.
    """
    if id(node) in counts:
        return counts[id(node)]
    counts[id(node)] = _MAX_VALUES + 1  # an alias inside its own node is infinite
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    counts[id(node)] = 1 + sum(_num_values(child, counts) for child in children)
    return counts[id(node)]

"""YAML files of runs, read as plain data: no tags, no interpolations, bounded in size."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from birdmix.suggest import first_line

# A run's settings have about 200 values; aliases may make far more of a small file.
_MOST_VALUES = 20_000
_MOST_BYTES = 1 << 20


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping as OmegaConf does, and refuse what no run writes.

    Raises:
        ValueError: If it is no such file, with its name.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{file}: larger than {_MOST_BYTES >> 20} MiB, no settings of a run")
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if root is not None and _num_values(root, {}) > _MOST_VALUES:
            raise ValueError(f"{file}: more than {_MOST_VALUES} values, no settings of a run")
        loaded = OmegaConf.load(file)
        if isinstance(loaded, DictConfig):
            plain = OmegaConf.to_container(loaded, resolve=False)
            assert isinstance(plain, dict)
            return {str(key): value for key, value in plain.items()}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OmegaConfBaseException) as error:
        raise ValueError(f"{file}: no YAML that can be read ({first_line(error)})") from error
    raise ValueError(f"{file}: no settings, but something else")


def _num_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the values of a document as if each alias was written out."""
    if id(node) in counts:
        return counts[id(node)]
    counts[id(node)] = _MOST_VALUES + 1  # an alias within itself has no end
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    counts[id(node)] = 1 + sum(_num_values(each, counts) for each in children)
    return counts[id(node)]

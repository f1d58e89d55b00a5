"""Composition of settings: from ``conf/`` and overrides, checked against the schema."""

import dataclasses
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from birdmix.config.conf_folders import packaged_conf
from birdmix.config.config_errors import INTERPOLATION_REMEDY, explain_error, one_line_message
from birdmix.config.nested_values import escape_interpolations, values_with_keys
from birdmix.config.overrides import quote_overrides
from birdmix.config.schema import Config, register


def compose_config(overrides: list[str]) -> Config:
    """Compose a configuration as ``birdmix train`` does.

    Args:
        overrides: Overrides, ``key=value`` each; ``run_dir`` is set to the working directory.

    Raises:
        ValueError: If an override is invalid.
    """
    return plain_to_config(compose_plain(overrides))


def compose_plain(overrides: list[str]) -> dict[str, Any]:
    """Compose a configuration as plain data, resolved but not checked.

    Args:
        overrides: Overrides, ``key=value`` each; ``run_dir`` is set to the working directory.

    Raises:
        ValueError: If an override is invalid.
    """
    register()
    try:
        with initialize_config_dir(str(packaged_conf()), version_base="1.3"):
            return to_plain(compose("config", overrides=[*quote_overrides(overrides), "run_dir=."]))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain_error(error)) from error


def to_config(composed: DictConfig) -> Config:
    """Check a composed configuration against the schema and convert it to settings.

    Raises:
        ValueError: For an unknown key (also one added by ``+key=1``) or an invalid value; the
            message has the full key.
    """
    return plain_to_config(to_plain(composed))


def to_plain(composed: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as plain data, resolved but not checked.

    Raises:
        ValueError: If a ``${...}`` cannot be resolved.
    """
    _check_interpolations(composed)
    try:
        return cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise ValueError(explain_error(error)) from error


def plain_to_config(plain: dict[str, Any]) -> Config:
    """Check plain data against the schema, and convert them to settings.

    Raises:
        ValueError: As ``to_config``.
    """
    try:
        # From plain data, since keys that were added with + would otherwise pass the schema.
        checked = OmegaConf.merge(OmegaConf.structured(Config), escape_interpolations(plain))
    except OmegaConfBaseException as error:
        raise ValueError(explain_error(error)) from error
    assert isinstance(checked, DictConfig)
    try:
        return cast(Config, OmegaConf.to_object(checked))
    except OmegaConfBaseException as error:
        raise ValueError(explain_error(error)) from error
    except ValueError:
        _check_groups(checked)  # raises the same error with the full key
        raise


def _check_interpolations(composed: DictConfig) -> None:
    """Raise a ValueError for the first setting whose ``${...}`` cannot be resolved."""
    for key, text in values_with_keys(OmegaConf.to_container(composed, resolve=False)):
        if not isinstance(text, str) or "${" not in text:
            continue
        try:
            OmegaConf.select(composed, key)
        except OmegaConfBaseException as error:
            reason = one_line_message(error)
            raise ValueError(f"{key}={text}: {reason}{INTERPOLATION_REMEDY}") from error


def _check_groups(node: DictConfig | ListConfig, key: str = "") -> None:
    """Convert every group of settings, innermost first, to raise errors with the full key."""
    for name in range(len(node)) if isinstance(node, ListConfig) else list(node):
        child = node._get_node(name)
        if isinstance(child, DictConfig | ListConfig) and not OmegaConf.is_missing(node, name):
            if isinstance(node, ListConfig):
                _check_groups(child, f"{key}[{name}]")
            elif child:
                _check_groups(child, f"{key}.{name}".lstrip("."))
    if dataclasses.is_dataclass(OmegaConf.get_type(node)):
        try:
            OmegaConf.to_object(node)
        except ValueError as error:
            raise ValueError(f"{key}.{error}" if key else str(error)) from error

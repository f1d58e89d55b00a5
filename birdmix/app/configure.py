"""From a composed configuration to checked settings, and from Hydra's errors to one clear line."""

import dataclasses
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from birdmix.app.errors import end
from birdmix.app.overrides import as_typed, quoted, type_of
from birdmix.app.resume import resumed
from birdmix.app.schema import Config, register
from birdmix.app.yaml_file import read_yaml
from birdmix.files import write_text
from birdmix.suggest import did_you_mean

_KINDS = {int: "whole number", float: "number", bool: "truth value (true, false)"}

# Settings that take any key.
_FREE = ("model.backbone_args", "optim.args")

_INTERPOLATION_ERRORS = (GrammarParseError, InterpolationKeyError, InterpolationResolutionError)

# What Hydra says of several values without -m.
_SWEEP = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)' (?:1\. |requires )")

# What follows an error about ${...}.
_INTERPOLATIONS = "; set what it names, or write \\${ where a plain ${ is meant"

# Hydra's own settings that are made of one of ours.
_MADE_OF = {"hydra.run.dir": "run_dir", "hydra.sweep.dir": "run_dir"}

#: The composed configuration in a run directory.
CONFIG = "config.yaml"


def to_config(composed: DictConfig) -> Config:
    """Check a composed configuration against the schema and turn it into settings.

    Raises:
        ValueError: With the full key, for an unknown key (``+key=1`` included) or a bad value.
    """
    for key, value, error in _unresolved(composed):
        raise ValueError(f"{key}={value}: {_reason(error)}{_INTERPOLATIONS}") from error
    try:
        # As plain data, or keys that were added with + would count as part of the schema.
        plain = OmegaConf.to_container(composed, resolve=True)
        checked = OmegaConf.merge(OmegaConf.structured(Config), _literal(plain))
    except OmegaConfBaseException as error:
        raise ValueError(explain(error)) from error
    assert isinstance(checked, DictConfig)
    try:
        return cast(Config, OmegaConf.to_object(checked))
    except OmegaConfBaseException as error:
        raise ValueError(explain(error)) from error
    except ValueError:
        _check_settings(checked)  # its message has the full key
        raise


def configure(composed: DictConfig, overrides: list[str]) -> Config:
    """Return the settings of a run: the composed ones, or those of the run to go on with.

    Args:
        composed: Hydra's configuration.
        overrides: What the command line said.

    Raises:
        ValueError: If a setting is wrong, or would change the run that is to be gone on with.
    """
    config = to_config(composed)
    if config.resume is None:
        return config
    return resumed(read_config(Path(config.resume)), config, overrides)


def compose_config(overrides: list[str]) -> Config:
    """Compose a configuration as ``train.py`` does, from ``conf`` here or beside the package.

    Raises:
        ValueError: If there is none, or an override is wrong.
    """
    folders = (Path("conf"), Path(__file__).parents[2] / "conf")
    found = next((each for each in folders if (each / "config.yaml").is_file()), None)
    if found is None:
        raise ValueError("there is no conf/config.yaml here; go to a checkout of birdmix")
    register()
    try:
        with initialize_config_dir(str(found.resolve()), version_base="1.3"):
            return to_config(compose("config", overrides=[*as_typed(overrides), "run_dir=."]))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error)) from error


def write_config(run: Path, config: Config, name: str = CONFIG) -> None:
    """Write a run's settings to its ``config.yaml``, or beside it."""
    literal = _literal(dataclasses.asdict(config))
    stored = OmegaConf.merge(OmegaConf.structured(Config), literal)
    write_text(run / name, OmegaConf.to_yaml(stored))


def _literal(value: Any) -> Any:
    """Return plain data whose texts OmegaConf takes as they are, ``${`` too."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + r"\${", value)
    return value


def read_config(run: Path, name: str = CONFIG) -> Config:
    """Read a run's settings back, or those beside them.

    Raises:
        ValueError: If the directory holds no run, or one of another schema.
    """
    file = run / name
    if not file.is_file():
        raise ValueError(f"{file}: no such file; name the run directory of an earlier run")
    stored = read_yaml(file)
    for key, value in _values(stored):
        if isinstance(value, str) and re.search(r"(?<!\\)(?:\\\\)*\$\{", value):
            raise ValueError(f"{file}: {key}={value}: ${{...}} is not read here; write its value")
        if type_of(key) is str and not isinstance(value, str | None):
            raise ValueError(f"{file}: {key}: {value} is no text; put what was meant in quotes")
    try:
        return to_config(OmegaConf.create(stored))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _check_settings(node: DictConfig, prefix: str = "") -> None:
    """Convert every group, innermost first, so that a bad value is told by its full key."""
    for key in map(str, node):
        child = node._get_node(key)
        if isinstance(child, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(child)):
            _check_settings(child, f"{prefix}{key}.")
    try:
        OmegaConf.to_object(node)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error


def all_keys() -> list[str]:
    """Return the full key of every setting."""

    def walk(node: DictConfig, prefix: str) -> Iterator[str]:
        for key in map(str, node):
            child = node._get_node(key)
            yield f"{prefix}{key}"
            if isinstance(child, DictConfig):
                yield from walk(child, f"{prefix}{key}.")

    return list(walk(OmegaConf.structured(Config), ""))


def _unresolved(composed: DictConfig) -> Iterator[tuple[str, str, OmegaConfBaseException]]:
    """Yield key, value and error of every setting whose ``${...}`` gives nothing."""
    for key, text in _values(OmegaConf.to_container(composed, resolve=False)):
        if not isinstance(text, str):
            continue
        try:
            if "${" in text:
                OmegaConf.select(composed, key)
        except OmegaConfBaseException as error:
            yield key, text, error


def _values(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value in plain data with its key, as ``data.negative[0]``."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _values(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _values(inner, f"{key}[{index}]")
    else:
        yield key, value


def explain(error: BaseException) -> str:
    """Say in one line what is wrong with a configuration, and what would be right."""
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return explain(cause)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    text = _reason(error)
    if isinstance(error, OmegaConfBaseException):
        key = _MADE_OF.get(error.full_key or "", error.full_key or "")
        if "not in" in text:
            return _no_setting(key)
        if isinstance(error, _INTERPOLATION_ERRORS):
            return f"{key}: {text}{_INTERPOLATIONS}"
        return f"{key}: {text}" if key else text
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={option} is unknown{did_you_mean(option, error.options)}"
    if match := re.search(
        r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'( 1\.|,? req)", text
    ):
        return (
            f"{match[1]}: several values are a sweep, which needs -m; a list is written [a,b], a "
            f"text in quotes: {_in_quotes(match[1])}"
        )
    if match := re.search(r"Could not override '([^']+)'", text):
        return _no_setting(match[1])
    return text


def _reason(error: BaseException) -> str:
    """Return the first lines of an error as one, without what OmegaConf tells about itself."""
    text = re.sub(r"\s+", " ", str(error).split("\n    full_key:")[0]).strip()
    return re.sub(r"^\w+ raised while resolving interpolation: \"?(.*?)\"?$", r"\1", text)


def _unreadable(override: str) -> str:
    """Say why Hydra cannot read an override: it is none, it is no number, or it needs quotes."""
    key, sign, value = override.partition("=")
    name = key.lstrip("+~")
    if not sign or not re.fullmatch(r"[\w./@-]+", name):
        return f"'{override}' is no setting: write key=value, as seed=1"
    hint = type_of(name)
    if hint in _KINDS:
        return f"{name}: '{value}' is no {_KINDS[hint]}"
    if hint is str:
        return f"{override}: the value cannot be read; put it in quotes: {_in_quotes(override)}"
    return f"{override}: the value cannot be read; put each text in it in quotes: ['a', {{b: 'c'}}]"


def _in_quotes(override: str) -> str:
    """Return an override with its value in quotes, as a shell takes it."""
    key, _, value = override.partition("=")
    return shlex.quote(f"{key}={quoted(value, chr(34))}")


def _no_setting(key: str) -> str:
    parent, _, _ = key.rpartition(".")
    if parent in _FREE:
        return f"there is no setting '{key}' yet; put a + before it: +{key}=VALUE"
    return f"there is no setting '{key}'{did_you_mean(key, all_keys())}"


@contextmanager
def one_line_hydra_errors() -> Iterator[None]:
    """End the program with one clear line where Hydra refuses the command line."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        end(f"error: {explain(error)}")

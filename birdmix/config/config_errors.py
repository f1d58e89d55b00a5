"""Configuration errors as one line: Hydra's and OmegaConf's messages in terms of birdmix's keys."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import cast, get_args, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from birdmix.config.overrides import add_quotes, schema_fields, schema_type
from birdmix.config.schema import Config
from birdmix.messages import did_you_mean
from birdmix.mix.operators.inject import InjectSettings
from birdmix.recordings.settings import PoolSettings
from birdmix.user_errors import exit_with_message

#: Remedy appended to an error about ``${...}``.
INTERPOLATION_REMEDY = "; define what it names, or write \\${ for a literal ${"

# Types of settings, as messages name them.
_TYPE_NAMES = {int: "an integer", float: "a number", bool: "true or false"}

# Mappings that accept any key.
_OPEN_MAPPINGS = ("model.backbone_args", "optim.args", "data.batch_shares")

# Former names of settings and groups; the new name also applies to the keys below a group.
_RENAMED = {
    "frontend.masking.max_mel_share": "frontend.masking.max_mel_fraction",
    "frontend.masking.max_time_share": "frontend.masking.max_time_fraction",
    "loss.frame_share": "loss.frame_weight",
    "mix.hidden.beta": "mix.hidden.mix_beta2",
    "mix.hidden.prob": "mix.hidden.mixup2_prob",
    "model.parts": "model.num_chunks",
    "optim.final_share": "optim.final_fraction",
    "optim.warmup_share": "optim.warmup_fraction",
}

# Former settings and groups without one new name, with what to use in their place.
_POOLS = "data.pools, as in data.pools={noise: {source: background, root: DIR}}"
_REPLACED = {
    "data.augment_mixed": "the group augment, as augment.pitch_shift.prob=0.4, or data.augment",
    "data.mix_pool": _POOLS,
    "data.pool": _POOLS,
    "mix.cutmix.match_rms": "mix.cutmix.match_level=rms",
    "mix.inject": "mix.injectors=[{pool: NAME, prob: 0.5}], a list",
    "mix.match_rms": "mix.match_level=rms",
}

_INTERPOLATION_ERRORS = (GrammarParseError, InterpolationKeyError, InterpolationResolutionError)

# Beginning of Hydra's message about a file of settings.
_IN_FILE = re.compile(r"In '(.+?)': \w+ raised while composing config:")

# Hydra's messages about several values without -m.
_SWEEP = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'( 1\.|,? req)")

# Settings of Hydra that ``conf/config.yaml`` computes from a setting of birdmix.
_DERIVED_FROM = {"hydra.run.dir": "run_dir", "hydra.sweep.dir": "run_dir"}


def explain_error(error: BaseException) -> str:
    """Return one line that states what is wrong with a configuration and what is allowed."""
    text = one_line_message(error)
    in_file = _IN_FILE.match(text)
    # Hydra raises its error about a file while it handles that of OmegaConf, not from it.
    cause = error.__context__ if in_file else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return f"{in_file[1]}.yaml: {explain_error(cause)}" if in_file else explain_error(cause)
    if isinstance(error, OverrideParseException):
        return _parse_error_message(error.override)
    if isinstance(error, OmegaConfBaseException):
        return _explain_schema_error(error, text)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={option} is unknown{did_you_mean(option, error.options)}"
    if match := _SWEEP.search(text):
        return (
            f"{match[1]}: several values are a sweep, which needs -m; write a list as [a,b], or "
            f"put a text in quotes: {_quote_value(match[1])}"
        )
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_setting_message(match[1])
    return text


def _explain_schema_error(error: OmegaConfBaseException, text: str) -> str:
    """Return a line about a setting that does not fit the schema."""
    key = _DERIVED_FROM.get(error.full_key or "", error.full_key or "")
    group = _group_key(error.object_type)
    if group and not f"{key}.".startswith((f"{group}.", f"{group}[")):
        key = f"{group}.{key}".rstrip(".")  # OmegaConf's key begins at the group
    if isinstance(error, MissingMandatoryValue):
        return f"{key}: it is not set; set it"
    if schema_fields(f"{key}.NAME") or " to Dict[" in text:
        text = "it must be a mapping, {name: value, name: value}"
    elif "ListConfig" in text:
        text = "it must be a list, [a, b]"
    elif "Invalid type assigned" in text:
        whole = key.split("[")[0]
        text = f"it must be settings, {{name: value}}; set the whole of {whole}"
    elif "not in" in text:
        return _unknown_setting_message(key)
    elif "is not Optional" in text:
        text = "it must not be null"
    elif isinstance(error, _INTERPOLATION_ERRORS):
        text = f"{text}{INTERPOLATION_REMEDY}"
    return f"{key}: {text}" if key else text


def one_line_message(error: BaseException) -> str:
    """Return an error's message in one line, without the details that OmegaConf appends."""
    text = re.sub(r"\s+", " ", str(error).split("\n    full_key:")[0]).strip()
    return re.sub(r"^\w+ raised while resolving interpolation: \"?(.*?)\"?$", r"\1", text)


def _group_key(settings: object) -> str:
    """Return the key of a class of settings: of its group, or of the list or mapping that has it.

    Args:
        settings: The class; other types have an empty key.
    """

    def find(group: type, prefix: str) -> str:
        for name, hint in get_type_hints(group).items():
            if settings in (hint, *get_args(hint)):
                return f"{prefix}{name}"
            key = find(cast(type, hint), f"{prefix}{name}.") if is_dataclass(hint) else ""
            if key:
                return key
        return ""

    return find(Config, "") if isinstance(settings, type) and is_dataclass(settings) else ""


def all_setting_keys() -> list[str]:
    """Return the full key of every setting."""

    def walk(node: DictConfig, prefix: str) -> Iterator[str]:
        for key in map(str, node):
            child = node._get_node(key)
            yield f"{prefix}{key}"
            if isinstance(child, DictConfig):
                yield from walk(child, f"{prefix}{key}.")

    return list(walk(OmegaConf.structured(Config), ""))


@contextmanager
def one_line_hydra_errors() -> Iterator[None]:
    """End the program with one line if Hydra rejects the command line."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # makes Hydra raise instead of printing
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        exit_with_message(f"error: {explain_error(error)}")


def _parse_error_message(override: str) -> str:
    """Return why Hydra cannot parse an override: its form, its type, or missing quotes."""
    key, sign, value = override.partition("=")
    name = key.lstrip("+~")
    if not sign or not re.fullmatch(r"[\w./@-]+", name):
        return f"'{override}' is not a setting; write key=value, for example seed=1"
    setting_type = schema_type(name)
    if setting_type in _TYPE_NAMES:
        return f"{name}: '{value}' is not {_TYPE_NAMES[setting_type]}"
    if setting_type is str:
        return f"{override}: the value cannot be read; put it in quotes: {_quote_value(override)}"
    return f"{override}: the value cannot be read; put its texts in quotes: ['a', {{b: 'c'}}]"


def _quote_value(override: str) -> str:
    """Return an override with its value in quotes, escaped for a shell."""
    key, _, value = override.partition("=")
    return shlex.quote(f"{key}={add_quotes(value, chr(34))}")


def _unknown_setting_message(key: str) -> str:
    """Return that a setting does not exist, with the new or the nearest name."""
    parent, _, name = key.rpartition(".")
    if schema_fields(key):
        return f"there is no setting '{key}' yet; add it with {parent}={{{name}: {{KEY: VALUE}}}}"
    if parent in _OPEN_MAPPINGS:
        return f"there is no setting '{key}' yet; add it with a +: +{key}=VALUE"
    for item in (InjectSettings, PoolSettings):
        if re.sub(r"\[\d+\]", "", parent).startswith(_group_key(item)):
            return (
                f"there is no setting '{key}'{did_you_mean(name, [f.name for f in fields(item)])}"
            )
    for old, new in _RENAMED.items():
        if f"{key}.".startswith(f"{old}."):
            return f"there is no setting '{key}'; its name is '{new}{key.removeprefix(old)}'"
    for old, new in _REPLACED.items():
        if f"{key}.".startswith(f"{old}."):
            return f"there is no setting '{key}'; use {new}"
    return f"there is no setting '{key}'{did_you_mean(key, all_setting_keys())}"

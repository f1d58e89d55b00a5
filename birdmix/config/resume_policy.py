"""Resume policy: which settings may change on resume, and the settings of a resumed run."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from birdmix.config.composition import plain_to_config, to_plain
from birdmix.config.run_config_file import read_config
from birdmix.config.schema import Config
from birdmix.messages import first_few

#: Settings that cannot change a result, or are checked elsewhere (the recordings by their digest).
#: ``data.memory_gib`` is not one of them: recordings in memory have 16 bits, files may have more.
RESULT_NEUTRAL = (
    *("resume", "resume_force", "run_dir", "loggers", "checkpoint"),
    *("data.num_workers", "data.root", "data.table", "data.max_bad_fraction", "data.cache_dir"),
    *("data.exclude", "data.follow_links", "data.demo.num_processes"),
    *("trainer.accelerator", "trainer.max_time"),
    *("validation.threshold", "validation.target_precision"),  # fitted after training
)


def new_or_resumed_config(composed: DictConfig, overrides: list[str]) -> Config:
    """Return the settings of a run: the composed ones, or with ``resume`` those of an earlier run.

    Args:
        composed: Hydra's composed configuration.
        overrides: Overrides of the command line.

    Raises:
        ValueError: If a setting is wrong, or would change the run that is resumed.
    """
    requested = to_plain(composed)
    if requested["resume"] is None:
        return plain_to_config(requested)
    return resumed_config(read_config(Path(requested["resume"])), requested, overrides)


def resumed_config(former: Config, requested: dict[str, Any], overrides: Sequence[str]) -> Config:
    """Return the settings to resume with: those of the run, changed by the command line only.

    They are checked together: an override may need other settings of the run.

    Args:
        former: Settings of the run that is resumed.
        requested: Plain settings composed from ``conf`` and the whole command line.
        overrides: The command line; only the keys it names are taken from ``requested``.

    Raises:
        ValueError: If a setting is wrong, or the result would change and ``resume_force`` is not
            set; the message lists the changes.
    """
    settings = override_settings(former, requested, ["resume", "resume_force", *overrides])
    changes = result_changes(former, settings)
    if changes and not settings.resume_force:
        raise ValueError(
            f"resume={settings.resume} would change the run: {first_few(changes, 12)}; remove "
            "these overrides, start a new run, or resume anyway with resume_force=true"
        )
    return settings


def override_settings(
    former: Config, requested: dict[str, Any], overrides: Sequence[str]
) -> Config:
    """Return the settings of a run, changed by the command line only, and checked together.

    Args:
        former: Settings of the run.
        requested: Plain settings composed from ``conf`` and the whole command line.
        overrides: The command line; only the keys it names are taken from ``requested``.

    Raises:
        ValueError: If a setting is wrong.
    """
    keys = [override.lstrip("+~").split("=")[0].split("@")[0] for override in overrides]
    keys = [key for key in keys if key != "run_dir" and not key.startswith("hydra")]
    if "experiment" in keys:  # it may set any key
        keys = [field.name for field in dataclasses.fields(Config) if field.name != "run_dir"]
    plain = dataclasses.asdict(former)
    for key in keys:
        _copy_value(plain, requested, key.split("."))
    return plain_to_config(plain)


def result_changes(former: Config, current: Config) -> list[str]:
    """Return the settings that differ and may change a result, ``key old -> new`` each."""
    before, after = dict(flatten_settings(former)), dict(flatten_settings(current))
    return [
        f"{key} {before.get(key)} -> {after.get(key)}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key) and not is_result_neutral(key)
    ]


def is_result_neutral(key: str) -> bool:
    """Return whether a setting cannot change a result."""
    return any(f"{key}.".startswith(f"{neutral}.") for neutral in RESULT_NEUTRAL)


def flatten_settings(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with its full key; of a mapping to groups also the list of names."""
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from flatten_settings(value, f"{key}.")
        elif isinstance(value, dict) and any(map(dataclasses.is_dataclass, value.values())):
            yield key, list(value)
            for name, group in value.items():
                yield from flatten_settings(group, f"{key}.{name}.")
        else:
            yield key, value


def _copy_value(settings: dict[str, Any], source: dict[str, Any], path: list[str]) -> None:
    """Copy the value at a path from ``source``; remove it if an override ~key removed it there."""
    name, *rest = path
    if name not in source:
        settings.pop(name, None)
    elif rest and isinstance(settings.get(name), dict):
        _copy_value(settings[name], source[name], rest)
    else:
        settings[name] = source[name]

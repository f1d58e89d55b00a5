"""Going on with a run: which settings may change on the way, and which would make it another."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from birdmix.app.schema import Config
from birdmix.suggest import first_few

#: What cannot change a result, or is checked where it matters (the recordings by their digest).
#: ``data.memory_gib`` is not here: memory holds 16 bits, files may hold more.
HARMLESS = (
    *("resume", "resume_force", "run_dir", "loggers", "checkpoint"),
    *("data.num_workers", "data.root", "data.table", "data.max_bad_fraction", "data.cache_dir"),
    *("data.exclude", "data.follow_links"),
    *("trainer.accelerator", "trainer.max_time"),
    *("validation.threshold", "validation.target_precision"),  # fitted when all is trained
)


def resumed(own: Config, asked: Config, overrides: Sequence[str]) -> Config:
    """Return the settings to go on with: the run's own, but for what the command line says.

    Args:
        own: Settings of the run.
        asked: Settings as the whole command line makes them.
        overrides: The command line; only what it names is taken from ``asked``.

    Raises:
        ValueError: If a result would change and ``resume_force`` is not set; it lists what differs.
    """
    keys = [each.lstrip("+~").split("=")[0].split("@")[0] for each in overrides]
    keys = [key for key in keys if key != "run_dir" and not key.startswith("hydra")]
    if "experiment" in keys:  # it may set anything
        keys = [field.name for field in dataclasses.fields(Config) if field.name != "run_dir"]
    settings = dataclasses.replace(own, resume=asked.resume, resume_force=asked.resume_force)
    for key in keys:
        settings = _replaced(settings, asked, key.split("."))
    changes = harmful_changes(own, settings)
    if changes and not settings.resume_force:
        raise ValueError(
            f"resume={settings.resume} would change the run: {first_few(changes, 12)}; leave that "
            "out, start a new run, or go on nevertheless with resume_force=true"
        )
    return settings


def harmful_changes(one: Config, two: Config) -> list[str]:
    """List the settings that differ and may change a result: ``key old -> new``."""
    before, after = dict(flat(one)), dict(flat(two))
    return [
        f"{key} {before.get(key)} -> {after.get(key)}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key) and not is_harmless(key)
    ]


def is_harmless(key: str) -> bool:
    """Tell whether a setting cannot change a result."""
    return any(f"{key}.".startswith(f"{harmless}.") for harmless in HARMLESS)


def flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with its full key."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def _replaced(settings: Any, source: Any, path: list[str]) -> Any:
    """Return settings with the value at a path taken from ``source``."""
    name, *rest = path
    if isinstance(settings, dict):
        return {**settings, name: source[name]}
    value = getattr(source, name)
    return dataclasses.replace(
        settings, **{name: _replaced(getattr(settings, name), value, rest) if rest else value}
    )

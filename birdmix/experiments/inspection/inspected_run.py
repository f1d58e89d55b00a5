"""The run whose batches are inspected: its settings, and a position in it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from birdmix.config.composition import compose_plain, plain_to_config
from birdmix.config.resume_policy import override_settings, result_changes
from birdmix.config.run_config_file import CONFIG, read_config
from birdmix.config.schema import Config
from birdmix.messages import first_few

_RUN = "run="


def read_inspected_config(overrides: Sequence[str]) -> Config:
    """Return the settings of the run to inspect, without what inspection does not need.

    Args:
        overrides: Overrides as for ``birdmix train``; ``run=RUN_DIR``, or a file of settings in a
            run directory, takes the settings of that run.

    Raises:
        ValueError: If a setting is wrong, or an override would change what the run draws.
    """
    runs = [override for override in overrides if override.startswith(_RUN)]
    others = [override for override in overrides if not override.startswith(_RUN)]
    requested = compose_plain(others)
    if requested["resume"] is not None:
        raise ValueError(f"resume={requested['resume']}: write run= to inspect the mixes of a run")
    if not runs:
        config = plain_to_config(requested)
    elif len(runs) > 1:
        raise ValueError(f"{' and '.join(runs)}: name one run")
    else:
        config = _config_of_run(Path(runs[0].removeprefix(_RUN)), runs[0], others, requested)
    # No weights are loaded and nothing is logged.
    model = replace(config.model, pretrained=False, weights=None)
    return replace(config, model=model, init_from=None, loggers=[], run_dir=".")


def _config_of_run(path: Path, run: str, overrides: list[str], requested: dict) -> Config:
    """Return the settings of a run, with overrides that change no batch."""
    former = read_config(path.parent, path.name) if path.is_file() else read_config(path, CONFIG)
    config = override_settings(former, requested, overrides)
    changes = result_changes(former, config)
    if changes:
        raise ValueError(
            f"{run}: other settings would show batches of another run: {first_few(changes, 12)}; "
            "remove these overrides, or run="
        )
    return config


def earlier_settings(overrides: Sequence[str]) -> list[str]:
    """Return the names of the files with earlier settings of the run that ``run=`` names.

    Such a file is written when a run is resumed with other settings (``resume_force``).
    """
    folders = [Path(each.removeprefix(_RUN)) for each in overrides if each.startswith(_RUN)]
    return sorted(
        file.name for folder in folders for file in folder.glob("config.until-step-*.yaml")
    )


def parse_position(text: str, num_epochs: int) -> tuple[int, int]:
    """Return epoch and batch, both from 0, of a position in a run.

    Args:
        text: EPOCH:BATCH, both from 1.
        num_epochs: Epochs of the run.

    Raises:
        ValueError: If it has another form or lies in no epoch of the run.
    """
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if match is None:
        raise ValueError(f"--at={text}: write EPOCH:BATCH, both counted from 1, for example 3:12")
    epoch, batch = int(match[1]), int(match[2])
    if not 1 <= epoch <= num_epochs or batch < 1:
        raise ValueError(
            f"--at={text}: the run has epochs 1 to {num_epochs}, with batches from 1 on"
        )
    return epoch - 1, batch - 1

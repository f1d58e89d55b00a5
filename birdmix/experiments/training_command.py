"""The training command, ``birdmix train`` or ``python train.py``: a run, or a sweep (``-m``)."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from birdmix.config import schema
from birdmix.config.conf_folders import check_config_dir, packaged_conf
from birdmix.config.config_errors import one_line_hydra_errors
from birdmix.config.hydra_folders import NewFolderRecorder
from birdmix.config.overrides import move_flags_first, quote_arguments
from birdmix.config.resume_policy import new_or_resumed_config
from birdmix.experiments.sweep import record_and_continue_on_error
from birdmix.files import remove_empty_on_error
from birdmix.user_errors import one_line_errors, replace_unencodable_output


def train(arguments: Sequence[str]) -> None:
    """Train, or print help or settings, as Hydra's command line says; errors are one line.

    Args:
        arguments: Overrides, ``key=value``, and Hydra's flags, such as ``--help``, ``-m`` and
            ``--config-dir``.
    """
    replace_unencodable_output()
    schema.register()
    with one_line_errors():
        sys.argv[1:] = move_flags_first(quote_arguments(arguments))  # where Hydra reads them
    with one_line_hydra_errors():
        command = hydra.main(
            version_base="1.3", config_path=str(packaged_conf()), config_name="config"
        )
        command(_train_composed)()


def _train_composed(composed: DictConfig) -> None:
    """Train one run, or one of a sweep; called by Hydra with the composed configuration."""
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    # Not resolved here: new_or_resumed_config reports an invalid ${...} with its key.
    overrides = cast(list[str], OmegaConf.to_container(hydra_config.overrides.task, resolve=False))
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    sweep = record_and_continue_on_error(directory, overrides) if in_sweep else nullcontext()
    with one_line_errors(), remove_empty_on_error(NewFolderRecorder.folders), sweep:
        for source in hydra_config.runtime.config_sources:
            if source.provider == "command-line":  # --config-dir
                check_config_dir(Path(source.path))
        config = new_or_resumed_config(composed, overrides)
        from birdmix.experiments.run import run  # after the check: timm and lightning take seconds

        run(config, directory)

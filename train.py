"""Train a bird-call classifier. ``python train.py`` trains on a demo; ``--help`` shows the rest."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from birdmix.config import schema
from birdmix.config.config_errors import one_line_hydra_errors
from birdmix.config.hydra_folders import NewFolderRecorder
from birdmix.config.overrides import quote_arguments
from birdmix.config.resume_policy import new_or_resumed_config
from birdmix.experiments.sweep import record_and_continue_on_error
from birdmix.files import remove_empty_on_error
from birdmix.user_errors import one_line_errors, replace_unencodable_output

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(composed: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    # Not resolved here: new_or_resumed_config reports an invalid ${...} with its key.
    overrides = cast(list[str], OmegaConf.to_container(hydra_config.overrides.task, resolve=False))
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    sweep = record_and_continue_on_error(directory, overrides) if in_sweep else nullcontext()
    with one_line_errors(), remove_empty_on_error(NewFolderRecorder.folders), sweep:
        config = new_or_resumed_config(composed, overrides)
        from birdmix.experiments.run import run  # after the check: timm and lightning take seconds

        run(config, directory)


if __name__ == "__main__":
    replace_unencodable_output()
    with one_line_errors():
        sys.argv[1:] = quote_arguments(sys.argv[1:])
    with one_line_hydra_errors():
        train()

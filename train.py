"""Train a bird-call classifier. ``python train.py`` trains on a demo; ``--help`` shows the rest."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from birdmix.app import schema
from birdmix.app.configure import configure, one_line_hydra_errors
from birdmix.app.errors import one_line_errors, replace_what_output_lacks
from birdmix.app.new_folders import NewFolders
from birdmix.app.overrides import typed_arguments
from birdmix.app.sweep import one_of_many
from birdmix.files import removed_if_empty

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(composed: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    # As typed: to resolve ${...} is for configure, which names the key.
    overrides = cast(list[str], OmegaConf.to_container(hydra_config.overrides.task, resolve=False))
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    sweep = one_of_many(directory, overrides) if in_sweep else nullcontext()
    with one_line_errors(), removed_if_empty(NewFolders.folders), sweep:
        config = configure(composed, overrides)
        from birdmix.app.run import run  # after the check: timm and lightning take seconds

        run(config, directory)


if __name__ == "__main__":
    replace_what_output_lacks()
    with one_line_errors():
        sys.argv[1:] = typed_arguments(sys.argv[1:])
    with one_line_hydra_errors():
        train()

"""Train a bird-call classifier. ``python train.py`` trains on a demo; ``--help`` shows the rest."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from birdmix.app import schema
from birdmix.app.configure import configure, one_line_errors

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(composed: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    with one_line_errors(directory):
        config = configure(composed, list(hydra_config.overrides.task))
        from birdmix.app.run import run  # after the check: torch, timm and lightning take seconds

        run(config, directory)


if __name__ == "__main__":
    with one_line_errors():
        train()

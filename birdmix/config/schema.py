"""The schema of the configuration: the settings of all packages, nested, with their defaults."""

import functools
from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from birdmix.augment.settings import AugmentSettings
from birdmix.frontend.settings import FrontendSettings
from birdmix.messages import check_choice, training_command
from birdmix.mix.settings import MixSettings
from birdmix.model.loss_settings import LossSettings
from birdmix.model.optim_settings import OptimSettings
from birdmix.model.settings import ModelSettings
from birdmix.recordings.settings import DataSettings
from birdmix.training.settings import (
    LOGGERS,
    CheckpointSettings,
    TrainerSettings,
    ValidationSettings,
)


@dataclass
class Config:
    """A training run.

    Attributes:
        seed: Seed of all random choices.
        run_dir: Directory the run writes to.
        init_from: Warm start: run directory or bundle whose weights a new run starts from (those
            of the checkpoint, if that run has not ended); null: the weights that ``model`` names.
        resume: Run directory to resume; null starts a new run.
        resume_force: Resume with changed settings or data; the result is then that of neither
            configuration.
        loggers: Loggers of metrics besides ``metrics.csv``: tensorboard, wandb, mlflow.
    """

    seed: int = 0
    run_dir: str = MISSING
    init_from: str | None = None
    resume: str | None = None
    resume_force: bool = False
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    data: DataSettings = field(default_factory=DataSettings)
    frontend: FrontendSettings = field(default_factory=FrontendSettings)
    mix: MixSettings = field(default_factory=MixSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: it cannot be negative")
        length = self.data.segment_seconds
        self.frontend.log_mel.check_input_seconds(length, f"data.segment_seconds={length:g}")
        try:
            self.augment.check_log_mel(self.frontend.log_mel)
        except ValueError as error:
            raise ValueError(f"augment.{error}") from error
        if self.init_from is not None and (self.model.pretrained or self.model.weights):
            raise ValueError(
                f"init_from={self.init_from}: its weights would replace those of model.pretrained "
                "and model.weights; set them to false and null"
            )
        for name in self.loggers:
            check_choice("loggers", name, LOGGERS)


@functools.cache
def register() -> None:
    """Register the schema with Hydra as ``schema``, the first default of ``conf/config.yaml``."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("birdmix.either", lambda a, b: a or b, replace=True)
    OmegaConf.register_new_resolver("birdmix.command", training_command, replace=True)

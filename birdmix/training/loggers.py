"""Loggers for metrics, figures and sounds: TensorBoard, Weights & Biases and MLflow.

API keys and server addresses come from the services' own environment variables, never from the
configuration, because that is saved with the run.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import from_numpy
from torchvision.io import read_image

from birdmix.training.run_position import TrainingHook


@dataclass(frozen=True)
class RunMedia:
    """Figures, sounds and a table that are logged at the end of a run.

    Attributes:
        figures: PNG files, by title.
        sounds: Waveforms of the first mixed batch, float32 [T] each.
        sample_rate: Sample rate of the sounds, in Hz.
        table: Metrics per class, in Markdown; empty if nothing was evaluated.
    """

    figures: Mapping[str, Path]
    sounds: Sequence[np.ndarray]
    sample_rate: int
    table: str


def check_loggers_installed(names: Sequence[str]) -> None:
    """Check that the packages of loggers are installed.

    Raises:
        ValueError: If one is not.
    """
    for name in names:
        if find_spec(name) is None:
            raise ValueError(_not_installed(name, f"No module named '{name}'"))


def _not_installed(name: str, detail: object) -> str:
    return (
        f"loggers={name} needs a package that is not installed ({detail}); "
        "run: pip install 'birdmix[loggers]'"
    )


class RunLogger(TrainingHook):
    """Training hook that logs all metrics of an epoch.

    Args:
        name: tensorboard, wandb or mlflow.
        run: Run directory; local files of the logger are written below it.
        epochs_done: Finished epochs of a resumed run; later epochs that TensorBoard holds, logged
            before a kill, are replaced.

    Raises:
        ValueError: If the logger's package is not installed.
    """

    def __init__(self, name: str, run: Path, epochs_done: int = 0) -> None:
        try:
            self.name, self.logger = name, _open_logger(name, run, epochs_done)
        except ModuleNotFoundError as error:
            raise ValueError(_not_installed(name, error)) from error

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Log the epoch's metrics and phase times."""
        values = {
            name: value
            for name, value in metrics.items()
            if name != "epoch" and math.isfinite(value)  # an epoch without mixes has no quantiles
        }
        values |= {f"seconds/{phase}": value for phase, value in seconds.items()}
        self.logger.log_metrics(values, step=int(metrics["epoch"]))
        self.logger.save()

    def log_media(self, media: RunMedia, epoch: int) -> None:
        """Log figures, sounds and the table of a run.

        MLflow does not play sounds and gets only figures and table.

        Args:
            media: Figures, sounds and table.
            epoch: Number of finished epochs.
        """
        {
            "tensorboard": _log_to_tensorboard,
            "wandb": _log_to_wandb,
            "mlflow": _log_to_mlflow,
        }[self.name](self.logger, media, epoch)
        self.logger.save()


def _open_logger(name: str, run: Path, epochs_done: int) -> Any:
    if name == "tensorboard":
        from lightning.fabric.loggers import TensorBoardLogger

        return TensorBoardLogger(run, name="", version="tensorboard", purge_step=epochs_done + 1)
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

    if name == "wandb":
        return WandbLogger(project="birdmix", name=run.name, save_dir=run)
    if server := os.environ.get("MLFLOW_TRACKING_URI"):
        return MLFlowLogger("birdmix", run.name, server)
    return MLFlowLogger(
        "birdmix",
        run.name,
        f"sqlite:///{run.absolute() / 'mlflow.db'}",
        artifact_location=(run.absolute() / "mlflow").as_uri(),
    )


def _log_to_tensorboard(logger: Any, media: RunMedia, epoch: int) -> None:
    writer = logger.experiment
    for title, file in media.figures.items():
        writer.add_image(title, read_image(str(file)), epoch)
    for index, sound in enumerate(media.sounds):
        writer.add_audio(f"mixed sounds/{index}", from_numpy(sound)[None], epoch, media.sample_rate)
    if media.table:
        writer.add_text("classes", media.table, epoch)


def _log_to_wandb(logger: Any, media: RunMedia, epoch: int) -> None:
    for title, file in media.figures.items():
        logger.log_image(title, [str(file)], epoch)
    rates = [media.sample_rate] * len(media.sounds)
    logger.log_audio("mixed sounds", list(media.sounds), epoch, sample_rate=rates)
    if media.table:
        logger.log_text("classes", ["table"], [[media.table]], step=epoch)


def _log_to_mlflow(logger: Any, media: RunMedia, epoch: int) -> None:
    for file in media.figures.values():
        logger.experiment.log_artifact(logger.run_id, str(file))
    if media.table:
        logger.experiment.log_text(logger.run_id, media.table, "classes.md")

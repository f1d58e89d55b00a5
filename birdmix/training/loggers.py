"""Where a run's figures go besides ``metrics.csv``, and in the end its pictures, sounds and table.

Keys and addresses of the services come from their own environment variables, never from a
configuration, which is saved.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import from_numpy
from torchvision.io import read_image

from birdmix.training.position import Position


@dataclass(frozen=True)
class Showing:
    """What is to be seen and heard of a run when it is over.

    Attributes:
        pictures: PNG files, by what they show.
        sounds: Waveforms of the first mixed batch, float32 [T] each.
        sample_rate: Of the sounds, in Hz.
        table: The classes one by one, in Markdown; empty if nothing was judged.
    """

    pictures: Mapping[str, Path]
    sounds: Sequence[np.ndarray]
    sample_rate: int
    table: str


class RunLogger:
    """Hand every figure of an epoch to a logger; a hook of the loop.

    Args:
        name: tensorboard, wandb or mlflow.
        run: Run directory; local files of the logger stand below it.
        epochs_done: Of a run that goes on; what TensorBoard was told of later ones before a kill
            gives way to what it is told now.

    Raises:
        ValueError: If its package is not installed.
    """

    def __init__(self, name: str, run: Path, epochs_done: int = 0) -> None:
        try:
            self.name, self.logger = name, _open(name, run, epochs_done)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"loggers={name} needs a package that is not installed ({error}); "
                "run: pip install -e '.[loggers]'"
            ) from error

    def on_batch(self, position: Position, num_samples: int) -> None:
        """Nothing to write."""

    def on_validation(self) -> None:
        """Nothing to write."""

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Write the epoch's figures."""
        figures = {
            name: value
            for name, value in metrics.items()
            if name != "epoch" and math.isfinite(value)  # an epoch without mixes has no quantiles
        }
        figures |= {f"seconds/{part}": value for part, value in seconds.items()}
        self.logger.log_metrics(figures, step=int(metrics["epoch"]))
        self.logger.save()

    def show(self, showing: Showing, epoch: int) -> None:
        """Write what is to be seen and heard of the run after its last epoch.

        MLflow, which plays no sound, gets the pictures and the table.
        """
        {"tensorboard": _to_tensorboard, "wandb": _to_wandb, "mlflow": _to_mlflow}[self.name](
            self.logger, showing, epoch
        )
        self.logger.save()


def _open(name: str, run: Path, epochs_done: int) -> Any:
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


def _to_tensorboard(logger: Any, showing: Showing, epoch: int) -> None:
    writer = logger.experiment
    for name, picture in showing.pictures.items():
        writer.add_image(name, read_image(str(picture)), epoch)
    for index, sound in enumerate(showing.sounds):
        writer.add_audio(
            f"mixed sounds/{index}", from_numpy(sound)[None], epoch, showing.sample_rate
        )
    if showing.table:
        writer.add_text("classes", showing.table, epoch)


def _to_wandb(logger: Any, showing: Showing, epoch: int) -> None:
    for name, picture in showing.pictures.items():
        logger.log_image(name, [str(picture)], epoch)
    rates = [showing.sample_rate] * len(showing.sounds)
    logger.log_audio("mixed sounds", list(showing.sounds), epoch, sample_rate=rates)
    if showing.table:
        logger.log_text("classes", ["table"], [[showing.table]], step=epoch)


def _to_mlflow(logger: Any, showing: Showing, epoch: int) -> None:
    for picture in showing.pictures.values():
        logger.experiment.log_artifact(logger.run_id, str(picture))
    if showing.table:
        logger.experiment.log_text(logger.run_id, showing.table, "classes.md")

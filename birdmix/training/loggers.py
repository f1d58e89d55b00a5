"""Where an epoch's figures go besides ``metrics.csv``.

Keys and addresses of the services come from their own environment variables, never from a
configuration, which is saved.
"""

import math
import os
from pathlib import Path
from typing import Any

from birdmix.training.position import Position


class EpochLogger:
    """Hand every figure of an epoch to a logger; a hook of the loop.

    Args:
        name: tensorboard, wandb or mlflow.
        run: Run directory; local files of the logger stand below it.

    Raises:
        ValueError: If its package is not installed.
    """

    def __init__(self, name: str, run: Path) -> None:
        try:
            self.logger = _open(name, run)
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


def _open(name: str, run: Path) -> Any:
    if name == "tensorboard":
        from lightning.fabric.loggers import TensorBoardLogger

        return TensorBoardLogger(run, name="", version="tensorboard")
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

    if name == "wandb":
        return WandbLogger(project="birdmix", name=run.name, save_dir=run)
    server = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{run.absolute() / 'mlflow.db'}")
    return MLFlowLogger(experiment_name="birdmix", run_name=run.name, tracking_uri=server)

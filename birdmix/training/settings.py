"""How long, on what, and how often a run trains, validates and saves."""

from dataclasses import dataclass

from birdmix.suggest import check_choice

#: Where an epoch's figures can go besides ``metrics.csv``.
LOGGERS = ("tensorboard", "wandb", "mlflow")

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


@dataclass
class TrainerSettings:
    """What people turn, by the names that Lightning's users know.

    Attributes:
        max_epochs: Epochs.
        accelerator: auto, cpu, gpu or mps.
        precision: 32-true, 16-mixed or bf16-mixed.
        accumulate: Batches whose gradients make one optimizer step.
        clip: Largest gradient norm; null does not clip.
        channels_last: Memory layout of the network; faster for most of timm's.
    """

    max_epochs: int = 40
    accelerator: str = "auto"
    precision: str = "32-true"
    accumulate: int = 1
    clip: float | None = 5.0
    channels_last: bool = True

    def __post_init__(self) -> None:
        check_choice("accelerator", self.accelerator, ("auto", "cpu", "gpu", "mps"))
        check_choice("precision", self.precision, PRECISIONS)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip}: it must be above 0; null does not clip")
        for name in ("max_epochs", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")


@dataclass
class CheckpointSettings:
    """When a run saves; at the end of every epoch it always does.

    Attributes:
        every_minutes: Longest time between saves, so the most that a kill can cost.
    """

    every_minutes: float = 5.0

    def __post_init__(self) -> None:
        if not self.every_minutes > 0:
            raise ValueError(f"every_minutes={self.every_minutes}: it must be above 0")


@dataclass
class ValidationSettings:
    """What a run is judged by meanwhile.

    Attributes:
        max_windows: Most windows heard of one held-out recording.
    """

    max_windows: int = 12

    def __post_init__(self) -> None:
        if self.max_windows < 1:
            raise ValueError(f"max_windows={self.max_windows}: it must be at least 1")

"""How long, on what, and how often a run trains, validates and saves."""

from dataclasses import dataclass

from birdmix.duration import seconds_of
from birdmix.suggest import check_choice

#: Where an epoch's figures can go besides ``metrics.csv``.
LOGGERS = ("tensorboard", "wandb", "mlflow")

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


@dataclass
class TrainerSettings:
    """What people turn, by the names that Lightning's users know.

    Attributes:
        max_epochs: Epochs.
        max_time: Longest time that this process may train (90m, 8h30m, 00:08:30:00); then it
            saves and ends. null has no limit.
        accelerator: auto, cpu, gpu or mps. How many: as many as torchrun or SLURM starts processes.
        precision: 32-true, 16-mixed or bf16-mixed.
        accumulate: Batches whose gradients make one optimizer step.
        clip: Largest gradient norm; null does not clip.
        channels_last: Memory layout of the network; faster for most of timm's.
        compile: Compile the backbone (torch.compile); its first steps take minutes.
        deterministic: Use deterministic algorithms only, or fail. On a CPU all of ours are.
        sync_batch_norm: Batch norms see the whole batch of several GPUs, not each its share.
    """

    max_epochs: int = 40
    max_time: str | None = None
    accelerator: str = "auto"
    precision: str = "32-true"
    accumulate: int = 1
    clip: float | None = 5.0
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.max_time is not None:
            try:
                seconds_of(self.max_time)
            except ValueError as error:
                raise ValueError(f"max_time={error}") from error
        check_choice("accelerator", self.accelerator, ("auto", "cpu", "gpu", "mps"))
        check_choice("precision", self.precision, PRECISIONS)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip}: it must be above 0; null does not clip")
        for name in ("max_epochs", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")


@dataclass
class CheckpointSettings:
    """When a run saves, and which of its epochs are kept.

    It also saves at the end of an epoch, where that costs next to nothing. Nothing in a run's
    results depends on when it was saved.

    Attributes:
        every_minutes: Longest time between saves, so the most that a kill can cost.
        every_steps: Most optimizer steps between saves; null has no limit.
        best_k: Bundles kept of the best epochs by ``validation.monitor``.
        bundle: The epoch that the run's own bundle holds: last or best.
    """

    every_minutes: float = 5.0
    every_steps: int | None = None
    best_k: int = 0
    bundle: str = "last"

    def __post_init__(self) -> None:
        check_choice("bundle", self.bundle, ("last", "best"))
        if not self.every_minutes > 0:
            raise ValueError(f"every_minutes={self.every_minutes}: it must be above 0")
        if self.every_steps is not None and self.every_steps < 1:
            raise ValueError(f"every_steps={self.every_steps}: at least 1; null has no limit")
        if self.best_k < 0:
            raise ValueError(f"best_k={self.best_k}: it cannot be negative")
        if self.bundle == "best" and not self.best_k:
            raise ValueError("bundle=best: no epoch is kept; set checkpoint.best_k=1 as well")


@dataclass
class ValidationSettings:
    """What a run is judged by meanwhile.

    Attributes:
        max_windows: Most windows heard of one held-out recording, or part of one, that is labelled
            as a whole; of one with marked events all are.
        monitor: Figure of ``metrics.csv`` that tells better epochs from worse; losses and
            errors are better lower, others higher. null is the macro ROC-AUC of the last set
            validated on.
        patience: Epochs without a better figure after which a run ends; null trains them all.
        threshold: What the bundle's thresholds are fitted for on the last set validated on: f1, the
            best of each class, or precision, the lowest that reaches ``target_precision``.
        target_precision: Share of a class's calls that are to be right, in (0, 1].
    """

    max_windows: int = 12
    monitor: str | None = None
    patience: int | None = None
    threshold: str = "f1"
    target_precision: float = 0.9

    def __post_init__(self) -> None:
        check_choice("threshold", self.threshold, ("f1", "precision"))
        if not 0 < self.target_precision <= 1:
            raise ValueError(f"target_precision={self.target_precision}: it must be in (0, 1]")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience={self.patience}: at least 1; null trains every epoch")
        if self.max_windows < 1:
            raise ValueError(f"max_windows={self.max_windows}: it must be at least 1")

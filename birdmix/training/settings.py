"""Settings of the trainer, of checkpoints and of validation."""

from dataclasses import dataclass

from birdmix.duration import parse_duration
from birdmix.messages import check_choice

#: Loggers of metrics, besides ``metrics.csv``.
LOGGERS = ("tensorboard", "wandb", "mlflow")

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")

MATMUL_PRECISIONS = ("highest", "high", "medium")


@dataclass
class TrainerSettings:
    """Settings of the training loop, named as in Lightning.

    Attributes:
        max_epochs: Number of epochs.
        max_time: Time limit of this process (90m, 8h30m, 00:08:30:00); then the run is
            saved and stopped. null is no limit.
        accelerator: auto, cpu, gpu or mps; one device for each process that torchrun or SLURM
            starts.
        precision: 32-true, 16-mixed or bf16-mixed.
        matmul_precision: Precision of products of float32 matrices on a GPU, as torch names it:
            highest; high, which uses tensor cores if there are any (TF32, which changes log-mels by
            some thousandths of a dB); or medium (bfloat16).
        accumulate: Batches per optimizer step; their gradients are accumulated.
        clip: Largest gradient norm; null does not clip.
        channels_last: Use the channels-last memory layout; faster for most networks of timm.
        compile: Compile the backbone (torch.compile); the first steps take minutes.
        deterministic: Use deterministic algorithms only, or fail. On a CPU all are deterministic.
        sync_batch_norm: Compute batch norms over the batch of all GPUs, not over the share of each.
    """

    max_epochs: int = 40
    max_time: str | None = None
    accelerator: str = "auto"
    precision: str = "32-true"
    matmul_precision: str = "high"
    accumulate: int = 1
    clip: float | None = 5.0
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.max_time is not None:
            try:
                parse_duration(self.max_time)
            except ValueError as error:
                raise ValueError(f"max_time={error}") from error
        check_choice("accelerator", self.accelerator, ("auto", "cpu", "gpu", "mps"))
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("matmul_precision", self.matmul_precision, MATMUL_PRECISIONS)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip}: it must be above 0; null does not clip")
        for name in ("max_epochs", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")


@dataclass
class CheckpointSettings:
    """Settings of checkpoints and bundles.

    A checkpoint is also written at the end of an epoch if that takes at most 1 % of the time. The
    results of a run do not depend on when it was saved.

    Attributes:
        every_minutes: Longest time between checkpoints, which limits what a kill can lose.
        every_steps: Most optimizer steps between checkpoints; null is no limit.
        best_k: Number of best epochs by ``validation.monitor`` whose bundles are kept.
        bundle: Epoch of the run's own bundle: last or best.
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
    """Settings of validation, early stopping and thresholds.

    Attributes:
        max_windows: Most windows predicted per held-out recording, or part of one, that is labelled
            as a whole; recordings with annotated events are predicted entirely.
        monitor: Metric of ``metrics.csv`` that ranks epochs; lower is better for losses and errors,
            higher for others. null is the macro ROC-AUC of the last validation set.
        patience: Epochs without improvement of that metric until training stops; null never stops.
        threshold: Objective of the bundle's thresholds on the last validation set: f1, the best F1
            of each class, or precision, the lowest threshold that reaches ``target_precision``.
        target_precision: Precision to reach with threshold=precision, in (0, 1].
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

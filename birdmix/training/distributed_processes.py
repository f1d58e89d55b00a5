"""The processes of a run (one, or those of torchrun or SLURM) and communication between them."""

import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from birdmix.training.settings import TrainerSettings
from birdmix.training.view_loss import ViewLoss

T = TypeVar("T")

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3

# Errors of gloo and NCCL when another process is lost.
_LOST_CONNECTION = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|remote process", re.I
)


@dataclass(frozen=True)
class Processes:
    """This process and the others of a run; by default a single one.

    Attributes:
        fabric: Device and precision of this process.
        rank: Rank of this process, from 0; rank 0 writes the files.
        size: Number of processes.
        group: Process group (gloo) for values on the host, which does not wait for a device.
    """

    fabric: Fabric
    rank: int = 0
    size: int = 1
    group: Any = None

    def as_single_process(self) -> "Processes":
        """Return this process as a single one, for work that only one process does."""
        return Processes(self.fabric)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes the files."""
        return self.rank == 0

    @contextmanager
    def shorten_lost_process_errors(self) -> Iterator[None]:
        """Turn torch's errors about a lost process, which are many lines, into one line.

        Raises:
            ValueError: If the connection to another process is lost.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _LOST_CONNECTION.search(str(error)):
                raise
            raise ValueError(
                f"process {self.rank} of 0 .. {self.size - 1} lost the connection to another one, "
                "which was killed or failed; the last checkpoint is unchanged"
            ) from error

    def maximum(self, value: int) -> int:
        """Return the maximum of a value over all processes."""
        if self.size == 1:
            return value
        values = torch.tensor(value)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return int(values)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def combine_losses(self, views: Sequence[ViewLoss]) -> tuple[Tensor, Tensor]:
        """Combine the losses of all views and of all processes' shares of a batch.

        The loss of a view of the whole batch is the weighted mean over its shares; the loss of the
        batch is the sum over views, each times its ``view_weight``.

        Args:
            views: The views of this process's share, the same ones in all processes.

        Returns:
            The loss to backpropagate, scaled so that gradients averaged over the processes are
            those of the whole batch; and the loss of the whole batch, detached.
        """
        losses = torch.stack([view.view_weight * view.loss for view in views])
        if self.size == 1:
            loss = losses.sum()
            return loss, loss.detach()
        weights = torch.stack([view.sum_of_weights for view in views])
        sums = torch.stack([losses.detach() * weights, weights])
        dist.all_reduce(sums)
        totals = sums[1].clamp(min=torch.finfo(sums.dtype).eps)
        return (losses * (weights * self.size / totals)).sum(), (sums[0] / totals).sum()

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the buffers of rank 0 (running means and variances) to all processes."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def single_cpu_process() -> Processes:
    """Return a single process on the CPU, to examine a run without training it."""
    return Processes(Fabric(accelerator="cpu", devices=1))


def connect_processes(settings: TrainerSettings) -> Processes:
    """Set up the device and precision of this process, and connect to the other processes.

    Args:
        settings: Accelerator, precision and determinism.

    Raises:
        ValueError: If the machine has no such device.
    """
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    per_node, num_nodes = _num_processes()
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=per_node,
            num_nodes=num_nodes,
            strategy="ddp" if per_node * num_nodes > 1 else "auto",
            precision=settings.precision,  # type: ignore[arg-type]  # checked by its settings
        )
    except (RuntimeError, MisconfigurationException) as error:
        raise ValueError(
            f"trainer.accelerator={settings.accelerator} is not available here ({error}); "
            "use trainer.accelerator=auto, and no more processes than devices"
        ) from error
    if fabric.device.type == "cpu":
        keep_freed_host_memory()
    else:
        torch.set_float32_matmul_precision(settings.matmul_precision)
    fabric.launch()
    group = dist.new_group(backend="gloo") if fabric.world_size > 1 else None
    return Processes(fabric, fabric.global_rank, fabric.world_size, group)


def _num_processes() -> tuple[int, int]:
    """Return the number of processes per node and the number of nodes, as started."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        return per_node, int(os.environ["WORLD_SIZE"]) // per_node
    if "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ:
        num_nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // num_nodes, num_nodes
    return 1, 1


def keep_freed_host_memory() -> None:
    """Let glibc keep freed memory for the next optimizer step instead of returning it.

    Every step allocates the same memory again; returning the pages costs a sixth of the CPU time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library or operating system
        return
    for option, value in ((_M_MMAP_THRESHOLD, 32), (_M_TRIM_THRESHOLD, 2000), (_M_TOP_PAD, 64)):
        mallopt(option, value << 20)

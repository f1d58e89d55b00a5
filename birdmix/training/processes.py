"""The processes of a run: one, or as many as torchrun or SLURM started."""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from birdmix.training.settings import TrainerSettings

T = TypeVar("T")

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3

# How gloo and NCCL begin to tell that a process is gone.
_LOST = re.compile(r"connection (was )?(closed|reset|refused)|broken pipe|remote process", re.I)


@dataclass(frozen=True)
class Processes:
    """This process among the others; on its own unless told otherwise.

    Attributes:
        fabric: Device and precision of this one.
        rank: Of this process, from 0; the first one writes.
        size: Number of processes.
        group: Group for words between hosts, which never wait for a device.
    """

    fabric: Fabric
    rank: int = 0
    size: int = 1
    group: Any = None

    def alone(self) -> "Processes":
        """Return this process on its own, for what only one of them does."""
        return Processes(self.fabric)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say in one line that another process is lost, where torch says it in many.

        Raises:
            ValueError: Instead of torch's error.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _LOST.search(str(error)):
                raise
            raise ValueError(
                f"process {self.rank} of 0 .. {self.size - 1} lost another one, which was killed "
                "or failed; the last checkpoint stands as it was"
            ) from error

    def agree(self, wish: int) -> int:
        """Return the largest wish of all processes."""
        if self.size == 1:
            return wish
        wishes = torch.tensor(wish)
        dist.all_reduce(wishes, dist.ReduceOp.MAX, group=self.group)
        return int(wishes)

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def share_loss(self, loss: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the loss of this process's share of a batch into that of the whole batch.

        Args:
            loss: Mean over the samples of this process, weighted by ``weight``; a scalar.
            weight: Sum of their weights, a scalar.

        Returns:
            What to go backward from, so that gradients averaged over the processes are those of
            the whole batch; and the loss of the whole batch, detached.
        """
        if self.size == 1:
            return loss, loss.detach()
        sums = torch.stack([loss.detach() * weight, weight])
        dist.all_reduce(sums)
        total = sums[1].clamp(min=torch.finfo(sums.dtype).eps)
        return loss * (weight * self.size / total), sums[0] / total

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers (running means and variances)."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def open_processes(settings: TrainerSettings) -> Processes:
    """Open the device of this process, set the precision and meet the other processes.

    Raises:
        ValueError: If the machine has no such device.
    """
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    per_node, num_nodes = _launched()
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
            f"trainer.accelerator={settings.accelerator} is not to be had here ({error}); "
            "use trainer.accelerator=auto, and no more processes than devices"
        ) from error
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_freed_memory()
    group = dist.new_group(backend="gloo") if fabric.world_size > 1 else None
    return Processes(fabric, fabric.global_rank, fabric.world_size, group)


def _launched() -> tuple[int, int]:
    """Return how many processes were started on each node, and the number of nodes."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        return per_node, int(os.environ["WORLD_SIZE"]) // per_node
    if "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ:
        num_nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // num_nodes, num_nodes
    return 1, 1


def keep_freed_memory() -> None:
    """Let glibc keep the memory of one step for the next.

    Every step allocates the same again; pages handed back and forth cost a sixth of a CPU's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another libc, another system
        return
    for option, value in ((_M_MMAP_THRESHOLD, 32), (_M_TRIM_THRESHOLD, 2000), (_M_TOP_PAD, 64)):
        mallopt(option, value << 20)

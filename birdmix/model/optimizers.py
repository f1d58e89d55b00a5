"""The optimizer, its learning rate as a pure function of the step, and the weight average."""

import math

import timm.optim
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from birdmix.model.settings import OptimSettings
from birdmix.suggest import did_you_mean

Tensors = list[Tensor] | tuple[Tensor, ...]


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Make a timm optimizer; norms and biases get no weight decay.

    Raises:
        ValueError: If timm knows no such optimizer.
    """
    known = [str(name) for name in timm.optim.list_optimizers()]
    if settings.name not in known:
        raise ValueError(
            f"optim.name={settings.name!r} is no timm optimizer{did_you_mean(settings.name, known)}"
        )
    return timm.optim.create_optimizer_v2(
        model, opt=settings.name, lr=settings.lr, weight_decay=settings.weight_decay
    )


def lr_factor(step: int, num_steps: int, warmup_share: float) -> float:
    """Return the learning rate at a step as a share of its peak: linear warm-up, cosine to 0."""
    warmup = warmup_share * num_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(num_steps - warmup, 1)))


def weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """Make the exponential moving average of a model's weights and buffers.

    The decay warms up as (1 + n) / (10 + n) over the first updates, so that a short run does not
    keep its random start.
    """
    average = AveragedModel(model, use_buffers=True)

    @torch.no_grad()
    def update(averages: Tensors, values: Tensors, on_device: Tensor | int) -> None:
        # Its own count lies on the host; reading the one on the device would wait for the step.
        count = int(average.n_averaged)
        warm = min(decay, (1 + count) / (10 + count))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, values, 1 - warm)
        else:  # counters of batches seen
            torch._foreach_copy_(averages, values)

    average.multi_avg_fn = update
    return average

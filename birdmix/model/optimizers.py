"""The optimizer, what it leaves alone, its rate as a function of the step, the weight average."""

import math
from collections.abc import Iterable
from itertools import accumulate, chain

import timm.optim
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from birdmix.model.settings import OptimSettings
from birdmix.suggest import did_you_mean, first_line

# Peak over start of the one-cycle rate, as fastai and torch have it.
_ONE_CYCLE_START = 25

Tensors = list[Tensor] | tuple[Tensor, ...]


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Make a timm optimizer of what is not frozen; norms and biases get no weight decay.

    With ``layer_decay``, groups hold the factor of their rate as ``lr_scale``.

    Raises:
        ValueError: If timm knows no such optimizer, it cannot be had here or does not take an
            argument.
    """
    _check_optimizer(settings)
    try:
        return timm.optim.create_optimizer_v2(
            model,
            opt=settings.name,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            layer_decay=settings.layer_decay,
            **settings.args,
        )
    except Exception as error:  # of arguments, or of a library or device that is not here
        raise ValueError(
            f"optim.name={settings.name} cannot be made with optim.args={settings.args} "
            f"({first_line(error)})"
        ) from error


def _check_optimizer(settings: OptimSettings) -> None:
    """Refuse what timm would leave out without a word, or what would fail in the first step."""
    name, args = settings.name, settings.args
    known = [str(each) for each in timm.optim.list_optimizers()]
    if name not in known:
        hint = did_you_mean(name, known, "timm.optim.list_optimizers()")
        raise ValueError(f"optim.name={name!r} is no timm optimizer{hint}")
    info = timm.optim.get_optimizer_info(name)
    if info.second_order:
        raise ValueError(f"optim.name={name} needs gradients of gradients; choose another")
    takes = {"betas": info.has_betas, "eps": info.has_eps, "momentum": info.has_momentum}
    for each, is_taken in takes.items():
        if each in args and not is_taken:
            raise ValueError(f"optim.args.{each}: {name} takes no {each}; leave it out")
    betas = args.get("betas")
    if isinstance(betas, list | tuple) and len(betas) != info.num_betas:
        raise ValueError(f"optim.args.betas={list(betas)}: {name} takes {info.num_betas} of them")


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Let parts of a model keep their weights; ``rest_frozen`` keeps their statistics.

    Args:
        model: It is changed.
        parts: Names of parameters or of modules that hold some.

    Raises:
        ValueError: If there is no such part, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    beginnings = [list(accumulate(name.split("."), "{}.{}".format)) for name in names]
    known = sorted(dict.fromkeys(chain(*beginnings)), key=lambda name: name.count("."))
    for part in parts:
        if part not in known:
            raise ValueError(
                f"optim.freeze={part!r} is no part of this classifier{did_you_mean(part, known)}"
            )
        for name, parameter in model.named_parameters():
            if f"{name}.".startswith(f"{part}."):
                parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"optim.freeze={list(parts)} leaves nothing to train; name fewer parts")


def rest_frozen(model: nn.Module) -> None:
    """Set what is frozen as a whole to evaluation: norms keep their statistics, dropout rests."""
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(each.requires_grad for each in parameters):
            module.eval()


def lr_factor(step: int, num_steps: int, settings: OptimSettings) -> float:
    """Return the learning rate at a step as a share of its peak.

    It rises for ``warmup_share`` of the steps, linearly, and then goes from its peak to
    ``final_share`` of it: by half a cosine (cosine, one_cycle), by ``(1 - progress)^power``
    (polynomial), or stays (constant). The end is where the step after the last one would be.

    one_cycle rises by half a cosine from a 25th of the peak. Source: Smith and Topin 2018,
    arXiv:1708.07120, without its cycle of momentum, and with cosines for lines, as fastai has them.
    """
    warmup = settings.warmup_share * num_steps
    if step < warmup:
        if settings.schedule == "one_cycle":
            return 1 - (1 - 1 / _ONE_CYCLE_START) * _half_cosine(step, warmup)
        return (step + 1) / (warmup + 1)
    done, left = step - warmup, max(num_steps - warmup, 1)
    match settings.schedule:
        case "constant":
            return 1.0
        case "polynomial":
            above = (1 - done / left) ** settings.power
        case _:
            above = _half_cosine(done, left)
    return settings.final_share + (1 - settings.final_share) * above


def _half_cosine(done: float, of: float) -> float:
    """Return what falls from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * done / of))


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

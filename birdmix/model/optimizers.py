"""The optimizer, frozen parameters, and the weight average."""

from collections.abc import Iterable
from itertools import accumulate, chain

import timm.optim
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from birdmix.messages import did_you_mean, first_line
from birdmix.model.optim_settings import OptimSettings

Tensors = list[Tensor] | tuple[Tensor, ...]


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Build a timm optimizer of the parameters that are not frozen.

    Norms and biases get no weight decay. With ``layer_decay``, each parameter group holds the
    factor of its learning rate as ``lr_scale``.

    Args:
        model: Model to train.
        settings: Optimizer, its arguments and rates.

    Raises:
        ValueError: If timm has no such optimizer, it is not available on this machine, or it does
            not accept an argument.
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
    except Exception as error:  # of wrong arguments, or a missing library or device
        raise ValueError(
            f"optim.name={settings.name} cannot be built with optim.args={settings.args} "
            f"({first_line(error)})"
        ) from error


def _check_optimizer(settings: OptimSettings) -> None:
    """Refuse arguments that timm would ignore silently, or that would fail in the first step."""
    name, args = settings.name, settings.args
    available = [str(optimizer) for optimizer in timm.optim.list_optimizers()]
    if name not in available:
        hint = did_you_mean(name, available, "timm.optim.list_optimizers()")
        raise ValueError(f"optim.name={name!r} is not a timm optimizer{hint}")
    info = timm.optim.get_optimizer_info(name)
    if info.second_order:
        raise ValueError(f"optim.name={name} needs second-order gradients; choose another")
    accepted = {"betas": info.has_betas, "eps": info.has_eps, "momentum": info.has_momentum}
    for argument, is_accepted in accepted.items():
        if argument in args and not is_accepted:
            raise ValueError(f"optim.args.{argument}: {name} accepts no {argument}; leave it out")
    betas = args.get("betas")
    if isinstance(betas, list | tuple) and len(betas) != info.num_betas:
        raise ValueError(f"optim.args.betas={list(betas)}: {name} needs {info.num_betas} of them")


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Exclude parts of a model from training; ``set_frozen_to_eval`` keeps their statistics.

    Args:
        model: Model, changed in place.
        parts: Names of parameters, or of modules with parameters.

    Raises:
        ValueError: If there is no such part, or no parameter is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    prefixes = [list(accumulate(name.split("."), "{}.{}".format)) for name in names]
    valid = sorted(dict.fromkeys(chain(*prefixes)), key=lambda name: name.count("."))
    for part in parts:
        if part not in valid:
            raise ValueError(
                f"optim.freeze={part!r} is not a part of this classifier{did_you_mean(part, valid)}"
            )
        for name, parameter in model.named_parameters():
            if f"{name}.".startswith(f"{part}."):
                parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"optim.freeze={list(parts)} leaves nothing to train; name fewer parts")


def set_frozen_to_eval(model: nn.Module) -> None:
    """Set modules that are frozen entirely to evaluation mode: fixed norm statistics, no dropout.

    Args:
        model: Model in training mode, changed in place.
    """
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def build_weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """Build the exponential moving average (EMA) of a model's weights and buffers.

    The decay is at most (1 + n) / (10 + n) at update n, so that the average of a short run is not
    dominated by its initial weights.

    Args:
        model: Model whose weights are averaged.
        decay: Decay per optimizer step, in (0, 1).
    """
    average = AveragedModel(model, use_buffers=True)

    @torch.no_grad()
    def update(averages: Tensors, values: Tensors, on_device: Tensor | int) -> None:
        # This counter is on the host; reading the one on the device would wait for the step.
        count = int(average.n_averaged)
        current_decay = min(decay, (1 + count) / (10 + count))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, values, 1 - current_decay)
        else:  # num_batches_tracked of batch norms
            torch._foreach_copy_(averages, values)

    average.multi_avg_fn = update
    return average

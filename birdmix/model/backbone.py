"""The backbone: any timm network that turns a picture into a feature map.

Shapes: B batch, D features, h frequency, w time of the feature map.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from birdmix.model.settings import ModelSettings
from birdmix.model.weights import load_backbone, with_published
from birdmix.suggest import did_you_mean, first_few, first_line

#: Input channels, by how a mel becomes them.
NUM_CHANNELS = {"mono": 1, "repeated": 3, "deltas": 3}

# What a picture's size is said by, and, with a window's, what timm fits published weights to.
_SIZES = frozenset({"img_size", "strict_img_size", "dynamic_img_size"})
_FITTED = _SIZES | {"window_size"}


class Layout(NamedTuple):
    """How a backbone lays its features out.

    Attributes:
        width: Features D.
        last: Whether they come last, [B, h, w, D], instead of [B, D, h, w].
    """

    width: int
    last: bool


def build_backbone(
    settings: ModelSettings, picture: tuple[int, int] | None = None
) -> tuple[Any, Layout]:
    """Make a backbone without its own pooling and classifier, with the weights asked for.

    Args:
        settings: What to build.
        picture: Mel bins and frames of what it is going to see, if that is known.

    Raises:
        ValueError: If timm knows no such backbone, it gives no feature map or does not take what
            the settings say or such pictures; or if the weights cannot be had or do not fit.
    """
    _check_name(settings.backbone)
    num_channels = NUM_CHANNELS[settings.channels]
    backbone = _created(settings, num_channels)
    layout = _layout(backbone, settings, num_channels, picture)
    if settings.weights is not None:
        load_backbone(backbone, num_channels, Path(settings.weights))
    return backbone, layout


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models(), "timm.list_models()")
        raise ValueError(f"model.backbone={name!r} is no timm model{hint}")
    published = timm.list_pretrained(f"{name.split('.')[0]}.*")
    if "." in name and name not in published:
        raise ValueError(
            f"model.backbone={name!r}: timm has no such weights{did_you_mean(name, published)}"
        )


def _created(settings: ModelSettings, num_channels: int) -> Any:
    given = {str(key): value for key, value in settings.backbone_args.items()}
    arguments: dict[str, Any] = {"in_chans": num_channels, "num_classes": 0, "global_pool": ""}
    if settings.drop_path:
        arguments["drop_path_rate"] = settings.drop_path
    plain = partial(timm.create_model, settings.backbone, **arguments)
    asked = partial(plain, **given)
    if not settings.pretrained:
        return _made(asked, settings)
    # What the settings are to blame for is told before a network is asked; shapes alone do.
    with torch.device("meta"):
        shapes = _made(asked, settings)
        fitted = _made(partial(plain, **{n: given[n] for n in _FITTED & set(given)}), settings)
    _check_published_shapes(shapes, fitted, settings)
    return with_published(asked, settings.backbone)


def _made(create: Callable[[], Any], settings: ModelSettings) -> Any:
    name, given = settings.backbone, settings.backbone_args
    try:
        return create()
    except Exception as error:  # whatever a network raises for arguments it was not made for
        if settings.drop_path and "drop_path_rate" in str(error):
            raise ValueError(
                f"model.drop_path={settings.drop_path}: {name} has none; set model.drop_path=0"
            ) from error
        if given:
            raise ValueError(
                f"model.backbone_args={given}: {name} does not take them ({first_line(error)}); "
                "the group model=timm begins without any"
            ) from error
        raise ValueError(
            f"model.backbone={name} gives no feature map ({first_line(error)}); choose another"
        ) from error


def _check_published_shapes(asked: Any, published: Any, settings: ModelSettings) -> None:
    own, theirs = (
        {name: each.shape for name, each in network.state_dict().items()}
        for network in (asked, published)
    )
    other = [name for name in {**theirs, **own} if own.get(name) != theirs.get(name)]
    if other:
        name = settings.backbone
        raise ValueError(
            f"model.pretrained=true: model.backbone_args={settings.backbone_args} changes the "
            f"shape of {len(other)} tensors ({first_few(other)}); published weights are for the "
            f"plain {name}: model=timm model.backbone={name}"
        )


def _layout(
    backbone: Any, settings: ModelSettings, num_channels: int, picture: tuple[int, int] | None
) -> Layout:
    """Ask a copy of the backbone that computes shapes only."""
    name, arguments = settings.backbone, settings.backbone_args
    usual = backbone.pretrained_cfg["input_size"][1:]
    right = "[MELS,FRAMES]" if picture is None else f"[{picture[0]},{picture[1]}]"
    if backbone.pretrained_cfg.get("fixed_input_size") and not _SIZES & set(arguments):
        raise ValueError(
            f"model.backbone={name} takes pictures of {usual[0]} x {usual[1]} only; say "
            f"what it gets with +model.backbone_args.img_size={right}"
        )
    said = arguments.get("img_size", usual)
    said = (said, said) if isinstance(said, int) else tuple(said)
    height, width = picture or said
    shapes = copy.deepcopy(backbone).to("meta").eval()
    for norm in shapes.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # It keeps the shape, and is slow to say so.
            norm.forward = nn.Identity()  # type: ignore[method-assign]
    try:
        with torch.no_grad():
            features = shapes(torch.empty(1, num_channels, height, width, device="meta"))
    except Exception as error:  # whatever a network raises for a picture it was not made for
        resized = "img_size" in arguments and said != (height, width)
        remedy = f"set model.backbone_args.img_size={right}" if resized else "choose another"
        raise ValueError(
            f"model.backbone={name}{f' with model.backbone_args={arguments}' if arguments else ''} "
            f"does not take pictures of {num_channels} x {height} x {width} "
            f"({first_line(error)}); {remedy}"
        ) from error
    shape = tuple(getattr(features, "shape", ()))
    last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    if len(shape) != 4:
        raise ValueError(
            f"model.backbone={name} gives no map over frequency and time but {list(shape)}; "
            "CNNs do, and Swin, MaxViT and their like"
        )
    return Layout(shape[-1] if last else shape[1], last)

"""The backbone: any timm network that turns a picture into a feature map.

Shapes: B batch, D features, h frequency, w time of the feature map.
"""

import copy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from birdmix.model.settings import ModelSettings
from birdmix.model.weights import load_backbone, with_published
from birdmix.suggest import did_you_mean, first_line

#: Input channels, by how a mel becomes them.
NUM_CHANNELS = {"mono": 1, "repeated": 3, "deltas": 3}


class Layout(NamedTuple):
    """How a backbone lays its features out.

    Attributes:
        width: Features D.
        last: Whether they come last, [B, h, w, D], instead of [B, D, h, w].
    """

    width: int
    last: bool


def build_backbone(settings: ModelSettings) -> tuple[Any, Layout]:
    """Make a backbone without its own pooling and classifier, with the weights asked for.

    Raises:
        ValueError: If timm knows no such backbone, it gives no feature map or does not take what
            the settings say; or if the weights cannot be had or do not fit.
    """
    name, num_channels = settings.backbone, NUM_CHANNELS[settings.channels]
    if not timm.is_model(name):
        raise ValueError(
            f"model.backbone={name!r} is no timm model{did_you_mean(name, timm.list_models())}"
        )
    published = timm.list_pretrained(f"{name.split('.')[0]}.*")
    if "." in name and name not in published:
        raise ValueError(
            f"model.backbone={name!r}: timm has no such weights{did_you_mean(name, published)}"
        )
    backbone = _created(settings, num_channels)
    layout = _layout(backbone, settings, num_channels)
    if settings.weights is not None:
        load_backbone(backbone, num_channels, Path(settings.weights))
    return backbone, layout


def _created(settings: ModelSettings, num_channels: int) -> Any:
    name = settings.backbone
    given = {str(key): value for key, value in settings.backbone_args.items()}
    arguments: dict[str, Any] = {"in_chans": num_channels, "num_classes": 0, "global_pool": ""}
    if settings.drop_path:
        arguments["drop_path_rate"] = settings.drop_path
    create = partial(timm.create_model, name, **arguments, **given)
    try:
        return with_published(create, name) if settings.pretrained else create()
    except TypeError as error:
        if settings.drop_path and "drop_path_rate" in str(error):
            raise ValueError(
                f"model.drop_path={settings.drop_path}: {name} has none; set model.drop_path=0"
            ) from error
        raise ValueError(
            f"model.backbone_args={given}: {name} does not take them ({first_line(error)}); "
            "the group model=timm begins without any"
        ) from error
    except AssertionError as error:
        raise ValueError(
            f"model.backbone={name} gives no feature map ({first_line(error)}); choose another"
        ) from error


def _layout(backbone: Any, settings: ModelSettings, num_channels: int) -> Layout:
    """Ask a copy of the backbone that computes shapes only."""
    name, picture = settings.backbone, backbone.pretrained_cfg["input_size"][1:]
    arguments = settings.backbone_args
    sized = {"img_size", "strict_img_size", "dynamic_img_size"} & set(arguments)
    if backbone.pretrained_cfg.get("fixed_input_size") and not sized:
        raise ValueError(
            f"model.backbone={name} takes pictures of {picture[0]} x {picture[1]} only; say "
            "what it gets with +model.backbone_args.img_size=[MELS,FRAMES]"
        )
    size = arguments.get("img_size", picture)
    height, width = (size, size) if isinstance(size, int) else size
    shapes = copy.deepcopy(backbone).to("meta").eval()
    for norm in shapes.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # It keeps the shape, and is slow to say so.
            norm.forward = nn.Identity()  # type: ignore[method-assign]
    try:
        with torch.no_grad():
            features = shapes(torch.empty(1, num_channels, height, width, device="meta"))
    except Exception as error:  # whatever a network raises for a picture it was not made for
        raise ValueError(
            f"model.backbone={name} does not take pictures of {num_channels} x {height} x {width} "
            f"({first_line(error)}); choose another"
        ) from error
    shape = tuple(getattr(features, "shape", ()))
    last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    if len(shape) != 4:
        raise ValueError(
            f"model.backbone={name} gives no map over frequency and time but {list(shape)}; "
            "CNNs do, and Swin, MaxViT and their like"
        )
    return Layout(shape[-1] if last else shape[1], last)

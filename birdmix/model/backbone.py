"""The backbone: any timm network that computes a feature map from a log-mel spectrogram.

Shapes: B batch, D features, h frequency and w time of the feature map.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from birdmix.messages import did_you_mean, first_few, first_line
from birdmix.model.hidden_mix import record_stages
from birdmix.model.initial_weights import create_pretrained_backbone, load_backbone_file
from birdmix.model.input_channels import INPUT_CHANNELS
from birdmix.model.settings import ModelSettings

# Backbone arguments that set the input size; with the window size, timm fits published weights to
# them.
_SIZE_ARGUMENTS = frozenset({"img_size", "strict_img_size", "dynamic_img_size"})
_FITTED_ARGUMENTS = _SIZE_ARGUMENTS | {"window_size"}


class FeatureLayout(NamedTuple):
    """Layout of a backbone's feature map, and its stages.

    Attributes:
        num_features: Features D.
        channels_last: Whether features are the last dimension, [B, h, w, D], not [B, D, h, w].
        stages: Names of the stages, in order: modules whose output can be mixed.
    """

    num_features: int
    channels_last: bool
    stages: tuple[str, ...]


def build_backbone(
    settings: ModelSettings, input_size: tuple[int, int] | None = None
) -> tuple[Any, FeatureLayout]:
    """Build a backbone without its own pooling and classifier, with the initial weights.

    Args:
        settings: Backbone, its arguments and its initial weights.
        input_size: Mel bins and frames of the inputs; None if unknown.

    Returns:
        The backbone, and the layout of its feature map.

    Raises:
        ValueError: If timm has no such backbone, it returns no feature map, or it does not accept
            the arguments or the input size; or if the weights are not available or do not fit.
    """
    _check_name(settings.backbone)
    num_channels = INPUT_CHANNELS[settings.channels].number
    backbone = _create_backbone(settings, num_channels)
    layout = _feature_layout(backbone, settings, num_channels, input_size)
    if settings.weights is not None:
        load_backbone_file(backbone, num_channels, Path(settings.weights))
    return backbone, layout


def _check_name(name: str) -> None:
    """Raise ValueError if timm has no such backbone, or no such weights of it."""
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models(), "timm.list_models()")
        raise ValueError(f"model.backbone={name!r} is not a timm model{hint}")
    published = timm.list_pretrained(f"{name.split('.')[0]}.*")
    if "." in name and name not in published:
        raise ValueError(
            f"model.backbone={name!r}: timm has no such weights{did_you_mean(name, published)}"
        )


def _create_backbone(settings: ModelSettings, num_channels: int) -> Any:
    """Create a backbone with random or published weights, without pooling and classifier."""
    extra = {str(key): value for key, value in settings.backbone_args.items()}
    arguments: dict[str, Any] = {"in_chans": num_channels, "num_classes": 0, "global_pool": ""}
    if settings.drop_path:
        arguments["drop_path_rate"] = settings.drop_path
    create_plain = partial(timm.create_model, settings.backbone, **arguments)
    create_configured = partial(create_plain, **extra)
    if not settings.pretrained:
        return _call_timm(create_configured, settings)
    # Check the settings before any network access; that needs shapes only.
    with torch.device("meta"):
        configured = _call_timm(create_configured, settings)
        fitted_arguments = {name: extra[name] for name in _FITTED_ARGUMENTS & set(extra)}
        published = _call_timm(partial(create_plain, **fitted_arguments), settings)
    _check_published_shapes(configured, published, settings)
    return create_pretrained_backbone(create_configured, settings.backbone)


def _call_timm(create: Callable[[], Any], settings: ModelSettings) -> Any:
    """Create a network, with timm's errors turned into errors about the settings."""
    name, arguments = settings.backbone, settings.backbone_args
    try:
        return create()
    except Exception as error:  # networks raise anything for arguments that they do not support
        if settings.drop_path and "drop_path_rate" in str(error):
            raise ValueError(
                f"model.drop_path={settings.drop_path}: {name} has no stochastic depth; set "
                "model.drop_path=0"
            ) from error
        if arguments:
            raise ValueError(
                f"model.backbone_args={arguments}: {name} does not accept them "
                f"({first_line(error)}); the group model=timm starts without any"
            ) from error
        raise ValueError(
            f"model.backbone={name} has no feature map ({first_line(error)}); choose another "
            "backbone"
        ) from error


def _check_published_shapes(configured: Any, published: Any, settings: ModelSettings) -> None:
    """Raise ValueError if the backbone's arguments change shapes of the published weights."""
    configured_shapes, published_shapes = (
        {name: tensor.shape for name, tensor in network.state_dict().items()}
        for network in (configured, published)
    )
    changed = [
        name
        for name in {**published_shapes, **configured_shapes}
        if configured_shapes.get(name) != published_shapes.get(name)
    ]
    if changed:
        name = settings.backbone
        raise ValueError(
            f"model.pretrained=true: model.backbone_args={settings.backbone_args} changes the "
            f"shape of {len(changed)} tensors ({first_few(changed)}); published weights are for "
            f"the plain {name}: model=timm model.backbone={name}"
        )


def _feature_layout(
    backbone: Any, settings: ModelSettings, num_channels: int, input_size: tuple[int, int] | None
) -> FeatureLayout:
    """Return the layout of the feature map, from a copy of the backbone without values."""
    name, arguments = settings.backbone, settings.backbone_args
    default_size = backbone.pretrained_cfg["input_size"][1:]
    right_size = "[MELS,FRAMES]" if input_size is None else f"[{input_size[0]},{input_size[1]}]"
    if backbone.pretrained_cfg.get("fixed_input_size") and not _SIZE_ARGUMENTS & set(arguments):
        raise ValueError(
            f"model.backbone={name} accepts inputs of {default_size[0]} x {default_size[1]} only; "
            f"set the input size with +model.backbone_args.img_size={right_size}"
        )
    image_size = arguments.get("img_size", default_size)
    image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    height, width = input_size or image_size
    meta_backbone = copy.deepcopy(backbone).to("meta").eval()
    for norm in meta_backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # It keeps the shape, and computing that on the meta device is slow.
            norm.forward = nn.Identity()  # type: ignore[method-assign]
    try:
        with torch.no_grad(), record_stages(meta_backbone, batch_size=1) as stages:
            features = meta_backbone(torch.empty(1, num_channels, height, width, device="meta"))
    except Exception as error:  # networks raise anything for sizes that they do not support
        is_wrong_size = "img_size" in arguments and image_size != (height, width)
        remedy = (
            f"set model.backbone_args.img_size={right_size}"
            if is_wrong_size
            else "choose another backbone"
        )
        raise ValueError(
            f"model.backbone={name}{f' with model.backbone_args={arguments}' if arguments else ''} "
            f"does not accept inputs of {num_channels} x {height} x {width} "
            f"({first_line(error)}); {remedy}"
        ) from error
    shape = tuple(getattr(features, "shape", ()))
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    if len(shape) != 4:
        raise ValueError(
            f"model.backbone={name} returns {list(shape)}, not a feature map over frequency and "
            "time; use a CNN, or Swin, MaxViT and similar networks"
        )
    return FeatureLayout(shape[-1] if channels_last else shape[1], channels_last, tuple(stages))

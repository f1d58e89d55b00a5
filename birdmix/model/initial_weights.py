"""Initial weights of a backbone: published by timm, or from a file."""

import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import timm.models
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import Tensor

from birdmix.messages import did_you_mean, first_few, first_line
from birdmix.model.weight_file import HUB_FILES, read_weight_file

#: Prefix of the backbone's weights in a classifier.
BACKBONE_PREFIX = "backbone."

_RGB_CHANNELS = 3
_HUB_TIMEOUT_SECONDS = 10.0


def create_pretrained_backbone(create: Callable[..., Any], name: str) -> Any:
    """Create a backbone with the weights that timm publishes.

    Args:
        create: Creates the backbone; its argument ``pretrained`` loads the weights.
        name: timm model name.

    Raises:
        ValueError: If there are no published weights, or they cannot be downloaded.
    """
    source = timm.models.get_pretrained_cfg(name)
    if source is None or not source.has_weights:
        raise ValueError(
            f"model.pretrained=true: there are no published weights of {name}"
            f"{did_you_mean(name, timm.list_pretrained())}"
        )
    url = f"{constants.ENDPOINT}/{source.hf_hub_id}" if source.hf_hub_id else source.url
    try:
        if source.hf_hub_id:
            _check_hub(source.hf_hub_id, source.hf_hub_filename)
        return create(pretrained=True)
    except Exception as error:  # of the network, the hub's client or a damaged file
        raise ValueError(
            f"model.pretrained=true: the weights of {name} cannot be loaded ({first_line(error)}); "
            f"on a machine with a network, download {source.hf_hub_filename or HUB_FILES[0]} from "
            f"{url}, then set model.weights=FILE model.pretrained=false"
        ) from error


def _check_hub(hub_id: str, filename: str | None) -> None:
    """Fail at once if the hub is unreachable; the hub's client would retry for a minute."""
    names = (filename, *HUB_FILES) if filename else HUB_FILES
    is_cached = any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in names)
    if is_cached or constants.HF_HUB_OFFLINE:
        return
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # the hub is reachable


def load_backbone_file(backbone: Any, num_channels: int, file: Path) -> None:
    """Load a backbone's weights from a file; the weights of a classifier in it are ignored.

    Args:
        backbone: A timm network without a classifier.
        num_channels: Its input channels; weights for another number of channels are adapted.
        file: A safetensors file, or a file of ``torch.save`` with tensors only.

    Raises:
        ValueError: If the file cannot be read, or its weights are of another architecture or not
            finite.
    """
    expected = backbone.state_dict()
    state = _strip_prefix(select_backbone_weights(read_weight_file(file)), expected)
    # timm converts the layer names of an architecture's authors, by convention in a function of
    # this name in the model's module.
    translate = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if translate is not None and not expected.keys() <= state.keys():
        with suppress(Exception):  # names that it cannot convert are reported below
            state = translate(state, backbone)
    classifiers = tuple(f"{layer}." for layer in _layers_with_role(backbone, "classifier"))
    state = {name: value for name, value in state.items() if not name.startswith(classifiers)}
    nonfinite = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if nonfinite:
        raise ValueError(
            f"model.weights={file}: {len(nonfinite)} of its tensors are not finite "
            f"({first_few(nonfinite)}); use the weights of an earlier epoch"
        )
    load_backbone_state_dict(backbone, num_channels, state, f"model.weights={file}")


def load_backbone_state_dict(
    backbone: Any, num_channels: int, state: dict[str, Tensor], source: str
) -> int:
    """Load a backbone's weights.

    Args:
        backbone: A timm network without a classifier.
        num_channels: Its input channels; weights for another number of channels are adapted.
        state: Weights by name.
        source: Origin of the weights, for the error message.

    Returns:
        The number of tensors loaded.

    Raises:
        ValueError: If the weights are of another architecture.
    """
    expected = backbone.state_dict()
    state = {**state, **_adapt_channels(backbone, num_channels, expected, state)}
    reshaped = [
        f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in state and expected[name].shape != state[name].shape
    ]
    # Batch norms of old files have no num_batches_tracked; torch fills it in.
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in expected]
    problems = [
        f"{len(names)} {problem} ({first_few(names)})"
        for names, problem in (
            (reshaped, "of its tensors have another shape"),
            (missing, "are missing"),
            (unknown, "belong to no layer of it"),
        )
        if names
    ]
    if problems:
        name = backbone.pretrained_cfg["architecture"]
        raise ValueError(
            f"{source} does not fit model.backbone={name}: {'; '.join(problems)}; set "
            "model.backbone and model.backbone_args to those of these weights"
        )
    backbone.load_state_dict(state)
    return len(state)


def select_backbone_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's weights of a classifier; all weights if no name has its prefix."""
    return _select_prefix(state, BACKBONE_PREFIX) or state


def _strip_prefix(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a backbone's weights in a larger network, without the common prefix of their names.

    In a larger network the names have a prefix such as ``model.encoder.``. The prefix that matches
    most names of the backbone is used, if these are more than half of them.
    """
    num_matches: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in expected:
                num_matches["".join(f"{part}." for part in parts[:start])] += 1
    prefix, count = max(num_matches.items(), key=lambda item: item[1], default=("", 0))
    return state if 2 * count <= len(expected) else _select_prefix(state, prefix)


def _select_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names have a prefix, by their names without it."""
    return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}


def _adapt_channels(
    backbone: Any, num_channels: int, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the first layers' weights for the backbone's number of input channels.

    As in timm, an input that is equal in all channels has the same output as before.
    """
    adapted = {}
    for name in (f"{layer}.weight" for layer in _layers_with_role(backbone, "first_conv")):
        if name not in expected or name not in state or state[name].ndim != 4:
            continue
        # A space-to-depth stem has each channel several times.
        repeats = max(expected[name].shape[1] // num_channels, 1)
        if state[name].shape[1] not in (repeats, repeats * num_channels, repeats * _RGB_CHANNELS):
            continue
        grouped = state[name].unflatten(1, (repeats, -1))
        if grouped.shape[2] != num_channels:
            mean = grouped.float().sum(dim=2, keepdim=True) / num_channels
            adapted[name] = mean.expand(-1, -1, num_channels, -1, -1).flatten(1, 2)
    return adapted


def _layers_with_role(backbone: Any, role: str) -> tuple[str, ...]:
    """Return the layers that have a role in timm's configuration of the weights; may be none."""
    names: str | Iterable[str] | None = backbone.pretrained_cfg.get(role)
    return (names,) if isinstance(names, str) else tuple(names or ())

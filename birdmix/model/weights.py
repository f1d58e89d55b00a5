"""Weights that a backbone starts from: published ones, or those of a file."""

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

from birdmix.model.weight_file import FILES, read_weight_file
from birdmix.suggest import did_you_mean, first_few, first_line

_PREFIX = "backbone."
_COLOURS = 3
_HUB_TIMEOUT_SECONDS = 10.0


def with_published(create: Callable[..., Any], name: str) -> Any:
    """Make a backbone with the weights that timm publishes.

    Args:
        create: Makes the backbone, without fail if that has no weights; takes ``pretrained``.
        name: timm model name.

    Raises:
        ValueError: If there are none, or they cannot be fetched.
    """
    source = timm.models.get_pretrained_cfg(name)
    if source is None or not source.has_weights:
        raise ValueError(
            f"model.pretrained=true: there are no published weights of {name}"
            f"{did_you_mean(name, timm.list_pretrained())}"
        )
    place = f"{constants.ENDPOINT}/{source.hf_hub_id}" if source.hf_hub_id else source.url
    try:
        if source.hf_hub_id:
            _reach(source.hf_hub_id, source.hf_hub_filename)
        return create(pretrained=True)
    except Exception as error:  # of the network, of the hub's client, of a damaged file
        raise ValueError(
            f"model.pretrained=true: the weights of {name} cannot be had ({first_line(error)}); "
            f"where there is a network, download {source.hf_hub_filename or FILES[0]} from "
            f"{place}, then set model.weights=FILE model.pretrained=false"
        ) from error


def _reach(hub_id: str, filename: str | None) -> None:
    """Fail at once if the hub cannot be reached, where its client would try for a minute."""
    names = (filename, *FILES) if filename else FILES
    cached = any(isinstance(try_to_load_from_cache(hub_id, each), str) for each in names)
    if cached or constants.HF_HUB_OFFLINE:
        return
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answers


def load_backbone(backbone: Any, num_channels: int, file: Path) -> None:
    """Load a backbone's weights from a file; where that holds a classifier too, it is left out.

    Args:
        backbone: Of timm, without a classifier.
        num_channels: Its input channels; weights for another number of them are adapted.
        file: safetensors, or anything that ``torch.load`` reads without running code.

    Raises:
        ValueError: If it cannot be read, is of another architecture or not finite.
    """
    own = backbone.state_dict()
    state = _unprefixed(backbone_of(read_weight_file(file)), own)
    # What the authors of an architecture call its layers, timm translates: by convention there is
    # one function for it in a model's module.
    translate = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if translate is not None and not own.keys() <= state.keys():
        with suppress(Exception):  # what it cannot make out is told below, by name
            state = translate(state, backbone)
    classifiers = tuple(f"{layer}." for layer in _names(backbone, "classifier"))
    state = {name: each for name, each in state.items() if not name.startswith(classifiers)}
    wrong = [name for name, each in state.items() if not torch.isfinite(each).all()]
    if wrong:
        raise ValueError(
            f"model.weights={file}: {len(wrong)} of its tensors are not finite "
            f"({first_few(wrong)}); take the weights of an earlier epoch"
        )
    fit(backbone, num_channels, state, f"model.weights={file}")


def fit(backbone: Any, num_channels: int, state: dict[str, Tensor], source: str) -> int:
    """Load a backbone's weights.

    Args:
        backbone: Of timm, without a classifier.
        num_channels: Its input channels; weights for another number of them are adapted.
        state: Weights by name.
        source: Where they are from, for the message.

    Returns:
        The number of tensors loaded.

    Raises:
        ValueError: If they are of another architecture.
    """
    own = backbone.state_dict()
    state = {**state, **_adapted(backbone, num_channels, own, state)}
    other = [name for name in own if name in state and own[name].shape != state[name].shape]
    shapes = [
        f"{each} {list(state[each].shape)} instead of {list(own[each].shape)}" for each in other
    ]
    # Batch norms of old files do not count their batches; torch fills that in.
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in own]
    faults = [
        f"{len(names)} {what} ({first_few(names)})"
        for names, what in (
            (shapes, "of its tensors have another shape"),
            (missing, "are missing"),
            (unknown, "are of no layer here"),
        )
        if names
    ]
    if faults:
        name = backbone.pretrained_cfg["architecture"]
        raise ValueError(
            f"{source} does not fit model.backbone={name}: {'; '.join(faults)}; name the backbone "
            "that it is of, with the same model.backbone_args"
        )
    backbone.load_state_dict(state)
    return len(state)


def backbone_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's part of a classifier's weights; all of them if they name no part."""
    part = {n.removeprefix(_PREFIX): each for n, each in state.items() if n.startswith(_PREFIX)}
    return part or state


def _unprefixed(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that, less what their names begin with, are most of a backbone's.

    Those of a network that holds it begin with where it lies there, as ``model.encoder.``.
    """
    fitting: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in own:
                fitting["".join(f"{part}." for part in parts[:start])] += 1
    prefix, count = max(fitting.items(), key=lambda item: item[1], default=("", 0))
    if 2 * count <= len(own):
        return state
    return {n.removeprefix(prefix): each for n, each in state.items() if n.startswith(prefix)}


def _adapted(
    backbone: Any, num_channels: int, own: dict[str, Tensor], state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the first layers' weights for as many channels as they are to see.

    As timm does: the same picture in all channels is answered as before.
    """
    adapted = {}
    for name in (f"{layer}.weight" for layer in _names(backbone, "first_conv")):
        if name not in own or name not in state or state[name].ndim != 4:
            continue
        # A stem that moves space into channels sees each of them several times.
        times = max(own[name].shape[1] // num_channels, 1)
        if state[name].shape[1] not in (times, times * num_channels, times * _COLOURS):
            continue
        grouped = state[name].unflatten(1, (times, -1))
        if grouped.shape[2] != num_channels:
            whole = grouped.float().sum(dim=2, keepdim=True) / num_channels
            adapted[name] = whole.expand(-1, -1, num_channels, -1, -1).flatten(1, 2)
    return adapted


def _names(backbone: Any, role: str) -> tuple[str, ...]:
    """Return the layers that timm's table of weights gives a role, of which there may be none."""
    names: str | Iterable[str] | None = backbone.pretrained_cfg.get(role)
    return (names,) if isinstance(names, str) else tuple(names or ())

"""Settings of the classifier, which bundles store; without torch."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from birdmix.json_data import MAX_TEXT, check_setting_magnitudes, format_for_message
from birdmix.messages import check_choice
from birdmix.model.input_channels import INPUT_CHANNELS


class HeadKind(NamedTuple):
    """A head: its class in ``birdmix.model.heads``, which is not imported yet, and its output.

    Attributes:
        class_name: A subclass of ``Head``.
        has_frame_logits: Whether it computes frame logits.
    """

    class_name: str
    has_frame_logits: bool = False


#: The heads, by ``model.head``; a new head is a class and a line here.
HEADS = {
    "average": HeadKind("AverageHead"),
    "gem": HeadKind("GeneralisedMeanHead"),
    "sed": HeadKind("SoundEventHead", has_frame_logits=True),
}

# Arguments of ``timm.create_model`` that are not allowed in backbone_args, and what sets them.
_RESERVED_ARGUMENTS = {
    "in_chans": "channels",
    "drop_path_rate": "drop_path",
    "global_pool": "head",
    "num_classes": "the data's labels",
    "pretrained": "pretrained",
    "pretrained_cfg": "backbone, as NAME.TAG",
    "pretrained_cfg_overlay": "backbone, as NAME.TAG",
    "checkpoint_path": "weights",
    "scriptable": "birdmix itself",
    "exportable": "birdmix itself",
}

# Limits on backbone arguments: largest number (of features, pixels, layers), how many values, and
# the depth of their nesting.
_MAX_NUMBER, _MAX_NUM_VALUES, _MAX_DEPTH = 1_000_000, 1_000, 5


@dataclass
class ModelSettings:
    """Settings of the classifier: a timm backbone, and a head on its feature map.

    Attributes:
        backbone: timm model name.
        backbone_args: More arguments for ``timm.create_model``, by their names there.
        channels: Input channels, of ``INPUT_CHANNELS``.
        drop_path: Stochastic depth: fraction of examples that skip the last block, in [0, 1).
        num_chunks: Chunks of equal width that an input is split into along time, 1 to 64; the
            backbone processes each by itself, the head the concatenated feature map.
        head: Pooling and last layers, of ``HEADS``.
        dropout: Dropout before the last layer, in [0, 1).
        num_dropouts: Dropout masks per example in training, 1 to 64; their logits are averaged.
        pretrained: Start from timm's published weights (needs a network connection once).
        weights: Start from the backbone in this file: safetensors, or pth with tensors only.
    """

    backbone: str = "efficientnet_b0"
    backbone_args: dict[str, Any] = field(default_factory=dict)
    channels: str = "mono"
    drop_path: float = 0.0
    num_chunks: int = 1
    head: str = "gem"
    dropout: float = 0.0
    num_dropouts: int = 1
    pretrained: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        check_choice("channels", self.channels, INPUT_CHANNELS)
        check_choice("head", self.head, HEADS)
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be in [0, 1)")
        for name in ("num_chunks", "num_dropouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        check_setting_magnitudes(self, num_chunks=64, num_dropouts=64)
        _check_arguments(self.backbone_args)
        if self.num_dropouts > 1 and not self.dropout:
            raise ValueError(f"num_dropouts={self.num_dropouts} needs a dropout above 0")
        for name in _RESERVED_ARGUMENTS:
            if name in self.backbone_args:
                raise ValueError(
                    f"backbone_args.{name} is set by {_RESERVED_ARGUMENTS[name]}; leave it out"
                )
        if self.pretrained and self.weights is not None:
            raise ValueError(
                f"pretrained=true and weights={self.weights}: choose one; to use the file, set "
                "pretrained=false"
            )

    @property
    def has_frame_logits(self) -> bool:
        """Whether the head computes frame logits."""
        return HEADS[self.head].has_frame_logits


def _check_arguments(arguments: dict[str, Any]) -> None:
    """Refuse backbone arguments that are too large, too many, too long or nested too deeply."""
    pending = [(f"backbone_args.{name}", value, 0) for name, value in arguments.items()]
    count = 0
    while pending:
        key, value, depth = pending.pop()
        count += 1
        if depth > _MAX_DEPTH or count + len(pending) > _MAX_NUM_VALUES:
            raise ValueError(
                f"backbone_args: nested deeper than {_MAX_DEPTH}, or more than {_MAX_NUM_VALUES:,} "
                "values"
            )
        if isinstance(value, dict):
            pending += [(f"{key}.{name}", each, depth + 1) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(f"{key}[{index}]", each, depth + 1) for index, each in enumerate(value)]
        elif isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER:
            raise ValueError(
                f"{key}={format_for_message(value)}: it must be at most {_MAX_NUMBER:,}"
            )
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            raise ValueError(
                f"{key}={format_for_message(value)}: it has more than {MAX_TEXT} characters"
            )

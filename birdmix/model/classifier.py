"""The classifier: a timm backbone with a head.

Shapes: B batch, M mel bins, F frames, D features, h frequency, w time of the feature map,
C classes, P chunks.
"""

import copy
from collections.abc import Callable
from functools import partial

import timm.layers
import timm.models
import torch
from torch import Tensor, nn

from birdmix.model.backbone import build_backbone
from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.heads import build_head
from birdmix.model.hidden_mix import FEATURES, INPUT, POOLED, HiddenMix
from birdmix.model.initial_weights import BACKBONE_PREFIX
from birdmix.model.input_channels import INPUT_CHANNELS
from birdmix.model.settings import ModelSettings


class Classifier(nn.Module):
    """A network that computes logits [B, C], and frame logits if the head has them.

    Args:
        settings: Backbone, input channels, chunks and head.
        num_classes: Classes C.
        input_size: Mel bins and frames of the inputs; None if unknown.
        softmax: Whether it is trained with softmax cross-entropy. In evaluation mode its logits
            are then the log-odds of each class under the softmax, so that the sigmoid of a logit
            is a probability as with every other loss.

    Raises:
        ValueError: If the backbone or its weights are not available, or ``softmax`` is set for a
            single class.
    """

    def __init__(
        self,
        settings: ModelSettings,
        num_classes: int,
        *,
        input_size: tuple[int, int] | None = None,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        if softmax and num_classes < 2:
            raise ValueError(
                "loss=cross_entropy needs 2 classes or more, and there is 1; use loss=bce"
            )
        self.channels, self.num_chunks, self.softmax = (
            settings.channels,
            settings.num_chunks,
            softmax,
        )
        if input_size is not None:
            input_size = input_size[0], -(-input_size[1] // settings.num_chunks)
        self.backbone, self.layout = build_backbone(settings, input_size)
        self.head = build_head(settings, self.layout.num_features, num_classes)

    @property
    def hidden_layers(self) -> list[str]:
        """Names of the layers that can be mixed (``HiddenMix.layer``), from input to head."""
        return [INPUT, *self.layout.stages, FEATURES, POOLED]

    def forward(self, mel: Tensor, hidden_mix: HiddenMix | None = None) -> ClassifierOutput:
        """Compute logits [B, C], and frame logits if the head has them.

        They are logits of a sigmoid per class; in training with softmax, logits of the softmax.

        Args:
            mel: Log-mel spectrograms, [B, 1, M, F].
            hidden_mix: Mix at one of ``hidden_layers``; without effect in evaluation mode.
        """
        if hidden_mix is None or not self.training:
            output = self.head(self.compute_features(mel))
            return output.softmax_to_log_odds() if self.softmax and not self.training else output
        with hidden_mix.inside_backbone(self.backbone, self.num_chunks):
            features = self.compute_features(hidden_mix.apply_at(INPUT, mel))
        features = hidden_mix.apply_at(FEATURES, features)
        return self.head(features, partial(hidden_mix.apply_at, POOLED))

    def compute_features(self, mel: Tensor) -> Tensor:
        """Compute the feature map before the head, [B, D, h, w], from log-mels [B, 1, M, F]."""
        inputs = INPUT_CHANNELS[self.channels].compute(mel)
        features = self.backbone(split_into_time_chunks(inputs, self.num_chunks))
        if self.layout.channels_last:
            features = features.permute(0, 3, 1, 2)
        return join_time_chunks(features, self.num_chunks)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the layer depth of each parameter, for timm's optimizers; the head is the top."""
        matcher = self.backbone.group_matcher(coarse)
        depths = timm.models.group_parameters(self.backbone, matcher, reverse=True)
        top = max(depths.values()) + 1

        def depth(name: str) -> int:
            is_in_backbone = name.startswith(BACKBONE_PREFIX)
            return depths[name.removeprefix(BACKBONE_PREFIX)] if is_in_backbone else top

        return depth

    def no_weight_decay(self) -> set[str]:
        """Return the backbone's parameters without weight decay, for timm's optimizers."""
        excluded: Callable[[], set[str]] = getattr(self.backbone, "no_weight_decay", set)
        return {BACKBONE_PREFIX + name for name in excluded()}


def is_bypassed(classifier: Classifier, stage: str, input_size: tuple[int, int]) -> bool:
    """Return whether the feature map depends on the input other than through a stage.

    A mix of such a stage, one beside a skip connection, would mix a part of the network only.

    Args:
        classifier: The classifier; it is not changed.
        stage: One of ``classifier.layout.stages``.
        input_size: Mel bins M and frames F of the inputs.
    """
    # A copy without values, which is cut behind the stage: is there still a path for gradients?
    network = copy.deepcopy(classifier).to("meta").eval().requires_grad_(False)
    cut = HiddenMix(stage, torch.Tensor.detach)
    mel = torch.empty(1, 1, *input_size, device="meta", requires_grad=True)
    with cut.inside_backbone(network.backbone, network.num_chunks):
        return network.compute_features(mel).requires_grad


def split_into_time_chunks(mel: Tensor, num_chunks: int) -> Tensor:
    """Split inputs [B, c, M, F] into P chunks of equal width along time, [B * P, c, M, F / P].

    If F is no multiple of P, neighbouring chunks overlap by a few frames: no frame is dropped and
    nothing is padded.
    """
    if num_chunks == 1:
        return mel
    frames = int(mel.shape[-1])  # a constant in exports: ONNX's division would round differently
    width = -(-frames // num_chunks)
    starts = [(frames - width) * chunk // (num_chunks - 1) for chunk in range(num_chunks)]
    stacked = torch.stack([mel[..., start : start + width] for start in starts], dim=1)
    return stacked.flatten(0, 1)


def join_time_chunks(features: Tensor, num_chunks: int) -> Tensor:
    """Concatenate feature maps of P chunks [B * P, D, h, w] along time, to [B, D, h, P * w]."""
    if num_chunks == 1:
        return features
    return torch.cat(features.unflatten(0, (-1, num_chunks)).unbind(dim=1), dim=-1)


def to_channels_last_memory(classifier: Classifier) -> Classifier:
    """Convert the weights to the channels-last memory layout: same values, faster convolutions."""
    return classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def synchronise_batch_norms(classifier: Classifier) -> Classifier:
    """Compute batch norms over the batch of all processes; names and values of weights stay.

    Torch's own converter would drop the activation in timm's batch norm layers.
    """
    return timm.layers.convert_sync_batchnorm(classifier)


def compile_backbone(classifier: Classifier) -> Classifier:
    """Compile the backbone in place, on its first call; names of the weights stay.

    Each input shape is compiled by itself: code for dynamic shapes rounds differently, and whether
    it is used would depend on the shapes seen before.
    """
    classifier.backbone.compile(dynamic=False)
    return classifier

"""Mixing of the hidden layers of a classifier: their names, and a mix at one of them.

Shapes: B batch, M mel bins, F frames, D features, h frequency, w time of a feature map, P chunks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

#: Layers that every classifier has: the log-mel [B, 1, M, F], the feature map before the head
#: [B, D, h, w], and the features that the head pooled from it, [B, D] or [B, D, w].
INPUT, FEATURES, POOLED = "input", "features", "pooled"


class HiddenMix(NamedTuple):
    """A mix of the examples of a batch at one layer of a classifier, in training.

    Source: Manifold Mixup, Verma et al. 2019, arXiv:1806.05236.

    Attributes:
        layer: ``input``, a stage of the backbone, ``features`` or ``pooled``
            (``Classifier.hidden_layers``).
        mix: Maps the values of the layer, [B, ...], to mixed values of the same shape. A stage has
            [B, D, h, w], or what its network computes there; with several chunks [B, P, ...], so
            that all chunks of an example are mixed alike.
    """

    layer: str
    mix: Callable[[Tensor], Tensor]

    def apply_at(self, layer: str, values: Tensor) -> Tensor:
        """Return the values of a layer, mixed if it is the one to mix."""
        return self.mix(values) if layer == self.layer else values

    @contextmanager
    def inside_backbone(self, backbone: nn.Module, num_chunks: int) -> Iterator[None]:
        """Mix the output of a stage while the context is open; other layers are left alone.

        Args:
            backbone: Backbone with that stage.
            num_chunks: Chunks P of each example in the backbone's inputs [B * P, ...].
        """
        if self.layer in (INPUT, FEATURES, POOLED):
            yield
            return

        def mix_output(_stage: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if num_chunks == 1:
                return self.mix(output)
            return self.mix(output.unflatten(0, (-1, num_chunks))).flatten(0, 1)

        hook = backbone.get_submodule(self.layer).register_forward_hook(mix_output)
        try:
            yield
        finally:
            hook.remove()


@contextmanager
def record_stages(backbone: Any, batch_size: int) -> Iterator[list[str]]:
    """Record the stages of a backbone that can be mixed, while it processes one batch.

    The output of such a stage is one tensor [B, ...], computed once.

    Args:
        backbone: A timm network.
        batch_size: Examples B of the batch.

    Yields:
        Names of the stages in order, by timm's ``feature_info``; filled when the context closes.
    """
    modules = dict(backbone.named_modules())
    names = [each.get("module") for each in getattr(backbone, "feature_info", None) or ()]
    outputs: dict[str, list[Any]] = {name: [] for name in names if name in modules}
    hooks = [
        modules[name].register_forward_hook(partial(_append_output, values))
        for name, values in outputs.items()
    ]
    stages: list[str] = []
    try:
        yield stages
    finally:
        for hook in hooks:
            hook.remove()
    for name, values in outputs.items():
        if len(values) == 1 and isinstance(values[0], Tensor) and len(values[0]) == batch_size:
            stages.append(name)


def _append_output(values: list[Any], _stage: nn.Module, _inputs: Any, output: Any) -> None:
    values.append(output)

"""What is mixed, and what comes out.

Shapes: B batch, C classes, L stretches of time, F' label frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.mix.plan import Plan


class Samples(NamedTuple):
    """Samples to mix: a batch, or a pool that a batch takes further sources from.

    Attributes:
        x: Inputs [B, ...]: waveforms, spectrograms or feature maps.
        target: Soft targets in [0, 1], floating, [B, C].
        weight: Sample weights [B]; None is 1 each.
        known: Which labels were annotated, bool [B, C]; None is all of them.
        frames: Strong targets in [0, 1], one per class and label frame, [B, C, F'].
        level: RMS in dB before any normalisation, [B], or of L equal stretches of time, [B, L]
            (``birdmix.mix.level``); for inputs whose own level says nothing, normalised mels say.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None = None
    known: Tensor | None = None
    frames: Tensor | None = None
    level: Tensor | None = None

    def check(self, name: str = "") -> None:
        """Refuse what cannot be mixed; ``name`` begins the tensors' names in messages.

        The range of targets is looked at on the host only: asking an accelerator would wait for it.

        Raises:
            ValueError: With the tensor at fault, what it is, and what it should be.
        """
        x, target = self.x, self.target
        if not (x.is_floating_point() and target.is_floating_point()):
            raise ValueError(
                f"mixing needs floating inputs and targets, got {name}x {x.dtype} and "
                f"{name}target {target.dtype}; one-hot encode class indices and call .float()"
            )
        if x.dim() < 2 or target.dim() != 2:
            raise ValueError(
                f"{name}x has shape {list(x.shape)} and {name}target {list(target.shape)}; "
                "mixing needs a batch [B, ...] and multi-label targets [B, C]"
            )
        for field, tensor in zip(self._fields[1:], self[1:], strict=True):
            if tensor is not None and len(tensor) != len(x):
                raise ValueError(
                    f"{name}{field} holds {len(tensor)} samples, {name}x {len(x)}; pass one each"
                )
        for field, tensor, dim in (("known", self.known, 2), ("frames", self.frames, 3)):
            if tensor is not None and (tensor.dim() != dim or tensor.shape[1] != target.shape[1]):
                raise ValueError(
                    f"{name}{field} has shape {list(tensor.shape)}, {name}target "
                    f"{list(target.shape)}; their classes must agree"
                )
        for field, tensor in (("target", target), ("frames", self.frames)):
            if tensor is not None and tensor.device.type == "cpu" and tensor.numel():
                low, high = (bound.item() for bound in tensor.aminmax())
                if not 0 <= low <= high <= 1:
                    raise ValueError(
                        f"{name}{field} reaches from {low:g} to {high:g}; soft targets lie in "
                        "[0, 1]: clamp them, or correct the labels"
                    )

    def followed_by(self, pool: "Samples | None") -> "Samples":
        """Return these samples with everything but ``x`` followed by the pool's, [B + P, ...].

        Raises:
            ValueError: If the pool has other classes, or strong targets stand on one side only.
        """
        if pool is None:
            return self
        if pool.target.shape[1] != self.target.shape[1]:
            raise ValueError(
                f"the pool's targets have {pool.target.shape[1]} classes, the batch's "
                f"{self.target.shape[1]}; use one label set"
            )
        if (self.frames is None) != (pool.frames is None):
            raise ValueError("batch and pool need strong targets (frames) both, or neither")
        weight = known = frames = level = None
        if not (self.weight is None and pool.weight is None):
            weight = torch.cat([_or_ones(self.weight, self.x), _or_ones(pool.weight, pool.x)])
        if not (self.known is None and pool.known is None):
            known = torch.cat([_or_all(self.known, self.target), _or_all(pool.known, pool.target)])
        if self.frames is not None and pool.frames is not None:
            frames = torch.cat([self.frames, pool.frames])
        if self.level is not None and pool.level is not None:
            level = torch.cat([self.level, pool.level])
        target = torch.cat([self.target, pool.target.to(self.target.dtype)])
        return Samples(self.x, target, weight, known, frames, level)


def _or_ones(weight: Tensor | None, x: Tensor) -> Tensor:
    return x.new_ones(len(x), dtype=torch.float32) if weight is None else weight


def _or_all(known: Tensor | None, target: Tensor) -> Tensor:
    return torch.ones_like(target, dtype=torch.bool) if known is None else known


class Mixed(NamedTuple):
    """What an operator returns, always all of it.

    Attributes:
        x: Mixed inputs, shaped as given.
        target: Mixed targets, [B, C].
        weight: Mixed sample weights [B], or None if none were given.
        known: Mixed known mask, bool [B, C], or None if none was given.
        frames: Mixed strong targets [B, C, F'], or None if none were given.
        plan: The plan that was applied; a tuple of them from a ``Chain``.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None
    known: Tensor | None
    frames: Tensor | None
    plan: Plan | tuple[Plan, ...]

"""What is mixed, and what comes out.

Shapes: B batch, P pool, C classes, L stretches of time, F' label frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from birdmix.mix.devices import is_readable
from birdmix.mix.plan import Plan


class Samples(NamedTuple):
    """Samples to mix: a batch, or a pool that a batch takes further sources from.

    Attributes:
        x: Inputs [B, ...]: waveforms, spectrograms or feature maps.
        target: Soft targets in [0, 1], floating or bool, [B, C].
        weight: Sample weights [B]; None is 1 each.
        known: Which labels were annotated, bool (or 0 and 1) [B, C]; None is all of them.
        frames: Strong targets in [0, 1], one per class and label frame, [B, C, F'].
        level: RMS of the sound in dB before any normalisation, [B], or of L equal stretches of
            time, [B, L] (``birdmix.mix.level``); for inputs whose own level says nothing,
            normalised mels say.
        frames_known: Which strong targets were annotated, bool [B, C, F']; None is ``known``, in
            every frame.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None = None
    known: Tensor | None = None
    frames: Tensor | None = None
    level: Tensor | None = None
    frames_known: Tensor | None = None

    def checked(self, name: str = "") -> "Samples":
        """Return the samples in the types that mixing computes in, or refuse them.

        Masks become bool; integer weights, levels and bool targets become floating: nothing is
        ever truncated. Values are looked at only where that waits for no accelerator.

        Args:
            name: What tensors' names begin with in messages, such as ``pool ``.

        Raises:
            ValueError: With the tensor at fault, what it is, and what it should be.
        """
        self._check_tensors(name)
        samples = self._replace(
            target=self.target.float() if self.target.dtype == torch.bool else self.target,
            weight=_floating(self.weight),
            known=_mask(self.known, f"{name}known"),
            level=_floating(self.level, at_least=torch.float32),
            frames_known=_mask(self.frames_known, f"{name}frames_known"),
        )
        if self.frames is not None and not self.frames.is_floating_point():
            samples = samples._replace(frames=self.frames.to(samples.target.dtype))
        for field in ("target", "frames"):
            _check_range(getattr(samples, field), f"{name}{field}")
        weight = samples.weight
        if weight is not None and is_readable(weight) and not weight.isfinite().all():
            raise ValueError(f"{name}weight holds nan or inf; correct the sample weights")
        return samples

    def _check_tensors(self, name: str) -> None:
        """Refuse tensors whose kind, device or shape is not that of the field."""
        x, target = self.x, self.target
        for field, tensor in zip(self._fields, self, strict=True):
            if tensor is not None and not isinstance(tensor, Tensor):
                raise ValueError(
                    f"{name}{field} is a {type(tensor).__name__}; pass a tensor (torch.as_tensor)"
                )
        if not (x.is_floating_point() and (target.is_floating_point() or _is_bool(target))):
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
            if tensor is None:
                continue
            if tensor.is_complex():
                raise ValueError(f"{name}{field} is {tensor.dtype}; it holds real numbers")
            if tensor.device != x.device:
                raise ValueError(
                    f"{name}{field} is on {tensor.device}, {name}x on {x.device}; move it there"
                )
            if tensor.dim() > 0 and len(tensor) != len(x):
                raise ValueError(
                    f"{name}{field} holds {len(tensor)} samples, {name}x {len(x)}; pass one each"
                )
        for field, tensor, dim in (
            ("known", self.known, 2),
            ("frames", self.frames, 3),
            ("frames_known", self.frames_known, 3),
        ):
            if tensor is not None and (tensor.dim() != dim or tensor.shape[1] != target.shape[1]):
                raise ValueError(
                    f"{name}{field} has shape {list(tensor.shape)}, {name}target "
                    f"{list(target.shape)}; pass {'[B, C]' if dim == 2 else '[B, C, F]'} with the "
                    "same classes"
                )
        if self.weight is not None and self.weight.dim() != 1:
            raise ValueError(
                f"{name}weight has shape {list(self.weight.shape)}; pass one number a sample, [B]"
            )
        level = self.level
        if level is not None and (level.dim() not in (1, 2) or 0 in level.shape[1:]):
            raise ValueError(
                f"{name}level has shape {list(level.shape)}; pass one number a sample, [B], or one "
                "for each of L stretches of its time, [B, L]"
            )
        if self.frames_known is not None and (
            self.frames is None or self.frames.shape != self.frames_known.shape
        ):
            raise ValueError(
                f"{name}frames_known has shape {list(self.frames_known.shape)}, {name}frames "
                f"{None if self.frames is None else list(self.frames.shape)}; they must agree"
            )

    def detached(self) -> "Samples":
        """Return the same values, with nothing differentiated through them, backward or forward."""
        return Samples._make(None if tensor is None else tensor.detach() for tensor in self)

    def known_in_frames(self) -> Tensor | None:
        """Return which strong targets are known, bool [B, C, F']; None where nobody says."""
        if self.frames is None or self.frames_known is not None or self.known is None:
            return self.frames_known
        return self.known[..., None].expand_as(self.frames)

    def followed_by(self, pool: "Samples | None") -> "Samples":
        """Return these samples with everything but ``x`` followed by the pool's, [B + P, ...].

        Raises:
            ValueError: If the pool has other classes, label frames or stretches of time, or strong
                targets stand on one side only.
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
        for field in ("frames", "level"):
            own, others = getattr(self, field), getattr(pool, field)
            if own is not None and others is not None and own.shape[1:] != others.shape[1:]:
                raise ValueError(
                    f"{field} has shape {list(own.shape)} in the batch and {list(others.shape)} in "
                    "the pool; all but the first number must agree"
                )
        weight = known = frames = level = frames_known = None
        if not (self.weight is None and pool.weight is None):
            weight = _joined(_or_ones(self.weight, self.x), _or_ones(pool.weight, pool.x))
        if not (self.known is None and pool.known is None):
            known = torch.cat([_or_all(self.known, self.target), _or_all(pool.known, pool.target)])
        if self.frames is not None and pool.frames is not None:
            frames = _joined(self.frames, pool.frames)
            own, others = self.known_in_frames(), pool.known_in_frames()
            if not (own is None and others is None):
                frames_known = torch.cat([_or_all(own, self.frames), _or_all(others, pool.frames)])
        if self.level is not None and pool.level is not None:
            level = _joined(self.level, pool.level)
        target = _joined(self.target, pool.target)
        return Samples(self.x, target, weight, known, frames, level, frames_known)


def _is_bool(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool


def _floating(tensor: Tensor | None, at_least: torch.dtype | None = None) -> Tensor | None:
    if tensor is None:
        return None
    dtype = tensor.dtype if tensor.is_floating_point() else torch.float32
    return tensor.to(dtype if at_least is None else torch.promote_types(dtype, at_least))


def _mask(tensor: Tensor | None, name: str) -> Tensor | None:
    """Return a mask as bool."""
    if tensor is None or _is_bool(tensor):
        return tensor
    if is_readable(tensor) and not ((tensor == 0) | (tensor == 1)).all():
        raise ValueError(
            f"{name} is {tensor.dtype} and holds other values than 0 and 1; pass a bool mask: True "
            "where a label was annotated"
        )
    return tensor != 0


def _check_range(target: Tensor | None, name: str) -> None:
    if target is None or not is_readable(target) or not target.numel():
        return
    low, high = (bound.item() for bound in target.aminmax())
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"{name} reaches from {low:g} to {high:g}; soft targets lie in [0, 1]: clamp them, or "
            "correct the labels"
        )


def _joined(own: Tensor, others: Tensor) -> Tensor:
    """Return the batch's rows followed by the pool's, in the batch's type."""
    return torch.cat([own, others.to(own.dtype)])


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
        level: RMS of the mixed sound in dB, shaped as given (``birdmix.mix.mixed_level``); None
            if the level of the batch, or of a pool that was drawn from, was not given.
        frames_known: Which of ``frames`` are known, bool [B, C, F'], or None if no mask was given.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None
    known: Tensor | None
    frames: Tensor | None
    plan: Plan | tuple[Plan, ...]
    level: Tensor | None = None
    frames_known: Tensor | None = None

"""Examples of a batch or mix pool before a mix, and the result of a mix.

Shapes: B batch, P mix pool, C classes, L time intervals, F' label frames.
"""

from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from birdmix.mix.draw_context import DrawContext
from birdmix.mix.mix_plan import Plan
from birdmix.mix.tensor_access import is_readable_on_host


class Examples(NamedTuple):
    """Examples to mix: a batch, or a mix pool that supplies further sources to a batch.

    Attributes:
        x: Inputs [B, ...]: waveforms, spectrograms or feature maps.
        target: Soft targets in [0, 1], floating or bool, [B, C].
        weight: Sample weights [B]; None is 1 each.
        known: Which labels were annotated, bool (or 0 and 1) [B, C]; None is all.
        frames: Strong targets in [0, 1], one per class and label frame, [B, C, F'].
        level: RMS of the sound before any normalisation, in dB, [B], or of L equal time
            intervals, [B, L] (``birdmix.mix.measure_level_db``). Needed if the mix depends on
            levels that cannot be measured from ``x``, as on normalised mels.
        frames_known: Which strong targets were annotated, bool [B, C, F']; None is ``known`` in
            every frame.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None = None
    known: Tensor | None = None
    frames: Tensor | None = None
    level: Tensor | None = None
    frames_known: Tensor | None = None

    def check_and_convert(self, name: str = "") -> "Examples":
        """Check the tensors and convert them to the types that mixing computes in.

        Masks become bool; integer weights, levels and bool targets become floating, so nothing is
        truncated. Values are checked only on the host: an accelerator is not waited for.

        Args:
            name: Prefix of the tensors' names in messages, such as ``pool ``.

        Returns:
            The converted examples.

        Raises:
            ValueError: If a type, shape, device or value is wrong; with the tensor's name, what it
                is, and what it should be.
        """
        self._check_tensors(name)
        target, frames = self.target, self.frames
        target = target.float() if _is_bool(target) else target
        if frames is not None and not frames.is_floating_point():
            frames = frames.to(target.dtype)
        converted: dict[str, Any] = {
            "target": target,
            "weight": _to_floating(self.weight),
            "known": _to_mask(self.known, f"{name}known"),
            "frames": frames,
            "level": _to_floating(self.level, at_least=torch.float32),
            "frames_known": _to_mask(self.frames_known, f"{name}frames_known"),
        }
        changed = {
            field: value for field, value in converted.items() if value is not getattr(self, field)
        }
        examples = self._replace(**changed) if changed else self
        for field in ("target", "frames"):
            _check_target_range(getattr(examples, field), f"{name}{field}")
        weight = examples.weight
        if weight is not None and is_readable_on_host(weight) and not weight.isfinite().all():
            raise ValueError(f"{name}weight holds nan or inf; correct the sample weights")
        return examples

    def _check_tensors(self, name: str) -> None:
        """Raise ValueError if a tensor's type, device or shape is not that of its field."""
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
                raise ValueError(f"{name}{field} is {tensor.dtype}; it must hold real numbers")
            if tensor.device != x.device:
                raise ValueError(
                    f"{name}{field} is on {tensor.device}, {name}x on {x.device}; move it to the "
                    "device of x"
                )
            if tensor.dim() > 0 and len(tensor) != len(x):
                raise ValueError(
                    f"{name}{field} holds {len(tensor)} examples, {name}x {len(x)}; pass one entry "
                    "per example"
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
                f"{name}weight has shape {list(self.weight.shape)}; pass one number per example, "
                "[B]"
            )
        level = self.level
        if level is not None and (level.dim() not in (1, 2) or 0 in level.shape[1:]):
            raise ValueError(
                f"{name}level has shape {list(level.shape)}; pass one number per example, [B], or "
                "one for each of L intervals of its time, [B, L]"
            )
        if self.frames_known is not None and (
            self.frames is None or self.frames.shape != self.frames_known.shape
        ):
            raise ValueError(
                f"{name}frames_known has shape {list(self.frames_known.shape)}, {name}frames "
                f"{None if self.frames is None else list(self.frames.shape)}; they must agree"
            )

    def sample_weights(self) -> Tensor:
        """Return the sample weights, [B]; 1 each if none were given."""
        if self.weight is None:
            return self.x.new_ones(len(self.x), dtype=torch.float32)
        return self.weight

    def known_mask(self) -> Tensor:
        """Return which labels were annotated, bool [B, C]; all if no mask was given."""
        return _mask_or_true(self.known, self.target)

    def frame_known_mask(self) -> Tensor | None:
        """Return which strong targets are known, bool [B, C, F']; None if no mask was given."""
        if self.frames is None or self.frames_known is not None or self.known is None:
            return self.frames_known
        return self.known[..., None].expand_as(self.frames)

    def append_pool_except_x(self, pool: "Examples | None") -> "Examples":
        """Concatenate all fields but ``x`` with those of a mix pool.

        Args:
            pool: The mix pool; None returns the examples themselves.

        Returns:
            Examples with ``x`` [B, ...] and all other fields [B + P, ...], in the batch's types. A
            field missing on one side is filled with its default, or None for ``level``.

        Raises:
            ValueError: If classes, label frames or time intervals differ, or only one side has
                strong targets.
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
            batch_value, pool_value = getattr(self, field), getattr(pool, field)
            if batch_value is None or pool_value is None:
                continue
            if batch_value.shape[1:] != pool_value.shape[1:]:
                raise ValueError(
                    f"{field} has shape {list(batch_value.shape)} in the batch and "
                    f"{list(pool_value.shape)} in the pool; all but the first number must agree"
                )
        weight = known = frames = level = frames_known = None
        if not (self.weight is None and pool.weight is None):
            weight = _concat(self.sample_weights(), pool.sample_weights())
        if not (self.known is None and pool.known is None):
            known = torch.cat([self.known_mask(), pool.known_mask()])
        if self.frames is not None and pool.frames is not None:
            frames = _concat(self.frames, pool.frames)
            batch_mask, pool_mask = self.frame_known_mask(), pool.frame_known_mask()
            if not (batch_mask is None and pool_mask is None):
                frames_known = torch.cat(
                    [_mask_or_true(batch_mask, self.frames), _mask_or_true(pool_mask, pool.frames)]
                )
        if self.level is not None and pool.level is not None:
            level = _concat(self.level, pool.level)
        target = _concat(self.target, pool.target)
        return Examples(self.x, target, weight, known, frames, level, frames_known)


def _is_bool(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool


def _to_floating(tensor: Tensor | None, at_least: torch.dtype | None = None) -> Tensor | None:
    """Convert integers to float32, and any tensor to the precision ``at_least`` or more."""
    if tensor is None:
        return None
    dtype = tensor.dtype if tensor.is_floating_point() else torch.float32
    return tensor.to(dtype if at_least is None else torch.promote_types(dtype, at_least))


def _to_mask(tensor: Tensor | None, name: str) -> Tensor | None:
    """Convert a mask to bool; raise ValueError for values other than 0 and 1."""
    if tensor is None or _is_bool(tensor):
        return tensor
    if is_readable_on_host(tensor) and not ((tensor == 0) | (tensor == 1)).all():
        raise ValueError(
            f"{name} is {tensor.dtype} and holds other values than 0 and 1; pass a bool mask: True "
            "where a label was annotated"
        )
    return tensor != 0


def _check_target_range(target: Tensor | None, name: str) -> None:
    """Raise ValueError if a target on the host lies outside [0, 1]."""
    if target is None or not is_readable_on_host(target) or not target.numel():
        return
    low, high = (bound.item() for bound in target.aminmax())
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"{name} ranges from {low:g} to {high:g}; soft targets lie in [0, 1]: clamp them, or "
            "correct the labels"
        )


def _concat(batch_value: Tensor, pool_value: Tensor) -> Tensor:
    """Concatenate values of batch and pool, in the batch's type."""
    return torch.cat([batch_value, pool_value.to(batch_value.dtype)])


def _mask_or_true(known: Tensor | None, target: Tensor) -> Tensor:
    return torch.ones_like(target, dtype=torch.bool) if known is None else known


PlanOrPlans = TypeVar("PlanOrPlans", bound=Plan | tuple[Plan, ...])


class MixResult(NamedTuple, Generic[PlanOrPlans]):
    """The result of a mix.

    Attributes:
        examples: The mixed examples. ``weight``, ``known``, ``frames`` and their masks are None if
            they were not given; ``level`` (``birdmix.mix.mixed_level_db``) also if that of a pool
            that was drawn from was not given.
        plan: The plan that was applied; a tuple of plans from a ``Chain``.
        context: What the host knows about the mixed examples.
    """

    examples: Examples
    plan: PlanOrPlans
    context: DrawContext

    @property
    def x(self) -> Tensor:
        """Mixed inputs, with the shape of the inputs."""
        return self.examples.x

    @property
    def target(self) -> Tensor:
        """Mixed targets, [B, C]."""
        return self.examples.target

    @property
    def weight(self) -> Tensor | None:
        """Mixed sample weights, [B]."""
        return self.examples.weight

    @property
    def known(self) -> Tensor | None:
        """Which labels of the mix are known, bool [B, C]."""
        return self.examples.known

    @property
    def frames(self) -> Tensor | None:
        """Mixed strong targets, [B, C, F']."""
        return self.examples.frames

    @property
    def level(self) -> Tensor | None:
        """RMS of the mixed sound in dB, shaped as given."""
        return self.examples.level

    @property
    def frames_known(self) -> Tensor | None:
        """Which of ``frames`` are known, bool [B, C, F']."""
        return self.examples.frames_known

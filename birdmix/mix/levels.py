"""How loud sources are, where they stand in a mix.

Levels of waveforms are measured: one pass over the data, no copy of them. A normalised dB
spectrogram has lost its level, so there it is carried along in ``Samples.level``.

Shapes: B batch, P pool, N = B + P rows, S sources, L stretches of time, T last axis.
"""

from math import prod

import numpy as np
import torch
from torch import Tensor

from birdmix.mix.devices import to_device
from birdmix.mix.plan import Plan
from birdmix.mix.samples import Samples

# Who is further below the sample than this is silent: amplified, it would be noise.
_MAX_MATCH = 10 ** (60 / 20)


def level(x: Tensor, num_stretches: int = 1) -> Tensor:
    """Measure the RMS of waveforms in dB; silence is at -inf.

    Args:
        x: Waveforms [B, T] or [B, C, T], or linear spectrograms; time is the last axis.
        num_stretches: Parts L of (nearly) equal length to measure each by itself: a mix that
            covers a span of time only is then judged by what is in that span.

    Returns:
        dB relative to an RMS of 1, float32 [B, L].

    Raises:
        ValueError: If x is not floating, or has fewer samples than stretches.
    """
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(
            f"a level is that of floating waveforms [B, ...], got {x.dtype} of shape "
            f"{list(x.shape)}; integer samples become floating by their full scale: x / 32768"
        )
    if not 1 <= num_stretches <= max(x.shape[-1], 1):
        raise ValueError(
            f"num_stretches={num_stretches}: {x.shape[-1]} samples fall into at least 1 and at "
            "most as many stretches"
        )
    parts = x.detach().tensor_split(num_stretches, dim=-1)
    return torch.stack([20 * _rms(part).log10() for part in parts], dim=1).float()


def is_linear(x: Tensor, linear: bool | None) -> bool:
    """Whether the level of inputs is that of the sound: as told, else for waveforms [B, T] only."""
    return x.dim() == 2 if linear is None else linear


def source_rms(plan: Plan, rows: Samples, pool: Tensor | None, linear: bool | None) -> Tensor:
    """Return the RMS of each source where it stands in the mix, float32 [B, S].

    A source with a sample that is not finite has no level: 0, as if it were silent.

    Args:
        plan: Plan for this batch and pool.
        rows: The batch, all but its ``x`` followed by the pool's; its levels count, if it has
            some, else those of ``x``.
        pool: The pool's ``x``, where the plan draws from one.
        linear: Whether the level of ``x`` is that of the sound; None says so of [B, T] only.

    Raises:
        ValueError: If the level cannot be told.
    """
    if rows.level is not None:
        rms = _carried(plan, rows.level)
    elif is_linear(rows.x, linear):
        rms = _measured(plan, rows.x, pool)
    else:
        raise ValueError(
            f"this mix goes by loudness, which inputs of shape {list(rows.x.shape)} may not "
            "show: dB and normalised spectrograms do not; pass level=birdmix.mix.level(waveform), "
            "or make the operator with linear=True if x is linear"
        )
    return rms.float().nan_to_num(nan=0.0, posinf=0.0)


def match_gain(rms: Tensor) -> Tensor:
    """Return what brings each source to the RMS of the first, the sample itself, [B, S].

    Args:
        rms: RMS of each source where it stands in the mix, [B, S].
    """
    match = rms[:, :1] / rms
    return torch.where((match < _MAX_MATCH) & (match > 1 / _MAX_MATCH), match, 1)


def _measured(plan: Plan, x: Tensor, pool: Tensor | None) -> Tensor:
    if plan.boxes is None:
        rms = _rms(x) if pool is None else torch.cat([_rms(x), _rms(pool)])
        return rms[to_device(plan.source, x.device)]
    rows = (*x, *(() if pool is None else pool))
    if x.dim() == 2:
        rows = tuple(row[None] for row in rows)
    time, mel = plan.boxes.cells(tuple(x.shape))
    boxed = plan.used[:, 1]
    energies = []
    for own, (_, partner) in enumerate(plan.source.tolist()):
        inside = (..., slice(*mel[own].tolist()), slice(*time[own].tolist()))
        outside = _around(inside[1], inside[2]) if boxed[own] else [(...,)]
        energies.append(_rms_of([rows[own][part] for part in outside]))
        energies.append(_rms_of([rows[partner][inside]]))
    return torch.stack(energies).view(len(x), 2)


def _around(mel: slice, time: slice) -> list[tuple]:
    """Cut what lies outside a box into four boxes."""
    return [
        (..., slice(0, mel.start), slice(None)),
        (..., slice(mel.stop, None), slice(None)),
        (..., mel, slice(0, time.start)),
        (..., mel, slice(time.stop, None)),
    ]


def _rms_of(parts: list[Tensor]) -> Tensor:
    """Return the RMS of some pieces of one sample together; 0 of nothing."""
    norms = [torch.linalg.vector_norm(part, dtype=_computed_in(part)) for part in parts]
    count = max(sum(part.numel() for part in parts), 1)
    return torch.linalg.vector_norm(torch.stack(norms)) / count**0.5


def _rms(x: Tensor) -> Tensor:
    """Return the RMS of each row, [N]; 0 of nothing."""
    norm = torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), dtype=_computed_in(x))
    return norm / max(prod(x.shape[1:]), 1) ** 0.5


def _computed_in(x: Tensor) -> torch.dtype:
    """Return the type that sums of squares are added up in: float32 or finer."""
    return torch.promote_types(x.dtype, torch.float32)


def _carried(plan: Plan, levels: Tensor) -> Tensor:
    power = _power(plan, levels)
    if plan.boxes is None:
        return power.mean(dim=2).sqrt()
    area = frame_areas(plan, power.shape[2], levels.device)
    return ((power * area).sum(dim=2) / area.sum(dim=2).clamp(min=1e-9)).sqrt()


def frame_areas(plan: Plan, num_frames: int, device: torch.device) -> Tensor:
    """Return the share of each of F equal stretches of time that is a source's, [B, 2, F].

    For plans with boxes: the partner has what its box covers, the sample itself the rest.
    """
    assert plan.boxes is not None
    time = to_device(plan.boxes.time.astype(np.float32), device) * num_frames
    begin = torch.arange(num_frames, device=device)
    covered = torch.minimum(time[:, 1:], begin + 1) - torch.maximum(time[:, :1], begin)
    height = np.diff(plan.boxes.mel).astype(np.float32) * plan.used[:, 1:]
    inside = covered.clamp(0, 1) * to_device(height, device)
    return torch.stack([1 - inside, inside], dim=1)


def mixed_level(
    plan: Plan,
    level: Tensor | None,
    pool_level: Tensor | None = None,
    *,
    post_gain: Tensor | None = None,
) -> Tensor | None:
    """Return the levels after a mix, in dB: the RMS of the sum, of sounds that are uncorrelated.

    Their powers add up, each by the square of all it is multiplied with: what matches its RMS to
    the sample's (``plan.matched``), its gain, its share of the stretch where there are boxes, and
    what the post did to the whole. A mix of normalised spectrograms has the level that the mix of
    their sounds would have.

    Args:
        plan: The plan that was applied.
        level: Levels before it, dB, [B] or [B, L].
        pool_level: The pool's, dB, [P] or [P, L].
        post_gain: What each sample's sound was multiplied with after its sources were added, [B];
            None is 1.

    Returns:
        Shaped as ``level``. None where the levels of the batch, or of a pool that the plan draws
        from, are not known.

    Raises:
        ValueError: If the levels are not those of the plan's samples, or those of batch and pool
            are of different stretches of time.
    """
    if level is not None and len(level) != len(plan.source):
        raise ValueError(
            f"level has shape {list(level.shape)} for a plan of {len(plan.source)} samples; pass "
            "the level of each"
        )
    if level is None or plan.is_identity:
        return level
    if pool_level is None and plan.source.max() >= len(level):
        return None
    if pool_level is not None and pool_level.shape[1:] != level.shape[1:]:
        raise ValueError(
            f"level has shape {list(level.shape)} and pool_level {list(pool_level.shape)}; measure "
            "both in the same stretches of time"
        )
    level = level if level.is_floating_point() else level.float()
    levels = (level if pool_level is None else torch.cat([level, pool_level])).detach()
    gain = to_device(plan.gain, level.device)
    if plan.matched:
        gain = gain * match_gain(_carried(plan, levels).nan_to_num(nan=0.0, posinf=0.0))
    if post_gain is not None:
        gain = gain * post_gain.detach()[:, None]
    amount = gain.square()[..., None]
    if plan.boxes is not None:
        amount = amount * frame_areas(plan, levels.view(len(levels), -1).shape[1], level.device)
    # Slots that are not used count for nothing, whatever they hold: 0 times nan is nan.
    power = torch.where(amount > 0, _power(plan, levels) * amount, 0).sum(dim=1)
    return (10 * power.log10()).to(level.dtype).view_as(level)


def _power(plan: Plan, levels: Tensor) -> Tensor:
    """Return the power of each source in each stretch of time, [B, S, L]."""
    power = 10 ** (levels.view(len(levels), -1).float() / 10)
    return power[to_device(plan.source, levels.device)]

"""Sound levels (RMS) of sources and of mixes.

Levels of waveforms are measured, in one pass over the data without a copy. The level of a
normalised dB spectrogram is not that of its sound; there the level from before the normalisation is
passed along in ``Examples.level``.

Shapes: B batch, P mix pool, N = B + P examples, S sources, L time intervals, F time frames,
T last axis.
"""

import functools
from math import prod

import numpy as np
import torch
from torch import Tensor

from birdmix.mix.mix_plan import Plan
from birdmix.mix.tensor_access import array_to_device
from birdmix.mix.time_shifts import shift_in_time, shift_offsets

# Partners are not scaled by more than this, 60 dB: near-silence would be amplified to noise.
_MAX_MATCH = 10 ** (60 / 20)

# Seconds of a frame of which the loudness is measured: 4,096 samples at 44.1 kHz.
_LOUDNESS_FRAME = 4096 / 44100


def measure_level_db(x: Tensor, num_intervals: int = 1) -> Tensor:
    """Measure the RMS of waveforms in dB; silence has -inf.

    Args:
        x: Waveforms [B, T] or [B, C, T], or linear spectrograms, floating; time is the last axis.
        num_intervals: Number of intervals L of (nearly) equal length that are measured one by one,
            so that a mix that covers a time span only can use the level within that span.

    Returns:
        dB relative to an RMS of 1, float32 [B, L].

    Raises:
        ValueError: If x is not floating, or has fewer samples than intervals.
    """
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(
            f"levels are measured of floating waveforms [B, ...], got {x.dtype} of shape "
            f"{list(x.shape)}; divide integer samples by full scale, as in x / 32768"
        )
    if not 1 <= num_intervals <= max(x.shape[-1], 1):
        raise ValueError(
            f"num_intervals={num_intervals}: it must be at least 1 and at most the number of "
            f"samples, {x.shape[-1]}"
        )
    intervals = x.detach().tensor_split(num_intervals, dim=-1)
    return torch.stack([20 * _rms(interval).log10() for interval in intervals], dim=1).float()


def is_linear_input(x: Tensor, linear: bool | None) -> bool:
    """Return whether the level of x is that of the sound: ``linear`` or, if None, x is [B, T]."""
    return x.dim() == 2 if linear is None else linear


def source_rms(
    plan: Plan,
    source: Tensor,
    x: Tensor,
    level: Tensor | None,
    pool: Tensor | None,
    linear: bool | None,
) -> Tensor:
    """Return the RMS of each source in the region where it is mixed.

    Args:
        plan: Plan for this batch and pool.
        source: Its indices of the sources, int64 [B, S], on the device of ``x``.
        x: Inputs of the batch.
        level: Levels of the batch followed by the pool in dB, [N] or [N, L]; None measures those
            of ``x`` and ``pool``.
        pool: ``x`` of the pool, if the plan draws from it.
        linear: Whether the level of ``x`` is that of the sound; None is yes for [B, T] only.

    Returns:
        Linear RMS, float32 [B, S]; 0 for a source with non-finite samples, as for silence.

    Raises:
        ValueError: If no level is given and it cannot be measured from ``x``.
    """
    if level is not None:
        rms = _rms_from_levels(plan, source, level)
    elif is_linear_input(x, linear):
        rms = _measured_rms(plan, source, x, pool)
    else:
        raise ValueError(
            f"this mix needs sound levels, which cannot be measured from inputs of shape "
            f"{list(x.shape)} (dB or normalised spectrograms); pass "
            "level=birdmix.mix.measure_level_db(waveform), or create the operator with linear=True "
            "if x is linear"
        )
    return rms.float().nan_to_num(nan=0.0, posinf=0.0)


def source_loudness(source: Tensor, x: Tensor, pool: Tensor | None, sample_rate: int) -> Tensor:
    """Return the loudness of each source: the A-weighted amplitude of its loudest frame.

    Source: the sound pressure level of Tokozume et al. 2018, arXiv:1711.10282: frames of 93 ms that
    overlap by half, A-weighting by frequency, the largest frame. Departure: frames are the nearest
    power of two samples long, for any sample rate.

    Args:
        source: Indices of the sources in the batch followed by the pool, int64 [B, S].
        x: Waveforms of the batch [B, T].
        pool: Waveforms of the pool [P, T], if there are sources from it.
        sample_rate: Hz.

    Returns:
        Linear amplitudes on a common scale, float32 [B, S]; 0 for non-finite waveforms.

    Raises:
        ValueError: If x are no waveforms.
    """
    if x.dim() != 2:
        raise ValueError(
            f"match_level=loudness needs waveforms [B, T], got shape {list(x.shape)}; use rms"
        )
    loudness = torch.cat([_loudness(each, sample_rate) for each in (x, pool) if each is not None])
    loudness = loudness.nan_to_num(nan=0.0, posinf=0.0)
    return loudness[source]


def _loudness(x: Tensor, sample_rate: int) -> Tensor:
    """Return the A-weighted amplitude of the loudest frame of waveforms [N, T]: float32 [N]."""
    weights = array_to_device(_a_weights(sample_rate), x.device)
    frame_length = len(weights) - 2
    x = x.detach().float()
    x = torch.nn.functional.pad(x, (0, max(frame_length - x.shape[1], 0)))
    frames = x.unfold(1, frame_length, frame_length // 2)
    window = torch.hann_window(frame_length, device=x.device)
    parts = torch.view_as_real(torch.fft.rfft(frames * window)).flatten(-2)
    # Not a matrix product: under autocast it would be rounded to half precision.
    return (parts.square() * weights).sum(dim=-1).amax(dim=1).sqrt()


@functools.cache
def _a_weights(sample_rate: int) -> np.ndarray:
    """Return the A-weighting of the power of a frame's spectrum, float32.

    It is that of the real and the imaginary part of each frequency in turn.
    """
    import librosa  # slow to import, and needed by few runs

    frame_length = 2 ** round(np.log2(_LOUDNESS_FRAME * sample_rate))
    frequencies = librosa.fft_frequencies(sr=sample_rate, n_fft=frame_length)
    weights = librosa.db_to_power(librosa.A_weighting(frequencies[1:]))
    return np.concatenate([[0], weights]).astype(np.float32).repeat(2)


def level_matching_gains(amplitude: Tensor) -> Tensor:
    """Return the gain that scales each source to the level of the first, the example itself.

    Args:
        amplitude: RMS or loudness of each source where it is mixed, linear, [B, S].

    Returns:
        Linear gains, [B, S]; 1 where the gain would be beyond +-60 dB or not finite.
    """
    match = amplitude[:, :1] / amplitude
    return torch.where((match < _MAX_MATCH) & (match > 1 / _MAX_MATCH), match, 1)


def _measured_rms(plan: Plan, source: Tensor, x: Tensor, pool: Tensor | None) -> Tensor:
    """Measure the RMS of each source, in its box or around it where there are boxes: [B, S]."""
    if plan.boxes is None:
        rms = _rms(x) if pool is None else torch.cat([_rms(x), _rms(pool)])
        return rms[source]
    inputs = (*x, *(() if pool is None else pool))
    if x.dim() == 2:
        inputs = tuple(waveform[None] for waveform in inputs)
    time, mel = plan.boxes.bounds_in_cells(tuple(x.shape))
    has_box = plan.used_mask[:, 1]
    rms_values = []
    for index, (_, partner) in enumerate(plan.source.tolist()):
        box = (..., slice(*mel[index].tolist()), slice(*time[index].tolist()))
        outside = _box_complement(box[1], box[2]) if has_box[index] else [(...,)]
        rms_values.append(_joint_rms([inputs[index][region] for region in outside]))
        rms_values.append(_joint_rms([inputs[partner][box]]))
    return torch.stack(rms_values).view(len(x), 2)


def _box_complement(mel: slice, time: slice) -> list[tuple]:
    """Return the region outside a box as four disjoint boxes, indices into an example."""
    return [
        (..., slice(0, mel.start), slice(None)),
        (..., slice(mel.stop, None), slice(None)),
        (..., mel, slice(0, time.start)),
        (..., mel, slice(time.stop, None)),
    ]


def _joint_rms(regions: list[Tensor]) -> Tensor:
    """Return the RMS of several regions of one example together; 0 if they are empty."""
    norms = [torch.linalg.vector_norm(region, dtype=_norm_dtype(region)) for region in regions]
    count = max(sum(region.numel() for region in regions), 1)
    return torch.linalg.vector_norm(torch.stack(norms)) / count**0.5


def _rms(x: Tensor) -> Tensor:
    """Return the RMS of each example, [N]; 0 for examples without elements."""
    norm = torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), dtype=_norm_dtype(x))
    return norm / max(prod(x.shape[1:]), 1) ** 0.5


def _norm_dtype(x: Tensor) -> torch.dtype:
    """Return the type that sums of squares are computed in: float32 or finer."""
    return torch.promote_types(x.dtype, torch.float32)


def _rms_from_levels(plan: Plan, source: Tensor, levels: Tensor) -> Tensor:
    """Return the RMS of each source from levels in dB, [N] or [N, L], averaged by area: [B, S]."""
    power = _source_power(source, levels)
    if plan.boxes is None:
        return power.mean(dim=2).sqrt()
    area = source_coverage_per_frame(plan, power.shape[2], levels.device)
    return ((power * area).sum(dim=2) / area.sum(dim=2).clamp(min=1e-9)).sqrt()


def source_coverage_per_frame(plan: Plan, num_frames: int, device: torch.device) -> Tensor:
    """Return the fraction of each of F equal time frames that each source covers.

    For plans with boxes: the partner has the area of its box, the example itself the rest.

    Args:
        plan: Plan with boxes.
        num_frames: Number of frames F.
        device: Device of the result.

    Returns:
        Fractions in [0, 1], float32 [B, 2, F].
    """
    assert plan.boxes is not None
    time = plan.boxes.time.astype(np.float32) * np.float32(num_frames)
    frame_start = np.arange(num_frames, dtype=np.float32)
    covered = np.minimum(time[:, 1:], frame_start + 1) - np.maximum(time[:, :1], frame_start)
    height = np.diff(plan.boxes.mel).astype(np.float32) * plan.used_mask[:, 1:]
    partner_area = covered.clip(0, 1) * height
    return array_to_device(np.stack([1 - partner_area, partner_area], axis=1), device)


def mixed_level_db(
    plan: Plan,
    level: Tensor | None,
    pool_level: Tensor | None = None,
    *,
    gain: Tensor | None = None,
    post_gain: Tensor | None = None,
    shift: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor | None:
    """Return the levels after a mix, in dB: the RMS of a sum of uncorrelated sounds.

    The powers of the sources add up. The power of each is multiplied by the squares of its gain
    and of the post factor and, where there are boxes, by its area in the interval. So a mix of
    normalised spectrograms has the level that the mix of their sounds would have.

    Args:
        plan: The plan that was applied.
        level: Levels before the mix, dB, [B] or [B, L].
        pool_level: Levels of the mix pool, dB, [P] or [P, L].
        gain: Gain that each source's sound has in the mix, [B, S]; None computes it from the plan
            and the levels.
        post_gain: Factor that each example was scaled by after the sum, [B]; None is 1.
        shift: Shift of each source as a fraction of its length, [B, S]; None is that of the plan.
        source: Indices of the sources on the device of the levels, [B, S]; None copies the plan's.

    Returns:
        Levels in dB, shaped as ``level``. None where the levels of the batch, or of a pool that the
        plan draws from, are not given.

    Raises:
        ValueError: If there is not one level per example of the plan, or levels of batch and pool
            are of different numbers of intervals; or a plan that depends on more than levels is
            given without the gains and shifts of its sources.
    """
    if level is not None and len(level) != len(plan.source):
        raise ValueError(
            f"level has shape {list(level.shape)} for a plan of {len(plan.source)} examples; pass "
            "one level per example"
        )
    if level is None or plan.is_identity:
        return level
    if pool_level is None and plan.source.max() >= len(level):
        return None
    if pool_level is not None and pool_level.shape[1:] != level.shape[1:]:
        raise ValueError(
            f"level has shape {list(level.shape)} and pool_level {list(pool_level.shape)}; measure "
            "both in the same number of intervals"
        )
    level = level if level.is_floating_point() else level.float()
    levels = (level if pool_level is None else torch.cat([level, pool_level])).detach()
    if source is None:
        source = array_to_device(plan.source, level.device)
    if gain is None:
        gain = _gains_from_levels(plan, source, levels)
    if shift is None and plan.shift is not None:
        shift = array_to_device(plan.shift, level.device)
    if shift is None and plan.aligned and level.dim() > 1:
        raise ValueError("levels per interval of an aligned plan need the shift of its sources")
    if post_gain is not None:
        gain = gain * post_gain.detach()[:, None]
    power_gain = gain.square()[..., None]
    if plan.boxes is not None:
        num_intervals = levels.view(len(levels), -1).shape[1]
        power_gain = power_gain * source_coverage_per_frame(plan, num_intervals, level.device)
    power = _source_power(source, levels)
    if shift is not None:
        offset = shift_offsets(shift.flatten(), power.shape[2])
        power = shift_in_time(power.flatten(0, 1), offset).view_as(power)
    # Unused slots may hold NaN levels, and 0 times NaN is NaN: they are left out.
    power = torch.where(power_gain > 0, power * power_gain, 0).sum(dim=1)
    return (10 * power.log10()).to(level.dtype).view_as(level)


def _gains_from_levels(plan: Plan, source: Tensor, levels: Tensor) -> Tensor:
    """Return the gain of each source's sound, [B, S], from levels [N] or [N, L]."""
    gain = array_to_device(plan.gain, levels.device)
    if plan.match == "loudness":
        raise ValueError("levels of a plan with match=loudness need the gain of its sources")
    if plan.match == "rms":
        rms = _rms_from_levels(plan, source, levels).nan_to_num(nan=0.0, posinf=0.0)
        gain = gain * level_matching_gains(rms)
    return to_unit_power(gain) if plan.unit_power else gain


def to_unit_power(gain: Tensor) -> Tensor:
    """Divide gains [B, S] by the root of the sum of their squares.

    A mix of equally loud, independent sources is then as loud as each of them.
    """
    return gain / gain.square().sum(dim=1, keepdim=True).sqrt()


def _source_power(source: Tensor, levels: Tensor) -> Tensor:
    """Return the power of each source in each time interval, [B, S, L], from dB [N] or [N, L]."""
    power = 10 ** (levels.view(len(levels), -1).float() / 10)
    return power[source]

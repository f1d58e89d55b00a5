"""Pitch shift: resampling, then a phase vocoder that restores the duration.

Shapes: K waveforms, T samples, N samples of a frame, M frames, F frequencies (N / 2 + 1).
"""

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad

from birdmix.augment.base_augmentation import Augmentation, draw_uniform, take_excerpts
from birdmix.augment.fourier import absolute
from birdmix.augment.resampling import STEPS_PER_SAMPLE, factors_to_steps, resample
from birdmix.augment.settings import PitchShiftSettings

# Seconds between frames, rounded up to a length of fast transforms, and hops of a frame: with three
# of them the squares of the windows add up to a constant.
_HOP_SECONDS, _HOPS_PER_FRAME = 0.01, 3
# Added to spectra, far below their rounding errors: exact silence has a phase, 0, too.
_TINY = 1e-30


@dataclass
class PitchShift(Augmentation, PitchShiftSettings):
    """Shift all frequencies of waveforms by a factor, without a change of duration or onsets.

    The waveform is resampled by the factor, which changes pitch and duration. Frames of the result
    are taken at positions that keep the original duration, and overlapped at a constant hop, with
    phases that advance as in the resampled sound. What would be above half the sample rate is
    silent.

    Source: the phase vocoder, Flanagan and Golden 1966; Laroche and Dolson 1999. Departures: the
    advance is measured between two frames that are one hop apart, so it needs no unwrapping;
    phases of neighbouring frequencies are not locked, but agree in the loudest frame. Onsets spread
    over a frame, 30 ms.

    Attributes:
        sample_rate: Hz of the waveforms.
    """

    _: KW_ONLY
    sample_rate: int

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        semitones = draw_uniform(self.semitones, shape[0], rng)
        return {"step": factors_to_steps(2 ** (semitones / 12))}

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        step, length = parameters["step"], selected.shape[1]
        size = _HOPS_PER_FRAME * next_fast_len(round(_HOP_SECONDS * self.sample_rate), real=True)
        num_resampled = math.ceil((length + size) * STEPS_PER_SAMPLE / int(step.min()))
        resampled = resample(selected, step, num_resampled, loop=False)
        return stretch(resampled, STEPS_PER_SAMPLE / step, length, size)


def stretch(x: Tensor, speed: np.ndarray, num_samples: int, frame_length: int) -> Tensor:
    """Change the duration of waveforms, each by its own factor, and keep the pitch.

    Args:
        x: Waveforms, float32 [K, at least num_samples * speed], silent behind their end.
        speed: Factors, [K]; 2 is half the duration.
        num_samples: Samples of the result T.
        frame_length: Samples of a frame N, a multiple of 3.

    Returns:
        Waveforms, float32 [K, T].
    """
    hop = frame_length // _HOPS_PER_FRAME
    num_frames = -(-(num_samples + frame_length // 2) // hop) + 1
    block_length = math.isqrt(num_frames - 1) + 1
    num_frames = block_length * -(-num_frames // block_length)
    centre = np.rint(np.arange(num_frames) * hop * speed[:, None]).astype(np.int64)  # [K, M]
    missing = max(int(centre.max()) + frame_length - x.shape[1], 0)
    padded = pad(x, (frame_length // 2 + hop, missing))
    window = torch.hann_window(frame_length, device=x.device)
    # A frame, and the one that ends a hop earlier: their phases differ by the advance of a hop.
    spectrum, earlier = (
        torch.fft.rfft(take_excerpts(padded, start, frame_length).mul_(window))
        for start in (centre + hop, centre)
    )
    advance = earlier.conj_physical_().mul_(spectrum).add_(_TINY)
    rotation = cumulative_product_(advance.mul_(absolute(advance).reciprocal_()), block_length)
    magnitude = absolute(spectrum)
    # Phases are right up to a constant per frequency. It is such that the loudest frame has its own
    # phases: neighbouring frequencies that make up a tone then do not cancel each other.
    loudest = torch.linalg.vector_norm(magnitude, dim=2).argmax(dim=1)
    row = torch.arange(len(x), device=x.device)
    constant = spectrum[row, loudest].sgn_() * rotation[row, loudest].conj_physical_()
    frames = torch.fft.irfft(rotation.mul_(constant[:, None]).mul_(magnitude), n=frame_length)
    frames *= window
    start = frame_length // 2
    return _overlap_and_add(frames, window.square())[:, start : start + num_samples]


def cumulative_product_(x: Tensor, block_length: int) -> Tensor:
    """Compute the cumulative product over the second axis, in place, by products of whole blocks.

    torch.cumprod is several times slower on a CPU, where it walks along the axis number by number.

    Args:
        x: Values [K, M, F].
        block_length: A divisor of M; about sqrt(M) needs the fewest products.
    """
    blocks = x.unflatten(1, (-1, block_length))
    for index in range(1, block_length):
        blocks[:, :, index] *= blocks[:, :, index - 1]
    for index in range(1, blocks.shape[1]):
        blocks[:, index, -1] *= blocks[:, index - 1, -1]
    blocks[:, 1:, :-1] *= blocks[:, :-1, -1:]
    return x


def _overlap_and_add(frames: Tensor, weight: Tensor) -> Tensor:
    """Add frames [K, M, N], each a hop later than the one before, and divide by their weights.

    Args:
        frames: Frames with the weights ``weight``.
        weight: Weight of each sample of a frame, [N].

    Returns:
        The sum, [K, (M + 2) * N / 3].
    """
    num_waveforms, num_frames, length = frames.shape
    hop = length // _HOPS_PER_FRAME
    total = frames.new_zeros(num_waveforms, num_frames + _HOPS_PER_FRAME - 1, hop)
    weights = frames.new_zeros(num_frames + _HOPS_PER_FRAME - 1, hop)
    parts = zip(frames.split(hop, dim=2), weight.split(hop), strict=True)
    for index, (part, weight_part) in enumerate(parts):
        total[:, index : index + num_frames] += part
        weights[index : index + num_frames] += weight_part
    # Only samples before the first and behind the last one that is used have small weights.
    return total.div_(weights.clamp_(min=0.1)).flatten(1)

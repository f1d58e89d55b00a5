"""The batch that walks through training.

Shapes: B batch, T samples, M mel bins, F frames, C classes, L stretches of time, F' label frames.
"""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Samples of one step. A tuple, because device transfer rebuilds tuples and not dataclasses.

    Attributes:
        x: Waveform [B, T], later log-mel [B, 1, M, F].
        target: Soft targets in [0, 1], [B, C].
        weight: Sample weights, [B].
        known: Whether each label was annotated at all, bool [B, C]; the loss skips the rest.
        row: Row of each sample in the recordings table, int64 [B].
        frames: Strong targets in [0, 1], [B, C, F'], where recordings are annotated so.
        level: RMS in dB of stretches of the waveform, [B, L], once it has become a mel.
        pool: A second set of samples to mix from: background noise, soundscapes.
        frames_known: Whether each strong target was annotated, bool [B, C, F']; None is ``known``.
    """

    x: Tensor
    target: Tensor
    weight: Tensor
    known: Tensor
    row: Tensor
    frames: Tensor | None = None
    level: Tensor | None = None
    pool: "Batch | None" = None
    frames_known: Tensor | None = None

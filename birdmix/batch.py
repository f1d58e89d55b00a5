"""The batch of training: waveforms or log-mels, with targets, weights and masks.

Shapes: B batch, T samples, M mel bins, F frames, C classes, L level intervals, F' label frames.
"""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Examples of one training step; a tuple, since device transfer does not rebuild dataclasses.

    Attributes:
        x: Waveforms [B, T], later log-mels [B, 1, M, F].
        target: Soft targets in [0, 1], [B, C].
        weight: Sample weights, [B].
        known: Mask of the labels that were annotated, bool [B, C]; the loss ignores the others.
        row: Row of each example in the recordings table, int64 [B].
        frames: Strong targets in [0, 1], [B, C, F']; None without strong labels.
        level: RMS of L equal time intervals of the waveform in dB, [B, L]; None unless a mix of
            log-mels needs it.
        pool: Mix pool: further examples to mix in, such as background noise or soundscapes.
        frames_known: Mask of the strong targets that were annotated, bool [B, C, F']; None means
            ``known`` in all frames.
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

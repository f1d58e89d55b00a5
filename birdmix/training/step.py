"""The training step: the whole way of a batch, in one place.

    waveform mix -> log-mel -> masking -> spectrogram mix -> classifier -> loss

Shapes: B batch, T samples, M mel bins, F frames, C classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from birdmix.batch import Batch
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.masking import masking
from birdmix.frontend.settings import MaskingSettings
from birdmix.keys import StepKeys
from birdmix.mix import Mixup, Mixup2, MixupOperator, Plan
from birdmix.model.losses import soft_bce


class Seen(NamedTuple):
    """What the network gets to see of a batch, and how it was mixed."""

    batch: Batch  # x is [B, 1, M, F]
    waveform_plan: Plan
    spectrogram_plan: Plan


def mix_batch(
    operator: MixupOperator, batch: Batch, rng: np.random.Generator
) -> tuple[Batch, Plan]:
    """Mix a batch: the one place where operators on tensors meet the batch."""
    mixed = operator(batch.x, batch.target, batch.weight, batch.known, rng=rng)
    assert mixed.weight is not None and mixed.known is not None
    batch = batch._replace(x=mixed.x, target=mixed.target, weight=mixed.weight, known=mixed.known)
    return batch, mixed.plan


@dataclass(frozen=True)
class TrainingStep:
    """Everything that stands between a batch and its loss."""

    waveform_mix: Mixup
    log_mel: LogMel
    masking: MaskingSettings
    spectrogram_mix: Mixup2
    classifier: nn.Module
    smoothing: float

    def see(self, batch: Batch, keys: StepKeys) -> Seen:
        """Take a batch of waveforms [B, T] to what the network sees, [B, 1, M, F]."""
        batch, waveform_plan = mix_batch(self.waveform_mix, batch, keys.rng("waveform_mix"))
        batch = batch._replace(x=self.log_mel(batch.x))
        batch = batch._replace(x=masking(batch.x, self.masking, keys.rng("masking")))
        batch, spectrogram_plan = mix_batch(
            self.spectrogram_mix, batch, keys.rng("spectrogram_mix")
        )
        return Seen(batch, waveform_plan, spectrogram_plan)

    def __call__(self, batch: Batch, keys: StepKeys) -> Tensor:
        """Return the loss of a batch of waveforms."""
        seen = self.see(batch, keys).batch
        logits = self.classifier(seen.x)
        return soft_bce(logits, seen.target, seen.weight, seen.known, self.smoothing)

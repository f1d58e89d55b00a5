"""The training step: the whole way of a batch, in one place.

    waveform mix -> augmentation -> log-mel -> masking, attenuation -> spectrogram mix
        -> backbone -> hidden mix -> head -> loss

Shapes: B batch, T samples, M mel bins, F frames, C classes, D features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from birdmix.audio.augment import Augmentation
from birdmix.batch import Batch
from birdmix.frontend.attenuation import attenuation
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.masking import masking
from birdmix.frontend.settings import AttenuationSettings, MaskingSettings
from birdmix.keys import StepKeys
from birdmix.mix import Audit, Operator, Plan, Samples, Stages, level
from birdmix.mix.post import peaks
from birdmix.model.losses import Loss

# Stretches of a waveform whose level its mel carries: fine enough to judge what was cut out of it.
_LEVEL_STRETCHES = 50


class Seen(NamedTuple):
    """What the network gets to see of a batch, and what became of it on the way.

    Attributes:
        batch: With log-mels [B, 1, M, F] as its x.
        plans: The plans it was mixed by, by slot and in order.
        peak: Largest absolute value of each mixed waveform, [B].
        finite: Which samples hold finite numbers only, bool [B]; the others count for nothing.
    """

    batch: Batch
    plans: dict[str, Plan]
    peak: Tensor
    finite: Tensor


def _unmarked(part: str) -> None:
    pass


@dataclass(frozen=True)
class TrainingStep:
    """Everything that stands between a batch and its loss.

    Attributes:
        stages: The operators of the mix, by where they stand.
        log_mel: The front end.
        masking: Its masks.
        attenuation: Of its upper frequencies.
        classifier: The network.
        loss: What its logits cost.
        augmentation: Of mixed waveforms, on the host.
        mark: Called with the name of the part of the way that has just been gone.
    """

    stages: Stages
    log_mel: LogMel
    masking: MaskingSettings
    attenuation: AttenuationSettings
    classifier: nn.Module
    loss: Loss
    augmentation: Augmentation | None = None
    mark: Callable[[str], None] = _unmarked

    def __call__(self, batch: Batch, keys: StepKeys, audit: Audit) -> tuple[Tensor, Tensor]:
        """Take a batch of waveforms [B, T] to its loss, and enter its mixes in the books.

        Returns:
            The loss, a weighted mean over the samples of which something is known; and the sum of
            their weights.
        """
        given = batch.target
        seen = self.see(batch, keys)
        batch, plans = seen.batch, seen.plans

        def mix_features(features: Tensor) -> Tensor:
            nonlocal batch, plans
            batch, hidden = mix_batch(self.stages.hidden, batch._replace(x=features), keys)
            plans = plans | hidden
            return batch.x

        logits = self.classifier(batch.x, mix_features if self.stages.hidden else None)
        audit.enter(plans, given, batch.target, seen.batch.x.shape, seen.peak, seen.finite)
        weight = batch.weight * batch.known.any(dim=1)
        return self.loss(logits, batch.target, weight, batch.known), weight.sum()

    def hear(self, batch: Batch, keys: StepKeys) -> tuple[Batch, dict[str, Plan]]:
        """Take a batch of waveforms [B, T] to the mixed ones, and say by which plans."""
        batch, plans = mix_batch(self.stages.waveform, batch, keys)
        if self.augmentation:
            batch = _augmented(batch, self.augmentation, keys.rng("augment mixed"))
        return batch, plans

    def see(self, batch: Batch, keys: StepKeys) -> Seen:
        """Take a batch of waveforms [B, T] to what the network sees, [B, 1, M, F]."""
        batch, on_waveforms = self.hear(batch, keys)
        peak = peaks(batch.x)
        if any(operator.needs_levels for operator in self.stages.spectrogram.values()):
            batch = batch._replace(level=level(batch.x, _LEVEL_STRETCHES))
        self.mark("mixing")
        batch = batch._replace(x=self.log_mel(batch.x))
        self.mark("mel")
        batch = batch._replace(x=masking(batch.x, self.masking, keys.rng("masking")))
        batch = batch._replace(x=attenuation(batch.x, self.attenuation, keys.rng("attenuation")))
        batch, on_mels = mix_batch(self.stages.spectrogram, batch, keys)
        batch, finite = _spared(batch)
        self.mark("mixing")
        return Seen(batch, on_waveforms | on_mels, peak, finite)


def mix_batch(
    operators: Mapping[str, Operator], batch: Batch, keys: StepKeys
) -> tuple[Batch, dict[str, Plan]]:
    """Mix a batch: the one place where operators on tensors meet the batch.

    Args:
        operators: By slot, in order.
        batch: What is to be mixed.
        keys: Of this step; each slot draws from a generator of its own.

    Returns:
        The mixed batch, and the plan of each slot.
    """
    plans = {}
    for slot, operator in operators.items():
        mixed = operator(
            *_samples(batch)[:5],
            level=batch.level,
            frames_known=batch.frames_known,
            pool=None if batch.pool is None else _samples(batch.pool),
            rng=_rng(keys, slot),
            progress=keys.progress,
        )
        plans[slot] = mixed.plan
        batch = batch._replace(
            x=mixed.x,
            target=mixed.target,
            weight=mixed.weight,
            known=mixed.known,
            frames=mixed.frames,
            level=mixed.level,
            frames_known=mixed.frames_known,
        )
    return batch, plans


def is_mixed(
    operators: Mapping[str, Operator], batch_size: int, pool_size: int, keys: StepKeys
) -> bool:
    """Return whether ``mix_batch`` mixes anything in a batch of this size, without its data."""
    return any(
        not operator.draw(
            batch_size, _rng(keys, slot), progress=keys.progress, pool_size=pool_size
        ).is_identity
        for slot, operator in operators.items()
    )


def _rng(keys: StepKeys, slot: str) -> np.random.Generator:
    return keys.rng(f"mix.{slot}")


def _samples(batch: Batch) -> Samples:
    return Samples(
        x=batch.x,
        target=batch.target,
        weight=batch.weight,
        known=batch.known,
        frames=batch.frames,
        level=batch.level,
        frames_known=batch.frames_known,
    )


def _augmented(batch: Batch, augmentation: Augmentation, rng: np.random.Generator) -> Batch:
    """Augment mixed waveforms one after the other; from a GPU they are fetched and brought back."""
    waveforms = [augmentation(each, rng) for each in batch.x.cpu().numpy()]
    return batch._replace(x=torch.from_numpy(np.stack(waveforms)).to(batch.x.device))


def _spared(batch: Batch) -> tuple[Batch, Tensor]:
    """Blank the samples that are not finite, so that one broken recording ends no run.

    They are silent, hold no label and weigh nothing; which they are is never asked of the device.
    """
    finite = batch.x.flatten(1).sum(dim=1).isfinite()
    return batch._replace(
        x=torch.where(finite[:, None, None, None], batch.x, 0),
        target=torch.where(finite[:, None], batch.target, 0),
        weight=torch.where(finite, batch.weight, 0),
    ), finite

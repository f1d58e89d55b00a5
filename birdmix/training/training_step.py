"""The training step: from a batch of waveforms to the losses of its views.

    waveform mix -> augmentation of waveforms -> log-mel
        -> augmentation of log-mels -> masking, attenuation -> spectrogram mix
        -> network with hidden mix -> loss

A clean view, if it has a weight in the loss, takes the same way without any mix.

Shapes: B batch, T samples, M mel bins, F frames, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from birdmix.augment import Augmentation, AugmentStages
from birdmix.frontend.attenuation import attenuate_high_frequencies
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.masking import mask_spectrograms
from birdmix.frontend.settings import AttenuationSettings, MaskingSettings
from birdmix.loading.batch import Batch
from birdmix.mix import DrawContext, Examples, MixStages, MixStats, Operator, Plan, measure_level_db
from birdmix.mix.post_scaling import peaks
from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.hidden_mix import HiddenMix
from birdmix.model.losses import Loss
from birdmix.random_keys import StepKeys
from birdmix.training.view_loss import ViewLoss

# Time intervals of a waveform whose RMS levels are kept with its log-mel: fine enough for the level
# of a box that is cut out of it.
_NUM_LEVELS = 50


class PreparedBatch(NamedTuple):
    """The network's input of a batch, and how it was mixed.

    Attributes:
        batch: The batch, with log-mels [B, 1, M, F] as x.
        plans: Plans of its mixes by operator name, in order.
        peak: Largest absolute value of each mixed waveform, [B].
        finite: Which examples are finite, bool [B]; the others have input 0 and weight 0.
    """

    batch: Batch
    plans: dict[str, Plan]
    peak: Tensor
    finite: Tensor


class AppliedOperator(NamedTuple):
    """A mix operator as it was applied to a batch.

    Attributes:
        name: Name of the operator.
        operator: The operator.
        before: The batch before its mix.
        plan: The plan by which it mixed.
        after: The batch after its mix.
    """

    name: str
    operator: Operator
    before: Batch
    plan: Plan
    after: Batch


def _ignore_phase(phase: str) -> None:
    pass


def _ignore_operator(applied: AppliedOperator) -> None:
    pass


@dataclass(frozen=True)
class TrainingStep:
    """Computes the losses of a batch: mixing, front end, network and loss.

    Attributes:
        mix_stages: Mix operators on waveforms, log-mels and hidden layers.
        log_mel: The front end.
        masking: Settings of time and frequency masks on log-mels.
        attenuation: Settings of the attenuation of high frequencies.
        classifier: The network.
        loss: The loss.
        augment_stages: Augmentations of mixed waveforms and of log-mels.
        end_phase: Called at the end of each phase with its name (``phase_timer.PHASES``), for
            timing.
        observe_operator: Called after each mix operator, to look at its mix; it changes nothing.
    """

    mix_stages: MixStages
    log_mel: LogMel
    masking: MaskingSettings
    attenuation: AttenuationSettings
    classifier: nn.Module
    loss: Loss
    augment_stages: AugmentStages = field(default_factory=AugmentStages)
    end_phase: Callable[[str], None] = _ignore_phase
    observe_operator: Callable[[AppliedOperator], None] = _ignore_operator

    def __call__(self, batch: Batch, keys: StepKeys, mix_stats: MixStats) -> tuple[ViewLoss, ...]:
        """Compute the losses of a batch of waveforms [B, T], and count its mixes.

        With a clean view one forward pass computes both views, 2 B examples, so batch norms see
        both. Source: RegMixup, Pinto et al. 2022, arXiv:2206.14502.

        Args:
            batch: The batch, on the device.
            keys: Random keys of the batch.
            mix_stats: Statistics to which the batch's mixes are added.

        Returns:
            The loss of the mixed batch and, if it has a weight, that of the clean one.
        """
        inputs = self.prepare_batch(batch, keys)
        mixed, plans, shape = inputs.batch, inputs.plans, inputs.batch.examples.x.shape
        clean = self.prepare_clean_view(batch, keys) if self.mix_stages.clean_weight else None

        def mix_hidden(values: Tensor) -> Tensor:
            nonlocal mixed, plans
            own, others = (values, None) if clean is None else values.tensor_split(2)
            mixed, hidden_plans = self.mix_features(mixed.replace_x(own), keys)
            plans = plans | hidden_plans
            return _concatenate(mixed.examples.x, others)

        layer = draw_hidden_layer(self.mix_stages, keys)
        output = self.classifier(
            _concatenate(mixed.examples.x, None if clean is None else clean.examples.x),
            None if layer is None else HiddenMix(layer, mix_hidden),
        )
        target = batch.examples.target
        mix_stats.update(
            plans, target, mixed.examples.target, shape, inputs.peak, inputs.finite, layer
        )
        if clean is None:
            return (self._view_loss(output, mixed.examples, 1.0),)
        mixed_output, clean_output = output.split_in_halves()
        clean_weight = self.mix_stages.clean_weight
        return (
            self._view_loss(mixed_output, mixed.examples, 1 - clean_weight),
            self._view_loss(clean_output, clean.examples, clean_weight),
        )

    def _view_loss(
        self, output: ClassifierOutput, examples: Examples, view_weight: float
    ) -> ViewLoss:
        """Compute the loss of a view from the network's output and its examples."""
        known = examples.known_mask()
        weight = examples.sample_weights() * known.any(dim=1)
        loss = self.loss(output, examples.target, weight, known)
        return ViewLoss(loss, weight.sum(), view_weight)

    def prepare_clean_view(self, batch: Batch, keys: StepKeys) -> Batch:
        """Compute the network's input of an unmixed batch of waveforms [B, T].

        Augmentation, masks and attenuation are drawn as for the mixed view of the same batch, so
        the views differ by the mix only: it is the input of a run without mixing.

        Args:
            batch: The batch, on the device.
            keys: Random keys of the batch.
        """
        unmixed = replace(self, mix_stages=self.mix_stages.without_operators())
        return unmixed.prepare_batch(batch, keys).batch

    def mix_waveforms(self, batch: Batch, keys: StepKeys) -> tuple[Batch, dict[str, Plan]]:
        """Mix and augment a batch of waveforms [B, T].

        Args:
            batch: The batch, on the device.
            keys: Random keys of the batch.

        Returns:
            The mixed batch, and the plans by operator name.
        """
        batch, plans = mix_batch(self.mix_stages.waveform, batch, keys, self.observe_operator)
        return _augment(self.augment_stages.waveform, batch, keys), plans

    def mix_features(self, batch: Batch, keys: StepKeys) -> tuple[Batch, dict[str, Plan]]:
        """Mix the features of a hidden layer.

        Plan and labels do not depend on the features.

        Args:
            batch: The batch after the other mixes, with features [B, ...] as x.
            keys: Random keys of the batch.

        Returns:
            The mixed batch, and the plans by operator name.
        """
        return mix_batch(self.mix_stages.hidden, batch, keys, self.observe_operator)

    def prepare_batch(self, batch: Batch, keys: StepKeys) -> PreparedBatch:
        """Compute the network's input, log-mels [B, 1, M, F], from a batch of waveforms [B, T].

        Args:
            batch: The batch, on the device.
            keys: Random keys of the batch.
        """
        batch, waveform_plans = self.mix_waveforms(batch, keys)
        waveforms = batch.examples.x
        peak = peaks(waveforms)
        if self.mix_stages.needs_levels_after_waveforms:
            levels = measure_level_db(waveforms, _NUM_LEVELS)
            batch = batch._replace(examples=batch.examples._replace(level=levels))
        self.end_phase("mixing")
        batch = batch.replace_x(self.log_mel(waveforms))
        self.end_phase("mel")
        log_mel = _augment(self.augment_stages.log_mel, batch, keys).examples.x
        log_mel = mask_spectrograms(log_mel, self.masking, keys.rng("masking"))
        log_mel = attenuate_high_frequencies(log_mel, self.attenuation, keys.rng("attenuation"))
        batch, spectrogram_plans = mix_batch(
            self.mix_stages.spectrogram, batch.replace_x(log_mel), keys, self.observe_operator
        )
        batch, finite = _blank_nonfinite(batch)
        self.end_phase("mixing")
        return PreparedBatch(batch, waveform_plans | spectrogram_plans, peak, finite)


def mix_batch(
    operators: Mapping[str, Operator],
    batch: Batch,
    keys: StepKeys,
    observe: Callable[[AppliedOperator], None] = _ignore_operator,
) -> tuple[Batch, dict[str, Plan]]:
    """Apply mix operators to a batch.

    Args:
        operators: Operators by name, in order.
        batch: Batch to mix.
        keys: Random keys of the batch; each operator has a generator of its own.
        observe: Called after each operator.

    Returns:
        The mixed batch, and the plan of each operator.
    """
    plans = {}
    for name, operator in operators.items():
        examples, plans[name], context = operator.mix(
            batch.examples,
            rng=_operator_rng(keys, name),
            progress=keys.progress,
            pool=batch.pool,
            context=batch.context,
        )
        before, batch = batch, batch._replace(examples=examples, context=context)
        observe(AppliedOperator(name, operator, before, plans[name], batch))
    return batch, plans


def draw_hidden_layer(mix_stages: MixStages, keys: StepKeys) -> str | None:
    """Draw the layer at which a batch is mixed, the same in all processes; None without such a mix.

    Each layer has the same probability. With one layer nothing is drawn.

    Args:
        mix_stages: Operators and layers.
        keys: Random keys of the batch.
    """
    layers = mix_stages.hidden_layers
    if not mix_stages.hidden:
        return None
    if len(layers) == 1:
        return layers[0]
    return layers[int(keys.common_rng("mix.hidden.layer").integers(len(layers)))]


def will_mix_batch(operators: Mapping[str, Operator], context: DrawContext, keys: StepKeys) -> bool:
    """Return whether ``mix_batch`` mixes anything in a batch, without the batch itself.

    Args:
        operators: Operators by name, in order.
        context: Sizes of the batch and its mix pools.
        keys: Random keys of the batch.
    """
    return any(
        operator.may_mix(context, _operator_rng(keys, name), keys.progress)
        for name, operator in operators.items()
    )


def _operator_rng(keys: StepKeys, name: str) -> np.random.Generator:
    return keys.rng(f"mix.{name}")


def _augment(augmentations: Mapping[str, Augmentation], batch: Batch, keys: StepKeys) -> Batch:
    """Apply augmentations to a batch, in order; each has a generator of its own."""
    examples = batch.examples
    for name, augmentation in augmentations.items():
        examples = augmentation.augment_examples(examples, keys.rng(f"augment.{name}"))
    return batch._replace(examples=examples)


def _concatenate(mixed: Tensor, clean: Tensor | None) -> Tensor:
    """Concatenate the views' values [B, ...] to [2 B, ...]; without a clean view copy nothing."""
    return mixed if clean is None else torch.cat([mixed, clean])


def _blank_nonfinite(batch: Batch) -> tuple[Batch, Tensor]:
    """Blank examples that are not finite, so that a corrupt recording does not stop a run.

    They get input 0, no labels and weight 0, without synchronising with the device.

    Returns:
        The batch, and which examples are finite, bool [B].
    """
    x, target = batch.examples.x, batch.examples.target
    finite = x.flatten(1).sum(dim=1).isfinite()
    examples = batch.examples._replace(
        x=torch.where(finite[:, None, None, None], x, 0),
        target=torch.where(finite[:, None], target, 0),
        weight=torch.where(finite, batch.examples.sample_weights(), 0),
    )
    return batch._replace(examples=examples), finite

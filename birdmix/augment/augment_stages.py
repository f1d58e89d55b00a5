"""Augmentations of a run by stage (waveform, log-mel), built from settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from birdmix.augment.base_augmentation import Augmentation
from birdmix.augment.log_mel_augmentations import FilterAugment, FreqMixStyle
from birdmix.augment.pitch_shift import PitchShift
from birdmix.augment.settings import AugmentSettings
from birdmix.augment.waveform_augmentations import (
    CircularShift,
    ColouredNoise,
    Gain,
    RandomFilter,
    Speed,
)
from birdmix.frontend.settings import LogMelSettings


@dataclass(frozen=True)
class AugmentStages:
    """The enabled augmentations of each stage, by name and in the order of application.

    Attributes:
        waveform: Augmentations of waveforms [B, T].
        log_mel: Augmentations of log-mels [B, 1, M, F].
    """

    waveform: Mapping[str, Augmentation] = field(default_factory=dict)
    log_mel: Mapping[str, Augmentation] = field(default_factory=dict)


def build_augment_stages(settings: AugmentSettings, log_mel: LogMelSettings) -> AugmentStages:
    """Build the augmentations that the settings enable.

    Args:
        settings: Settings of the run; augmentations of probability 0 are left out.
        log_mel: Settings of the run's log-mels, of a kind that ``settings.check_log_mel`` accepts.
    """
    rate = log_mel.sample_rate
    return AugmentStages(
        waveform=_keep_enabled(
            speed=Speed(**vars(settings.speed)),
            pitch_shift=PitchShift(**vars(settings.pitch_shift), sample_rate=rate),
            circular_shift=CircularShift(**vars(settings.circular_shift)),
            random_filter=RandomFilter(**vars(settings.random_filter)),
            coloured_noise=ColouredNoise(**vars(settings.coloured_noise)),
            gain=Gain(**vars(settings.gain)),
        ),
        log_mel=_keep_enabled(
            freq_mix_style=FreqMixStyle(**vars(settings.freq_mix_style)),
            filter_augment=FilterAugment(
                **vars(settings.filter_augment), units_per_db=1 / log_mel.scale
            ),
        ),
    )


def _keep_enabled(**augmentations: Augmentation) -> dict[str, Augmentation]:
    """Return the augmentations whose probability is not 0."""
    return {name: each for name, each in augmentations.items() if each.prob}

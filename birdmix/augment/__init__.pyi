from .augment_stages import AugmentStages, build_augment_stages
from .base_augmentation import Augmentation, Draw
from .log_mel_augmentations import FilterAugment, FreqMixStyle
from .pitch_shift import PitchShift
from .settings import (
    AugmentSettings,
    CircularShiftSettings,
    ColouredNoiseSettings,
    FilterAugmentSettings,
    FreqMixStyleSettings,
    GainSettings,
    PitchShiftSettings,
    RandomFilterSettings,
    SpeedSettings,
)
from .waveform_augmentations import CircularShift, ColouredNoise, Gain, RandomFilter, Speed

__all__ = [
    "AugmentSettings",
    "AugmentStages",
    "Augmentation",
    "CircularShift",
    "CircularShiftSettings",
    "ColouredNoise",
    "ColouredNoiseSettings",
    "Draw",
    "FilterAugment",
    "FilterAugmentSettings",
    "FreqMixStyle",
    "FreqMixStyleSettings",
    "Gain",
    "GainSettings",
    "PitchShift",
    "PitchShiftSettings",
    "RandomFilter",
    "RandomFilterSettings",
    "Speed",
    "SpeedSettings",
    "build_augment_stages",
]

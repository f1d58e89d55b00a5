"""Settings of the augmentation of batches on the training device (config group ``augment``)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from birdmix.frontend.settings import LogMelSettings
from birdmix.messages import check_choice
from birdmix.mix.parameter_checks import check_concentration, check_probability

#: Shapes of the gain of FilterAugment over frequency.
FILTER_SHAPES = ("step", "linear")


def _check_range(name: str, value: Sequence[float], lowest: float, highest: float) -> None:
    """Raise ValueError unless a value is a range [low, high] within [lowest, highest]."""
    if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
        raise ValueError(
            f"{name}={list(value)}: a range [low, high], the lower one first, between {lowest:g} "
            f"and {highest:g}"
        )


@dataclass
class PitchShiftSettings:
    """Settings of the pitch shift.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        semitones: Range of the shift in semitones, within +-12; 12 double all frequencies.
    """

    prob: float
    semitones: list[float] = field(default_factory=lambda: [-4.0, 4.0])

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        _check_range("semitones", self.semitones, -12, 12)


@dataclass
class SpeedSettings:
    """Settings of the change of speed.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        factor: Range of the speed as a factor, within [0.5, 2]; 2 is twice as fast, and an octave
            higher.
    """

    prob: float
    factor: list[float] = field(default_factory=lambda: [0.9, 1.1])

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        _check_range("factor", self.factor, 0.5, 2)


@dataclass
class CircularShiftSettings:
    """Settings of the circular shift in time.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        fraction: Range of the shift as a fraction of the length, within +-1; above 0 is later.
    """

    prob: float
    fraction: list[float] = field(default_factory=lambda: [-0.5, 0.5])

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        _check_range("fraction", self.fraction, -1, 1)


@dataclass
class RandomFilterSettings:
    """Settings of the random filter of waveforms.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        min_db: Lowest gain in dB, within [-120, 0]; gains are uniform in [min_db, 0].
        num_gains: Number of frequencies, evenly spaced from 0 to half the sample rate, whose gains
            are drawn; between them gains in dB are linear.
    """

    prob: float
    min_db: float = -15.0
    num_gains: int = 4

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        if not -120 <= self.min_db <= 0:
            raise ValueError(f"min_db={self.min_db}: it lies between -120 and 0")
        if not 2 <= self.num_gains <= 100:
            raise ValueError(f"num_gains={self.num_gains}: it lies between 2 and 100")


@dataclass
class ColouredNoiseSettings:
    """Settings of coloured noise.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        snr_db: Range of the level of the example minus that of the noise, in dB, within +-120.
        exponent: Range of k, within +-4, of the power spectrum 1 / f ** k of the noise: 0 is white,
            1 pink, 2 brown.
    """

    prob: float
    snr_db: list[float] = field(default_factory=lambda: [3.0, 30.0])
    exponent: list[float] = field(default_factory=lambda: [0.0, 2.0])

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        _check_range("snr_db", self.snr_db, -120, 120)
        _check_range("exponent", self.exponent, -4, 4)


@dataclass
class GainSettings:
    """Settings of the gain of waveforms.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        gain_db: Range of the gain in dB, within +-120.
    """

    prob: float
    gain_db: list[float] = field(default_factory=lambda: [-6.0, 6.0])

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        _check_range("gain_db", self.gain_db, -120, 120)


@dataclass
class FreqMixStyleSettings:
    """Settings of Freq-MixStyle.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        beta: Concentration b, above 0, of lambda ~ Beta(b, b), the part of an example's own
            statistics.
    """

    prob: float
    beta: float = 0.3

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        check_concentration("beta", self.beta)


@dataclass
class FilterAugmentSettings:
    """Settings of FilterAugment.

    Attributes:
        prob: Probability of an example, in [0, 1]; 0 is off.
        gain_db: Range of the gains in dB, within +-120.
        num_bands: Range of the number of frequency bands, both ends included, within [2, 100].
        min_mel_bins: Fewest mel bins of a band.
        shape: Gain over frequency: step (constant in each band) or linear (drawn at the ends of the
            bands, linear in dB between).
    """

    prob: float
    gain_db: list[float] = field(default_factory=lambda: [-6.0, 6.0])
    num_bands: list[int] = field(default_factory=lambda: [3, 5])
    min_mel_bins: int = 6
    shape: str = "linear"

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        _check_range("gain_db", self.gain_db, -120, 120)
        _check_range("num_bands", self.num_bands, 2, 100)
        if self.min_mel_bins < 1:
            raise ValueError(f"min_mel_bins={self.min_mel_bins}: it must be 1 or more")
        check_choice("shape", self.shape, FILTER_SHAPES)

    def check_num_mels(self, num_mels: int) -> None:
        """Raise ValueError if log-mels have fewer bins than the bands need."""
        needed = self.num_bands[1] * self.min_mel_bins
        if num_mels < needed:
            raise ValueError(
                f"num_bands={list(self.num_bands)}: {self.num_bands[1]} bands of {needed} mel bins "
                f"together do not fit into {num_mels}; lower num_bands or min_mel_bins"
            )


@dataclass
class AugmentSettings:
    """Augmentations of batches on the training device, in this order; none by default.

    On waveforms, after mixing: speed, pitch_shift, circular_shift, random_filter, coloured_noise,
    gain. On log-mels, before masks and the mixing of log-mels: freq_mix_style, filter_augment. Each
    draws for every example whether it changes it, and how.

    Attributes:
        speed: Speed, and with it pitch and duration.
        pitch_shift: Pitch, at the same duration.
        circular_shift: Shift in time; what leaves the end comes in at the beginning.
        random_filter: Filter, as of a microphone and of the way to it.
        coloured_noise: Noise, in addition to the sound.
        gain: Level.
        freq_mix_style: Mean and deviation of each mel bin, blended with those of another example.
        filter_augment: Gains of random frequency bands.
    """

    speed: SpeedSettings = field(default_factory=lambda: SpeedSettings(prob=0.0))
    pitch_shift: PitchShiftSettings = field(default_factory=lambda: PitchShiftSettings(prob=0.0))
    circular_shift: CircularShiftSettings = field(
        default_factory=lambda: CircularShiftSettings(prob=0.0)
    )
    random_filter: RandomFilterSettings = field(
        default_factory=lambda: RandomFilterSettings(prob=0.0)
    )
    coloured_noise: ColouredNoiseSettings = field(
        default_factory=lambda: ColouredNoiseSettings(prob=0.0)
    )
    gain: GainSettings = field(default_factory=lambda: GainSettings(prob=0.0))
    freq_mix_style: FreqMixStyleSettings = field(
        default_factory=lambda: FreqMixStyleSettings(prob=0.0)
    )
    filter_augment: FilterAugmentSettings = field(
        default_factory=lambda: FilterAugmentSettings(prob=0.0)
    )

    def check_log_mel(self, log_mel: LogMelSettings) -> None:
        """Check that log-mels are such that the augmentations can be computed.

        Raises:
            ValueError: With the name of the augmentation and the remedy, if a gain in dB cannot be
                applied to these log-mels, or there are too few mel bins.
        """
        if not self.filter_augment.prob:
            return
        if (log_mel.compression, log_mel.normalise) != ("decibel", "fixed"):
            raise ValueError(
                "filter_augment: its gains are in dB, and log-mels are linear in dB only with "
                "frontend.log_mel.normalise=fixed and compression=decibel; set them so, or use "
                "augment.random_filter, which filters the waveform"
            )
        try:
            self.filter_augment.check_num_mels(log_mel.n_mels)
        except ValueError as error:
            raise ValueError(f"filter_augment.{error}") from error

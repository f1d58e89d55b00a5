"""Front-end settings (config group ``frontend``) and their defaults; bundles store ``log_mel``."""

import math
from dataclasses import dataclass, field

from birdmix.json_data import check_setting_magnitudes
from birdmix.messages import check_choice

#: Lower bound on the power of a mel bin: -100 dB, below 16-bit quantisation noise.
MIN_POWER = 1e-10
#: Shortest model input in seconds; a shorter one leaves a network no frames.
MIN_INPUT_SECONDS = 0.05
#: Largest model input: samples, values of its complex spectrogram (256 MiB) and values of its
#: log-mel. A few of these fit into the memory of a computer.
MAX_SAMPLES, MAX_SPECTRUM_VALUES, MAX_LOG_MEL_VALUES = 2**26, 2**25, 2**24
#: Added to the range or deviation of a spectrogram, which is 0 for silence.
EPS = 1e-5


@dataclass
class PcenSettings:
    """Per-channel energy normalisation (PCEN): each mel bin divided by its own smoothed past.

    The smoothed past of a mel E is M[t] = (1 - b) M[t-1] + b E[t], and the result
    (E / (eps + M) ** gain + bias) ** power - bias ** power. Source: Wang et al. 2017,
    arXiv:1607.05666; parameters and defaults are those of ``librosa.pcen``.

    Attributes:
        time_constant: Time constant of the smoothing, in seconds.
        gain: Exponent of the past that is divided out, in [0, 1].
        bias: Added before the root; keeps noise in quiet bins small.
        power: Exponent of the root that compresses.
        eps: Added to the past; levels far below it count as silence.
        scale: Factor that the mel is multiplied by first: librosa's defaults are made for samples
            of up to 2 ** 31 and magnitudes (log_mel.power=1), while samples here lie in [-1, 1].
        start: Initial value of the past: first (the first frame) or one (as librosa does; at this
            scale the first tenths of a second of every window are then too loud).
    """

    time_constant: float = 0.4
    gain: float = 0.98
    bias: float = 2.0
    power: float = 0.5
    eps: float = 1e-6
    scale: float = 2.0**31
    start: str = "first"

    def __post_init__(self) -> None:
        check_choice("start", self.start, ("first", "one"))
        _check_positive(self, "time_constant", "bias", "power", "eps", "scale")
        _check_fractions(self, "gain")
        check_setting_magnitudes(
            self, time_constant=3600, bias=10**6, power=10, eps=10**6, scale=10**12
        )
        for name, minimum in (("time_constant", 1e-4), ("eps", 1e-30)):  # below, it acts as 0
            if getattr(self, name) < minimum:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least {minimum:g}")

    def smoothing_coefficient(self, frames_per_second: float) -> float:
        """Return the smoothing coefficient b, the weight of the newest frame, as librosa does.

        Args:
            frames_per_second: Frame rate of the mels, in Hz.

        Returns:
            b in (0, 1].
        """
        frames = self.time_constant * frames_per_second
        return ((1 + 4 * frames**2) ** 0.5 - 1) / (2 * frames**2)


@dataclass
class LogMelSettings:
    """Parameters of the log-mel spectrogram of a mono waveform.

    Attributes:
        sample_rate: Sample rate in Hz; recordings are resampled to it.
        n_fft: Window and transform length in samples.
        hop_length: Hop between frames, in samples.
        n_mels: Number of mel bins M.
        f_min: Lowest frequency in Hz.
        f_max: Highest frequency in Hz; null is half the sample rate.
        mel_scale: Mel scale: slaney or htk.
        mel_norm: Norm of the mel filters: slaney (equal areas) or null (equal peaks).
        top_db: Dynamic range in dB: levels further below an example's own maximum are clamped
            (decibel only).
        normalise: standardise (each example to mean 0, deviation 1), minmax (each example to
            [0, 1]) or fixed ((x + offset) / scale).
        power: Exponent of the magnitudes that the mel filters sum: 2 for power, 1 for magnitudes.
            Decibels are 10 log10 of power and 20 log10 of magnitudes, so that a tone has the same
            level in both. The lowest level is -100 dB in both, as in librosa; torchaudio's is
            -200 dB for magnitudes.
        compression: decibel or pcen.
        pcen: Parameters of compression=pcen.
        offset: Offset of normalise=fixed; the default is made for decibels.
        scale: Scale of normalise=fixed; the default is made for decibels.
        pad_mode: Padding at both ends of a waveform: constant (silence; librosa's default) or
            reflect (torchaudio's default).
    """

    sample_rate: int = 32_000
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 128
    f_min: float = 50.0
    f_max: float | None = None
    mel_scale: str = "slaney"
    mel_norm: str | None = "slaney"
    top_db: float = 80.0
    normalise: str = "standardise"
    power: float = 2.0
    compression: str = "decibel"
    pcen: PcenSettings = field(default_factory=PcenSettings)
    offset: float = 80.0
    scale: float = 80.0
    pad_mode: str = "constant"

    def __post_init__(self) -> None:
        check_choice("mel_scale", self.mel_scale, ("slaney", "htk"))
        check_choice("normalise", self.normalise, ("standardise", "minmax", "fixed"))
        check_choice("compression", self.compression, ("decibel", "pcen"))
        check_choice("pad_mode", self.pad_mode, ("constant", "reflect"))
        if self.mel_norm is not None:
            check_choice("mel_norm", self.mel_norm, ("slaney",))
        _check_positive(self, "sample_rate", "n_fft", "hop_length", "n_mels", "top_db", "scale")
        check_setting_magnitudes(
            self,
            sample_rate=1_000_000,
            n_fft=65_536,
            hop_length=1_000_000,
            n_mels=1024,
            top_db=1000,
            offset=10**9,
            scale=10**9,
        )
        if self.power not in (1, 2):
            raise ValueError(f"power={self.power}: it is 1 (magnitudes) or 2 (power)")
        defaults = (LogMelSettings.offset, LogMelSettings.scale)
        fixed_pcen = (self.compression, self.normalise) == ("pcen", "fixed")
        if fixed_pcen and (self.offset, self.scale) == defaults:
            raise ValueError(
                f"compression=pcen normalise=fixed: offset={self.offset:g} scale={self.scale:g} "
                "are made for decibels and reduce PCEN to nearly a constant; use "
                "offset=0 scale=1 or normalise=standardise"
            )
        if self.n_fft % 2:
            raise ValueError(f"n_fft={self.n_fft}: it must be even")
        if not 0 <= self.f_min < self.max_frequency <= self.sample_rate / 2:
            raise ValueError(
                f"f_min={self.f_min} and f_max={self.max_frequency} must satisfy "
                f"0 <= f_min < f_max <= {self.sample_rate / 2:.0f} Hz, half the sample rate"
            )

    @property
    def max_frequency(self) -> float:
        """Highest frequency in Hz: f_max or, if null, half the sample rate."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    def seconds_to_num_samples(self, seconds: float) -> int:
        """Return the number of samples T in ``seconds``."""
        return round(seconds * self.sample_rate)

    def samples_to_num_frames(self, num_samples: int) -> int:
        """Return the number of frames F of ``num_samples`` samples.

        Raises:
            ValueError: If pad_mode is reflect and there are too few samples to reflect.
        """
        if self.pad_mode == "reflect" and num_samples <= self.n_fft // 2:
            raise ValueError(
                f"pad_mode=reflect needs more than n_fft / 2 = {self.n_fft // 2} samples, got "
                f"{num_samples}; use pad_mode=constant or a longer data.segment_seconds"
            )
        return num_samples // self.hop_length + 1

    def check_input_seconds(self, seconds: float, key: str) -> None:
        """Check that a model input is long enough for a frame, and small enough for memory.

        Args:
            seconds: Length of the model input.
            key: The setting and its value, as ``data.segment_seconds=5``, for the message.

        Raises:
            ValueError: If it is too short or too long; with the key and the limit.
        """
        if not MIN_INPUT_SECONDS <= seconds < math.inf:
            raise ValueError(f"{key}: it must be finite, and at least {MIN_INPUT_SECONDS} s")
        if seconds * self.sample_rate > MAX_SAMPLES:
            maximum = MAX_SAMPLES / self.sample_rate
            raise ValueError(f"{key}: at {self.sample_rate} Hz it must be at most {maximum:.0f} s")
        num_frames = self.samples_to_num_frames(self.seconds_to_num_samples(seconds))
        spectrum_fraction = self.n_fft // 2 / MAX_SPECTRUM_VALUES
        if num_frames * max(spectrum_fraction, self.n_mels / MAX_LOG_MEL_VALUES) > 1:
            raise ValueError(
                f"{key}: {num_frames:,} frames of n_fft={self.n_fft} and n_mels={self.n_mels} need "
                f"too much memory; use shorter windows or a hop_length above {self.hop_length}"
            )


@dataclass
class MaskingSettings:
    """Time and frequency masks on log-mels in training (SpecAugment), drawn per example.

    Attributes:
        prob: Probability that an example is masked at all.
        time_prob: Probability that a masked example has time masks.
        num_time_masks: Time masks per example.
        max_time_fraction: Largest width of a time mask as a fraction of the frames, in [0, 1].
        mel_prob: Probability that a masked example has frequency masks.
        num_mel_masks: Frequency masks per example.
        max_mel_fraction: Largest width of a frequency mask as a fraction of the mel bins, in
            [0, 1].
    """

    prob: float = 0.0
    num_time_masks: int = 1
    max_time_fraction: float = 0.1
    num_mel_masks: int = 1
    max_mel_fraction: float = 0.1
    time_prob: float = 1.0
    mel_prob: float = 1.0

    def __post_init__(self) -> None:
        _check_fractions(
            self, "prob", "max_time_fraction", "max_mel_fraction", "time_prob", "mel_prob"
        )
        for name in ("num_time_masks", "num_mel_masks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be 0 or more")


@dataclass
class AttenuationSettings:
    """Random attenuation of high frequencies, as by distance and foliage; drawn per example.

    Attributes:
        prob: Probability that an example is attenuated.
        max_attenuation: Largest attenuation, at the highest bins, as a fraction of the height
            above silence, in [0, 1].
    """

    prob: float = 0.0
    max_attenuation: float = 0.5

    def __post_init__(self) -> None:
        _check_fractions(self, "prob", "max_attenuation")


@dataclass
class FrontendSettings:
    """Front end of a run: the log-mel spectrogram and its augmentation in training."""

    log_mel: LogMelSettings = field(default_factory=LogMelSettings)
    masking: MaskingSettings = field(default_factory=MaskingSettings)
    attenuation: AttenuationSettings = field(default_factory=AttenuationSettings)


def _check_positive(settings: object, *names: str) -> None:
    """Raise ValueError if a setting is not above 0."""
    for name in names:
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name}={getattr(settings, name)}: it must be above 0")


def _check_fractions(settings: object, *names: str) -> None:
    """Raise ValueError if a setting lies outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name}={getattr(settings, name)}: it lies in [0, 1]")

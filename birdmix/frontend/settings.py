"""The front end's settings: the one home of their defaults, and what a bundle stores of them."""

from dataclasses import dataclass, field

from birdmix.suggest import check_choice


@dataclass
class LogMelSettings:
    """A log-mel spectrogram of a mono waveform.

    Attributes:
        sample_rate: Hz; recordings are resampled to it.
        n_fft: Window and transform length in samples.
        hop_length: Samples between frames.
        n_mels: Mel bins M.
        f_min: Lowest frequency in Hz.
        f_max: Highest frequency in Hz; null is half the sample rate.
        mel_scale: slaney or htk.
        mel_norm: slaney (bins of equal area) or null (bins of equal peak).
        top_db: Levels further below a sample's own maximum are raised to it, in dB.
        normalise: standardise (each sample to mean 0, deviation 1) or fixed ((dB + 80) / 80).
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

    def __post_init__(self) -> None:
        check_choice("mel_scale", self.mel_scale, ("slaney", "htk"))
        check_choice("normalise", self.normalise, ("standardise", "fixed"))
        if self.mel_norm is not None:
            check_choice("mel_norm", self.mel_norm, ("slaney",))
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels", "top_db"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be above 0")
        if not 0 <= self.f_min < self.highest <= self.sample_rate / 2:
            raise ValueError(
                f"f_min={self.f_min} and f_max={self.highest} must satisfy "
                f"0 <= f_min < f_max <= {self.sample_rate / 2:.0f} Hz, half the sample rate"
            )

    @property
    def highest(self) -> float:
        """Highest frequency in Hz, with null resolved."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    def num_samples(self, seconds: float) -> int:
        """Return the samples T that ``seconds`` last."""
        return round(seconds * self.sample_rate)

    def num_frames(self, num_samples: int) -> int:
        """Return the frames F that ``num_samples`` samples give."""
        return num_samples // self.hop_length + 1


@dataclass
class MaskingSettings:
    """Time and frequency masks on the log-mel batch (SpecAugment), drawn per sample.

    Attributes:
        prob: Probability that a sample is masked at all.
        num_time_masks: Time masks per sample.
        max_time_share: Widest time mask as a share of the frames, in [0, 1].
        num_mel_masks: Frequency masks per sample.
        max_mel_share: Widest frequency mask as a share of the mel bins, in [0, 1].
    """

    prob: float = 0.0
    num_time_masks: int = 1
    max_time_share: float = 0.1
    num_mel_masks: int = 1
    max_mel_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("prob", "max_time_share", "max_mel_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1]")


@dataclass
class FrontendSettings:
    """The front end of a run: the spectrogram, and the masks that training lays on it."""

    log_mel: LogMelSettings = field(default_factory=LogMelSettings)
    masking: MaskingSettings = field(default_factory=MaskingSettings)

"""The front end's settings: the one home of their defaults, and what a bundle stores of them."""

import math
from dataclasses import dataclass, field

from birdmix.json_data import check_at_most
from birdmix.suggest import check_choice

#: The least power of a mel bin: -100 dB, below 16-bit quantisation noise.
MIN_POWER = 1e-10
#: Seconds: in a shorter window a network has no frames.
SHORTEST_WINDOW = 0.05
#: Samples of a window, and numbers of its complex spectrogram (256 MiB) and of its log-mel, that
#: memory still holds a few of.
MOST_SAMPLES, MOST_SPECTRUM, MOST_LOG_MEL = 2**26, 2**25, 2**24
#: Added to a sample's range or deviation, which in silence is 0.
EPS = 1e-5


@dataclass
class PcenSettings:
    """Per-channel energy normalisation: each mel bin over its own smoothed past.

    The smoothed past of a mel E is M[t] = (1 - b) M[t-1] + b E[t], and the result
    (E / (eps + M) ** gain + bias) ** power - bias ** power. Source: Wang et al. 2017,
    arXiv:1607.05666; parameters and defaults are those of ``librosa.pcen``.

    Attributes:
        time_constant: Of the smoothing, in seconds.
        gain: How much of the past is divided out, in [0, 1].
        bias: What is added ahead of the root; keeps noise in quiet bins small.
        power: The root that compresses.
        eps: Added to the past; levels far below it count as silence.
        scale: The mel is multiplied by it first: librosa's defaults are made for samples of up to
            2 ** 31 and magnitudes (log_mel.power=1), ours lie in [-1, 1].
        start: What the past begins with: first (the first frame) or one (as librosa does; at this
            scale the first tenths of a second then stand out, in every window).
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
        _check_shares(self, "gain")
        check_at_most(self, time_constant=3600, bias=10**6, power=10, eps=10**6, scale=10**12)
        for name, least in (("time_constant", 1e-4), ("eps", 1e-30)):  # less counts as 0
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least {least:g}")

    def newest(self, frames_per_second: float) -> float:
        """Return b, the share of the newest frame in the smoothed past, as librosa derives it."""
        frames = self.time_constant * frames_per_second
        return ((1 + 4 * frames**2) ** 0.5 - 1) / (2 * frames**2)


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
        top_db: Levels further below a sample's own maximum are raised to it, in dB (decibel only).
        normalise: standardise (each sample to mean 0, deviation 1), minmax (each sample to [0, 1])
            or fixed ((x + offset) / scale).
        power: What the mel filters sum up: 2 for power, 1 for magnitudes. Decibels are 10 log10 of
            the one and 20 log10 of the other, so that a tone has the same level in both. The
            floor is -100 dB in both, as librosa's; torchaudio's is -200 dB for magnitudes.
        compression: decibel, or pcen in its place.
        pcen: Its parameters.
        offset: Of normalise=fixed; the default is made for decibels.
        scale: Of normalise=fixed; as the offset.
        pad_mode: What stands beyond both ends of a sample: constant (silence; librosa's default) or
            reflect (torchaudio's).
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
        check_at_most(
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
                "are made for decibels and leave little more than a constant of PCEN; take "
                "offset=0 scale=1 or normalise=standardise"
            )
        if self.n_fft % 2:
            raise ValueError(f"n_fft={self.n_fft}: it must be even")
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
        """Return the frames F that ``num_samples`` samples give.

        Raises:
            ValueError: If there is too little to reflect.
        """
        if self.pad_mode == "reflect" and num_samples <= self.n_fft // 2:
            raise ValueError(
                f"pad_mode=reflect needs more than n_fft / 2 = {self.n_fft // 2} samples, got "
                f"{num_samples}; take pad_mode=constant or a longer data.segment_seconds"
            )
        return num_samples // self.hop_length + 1

    def check_window(self, seconds: float, key: str) -> None:
        """Refuse windows that are too short to hear, or too large for the memory of a computer.

        Args:
            seconds: Length of the windows.
            key: What sets it, as ``data.segment_seconds=5``, for the message.

        Raises:
            ValueError: With the key and the limit.
        """
        if not SHORTEST_WINDOW <= seconds < math.inf:
            raise ValueError(f"{key}: it must be finite, and at least {SHORTEST_WINDOW} s")
        if seconds * self.sample_rate > MOST_SAMPLES:
            longest = MOST_SAMPLES / self.sample_rate
            raise ValueError(f"{key}: at {self.sample_rate} Hz it must be at most {longest:.0f} s")
        frames = self.num_frames(self.num_samples(seconds))
        if frames * max(self.n_fft // 2 / MOST_SPECTRUM, self.n_mels / MOST_LOG_MEL) > 1:
            raise ValueError(
                f"{key}: {frames:,} frames of n_fft={self.n_fft} and n_mels={self.n_mels} need too "
                f"much memory; take shorter windows or a hop_length above {self.hop_length}"
            )


@dataclass
class MaskingSettings:
    """Time and frequency masks on the log-mel batch (SpecAugment), drawn per sample.

    Attributes:
        prob: Probability that a sample is masked at all.
        time_prob: Probability that a sample that is masked has time masks.
        num_time_masks: Time masks per sample.
        max_time_share: Widest time mask as a share of the frames, in [0, 1].
        mel_prob: Probability that a sample that is masked has frequency masks.
        num_mel_masks: Frequency masks per sample.
        max_mel_share: Widest frequency mask as a share of the mel bins, in [0, 1].
    """

    prob: float = 0.0
    num_time_masks: int = 1
    max_time_share: float = 0.1
    num_mel_masks: int = 1
    max_mel_share: float = 0.1
    time_prob: float = 1.0
    mel_prob: float = 1.0

    def __post_init__(self) -> None:
        _check_shares(self, "prob", "max_time_share", "max_mel_share", "time_prob", "mel_prob")
        for name in ("num_time_masks", "num_mel_masks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be 0 or more")


@dataclass
class AttenuationSettings:
    """Random attenuation of upper frequencies, as distance and foliage do; drawn per sample.

    Attributes:
        prob: Probability that a sample is attenuated.
        max_attenuation: Share of its height above silence that the top may lose, in [0, 1].
    """

    prob: float = 0.0
    max_attenuation: float = 0.5

    def __post_init__(self) -> None:
        _check_shares(self, "prob", "max_attenuation")


@dataclass
class FrontendSettings:
    """The front end of a run: the spectrogram, and what training does to it."""

    log_mel: LogMelSettings = field(default_factory=LogMelSettings)
    masking: MaskingSettings = field(default_factory=MaskingSettings)
    attenuation: AttenuationSettings = field(default_factory=AttenuationSettings)


def _check_positive(settings: object, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name}={getattr(settings, name)}: it must be above 0")


def _check_shares(settings: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name}={getattr(settings, name)}: it lies in [0, 1]")

"""Settings of mixing in a run (config group ``mix``)."""

from dataclasses import dataclass, field

from birdmix.messages import check_choice
from birdmix.mix.mix_schedule import SHAPES
from birdmix.mix.parameter_checks import (
    AXES,
    POST_NAMES,
    RULE_NAMES,
    SCOPES,
    check_concentration,
    check_probability,
    check_range,
)


@dataclass
class CutMixSettings:
    """CutMix of log-mels: a box of each example is replaced by the same box of its partner.

    Attributes:
        prob: Probability of mixing, per batch or per example (mix.scope), in [0, 1]; 0 is off.
        beta: Concentration b of lambda ~ Beta(b, b), the area that the example keeps.
        axis: Shape of the box: time (a time span), frequency (a frequency band) or box.
        rule: How labels are joined: convex, union, max, noisy_or or amplitude.
    """

    prob: float = 0.0
    beta: float = 1.0
    axis: str = "time"
    rule: str = "convex"

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        check_concentration("beta", self.beta)
        check_choice("axis", self.axis, AXES)
        check_choice("rule", self.rule, RULE_NAMES)


@dataclass
class InjectSettings:
    """Adding an example of the mix pool (``data.mix_pool``) to waveforms: noise, soundscapes.

    Attributes:
        prob: Probability of mixing, per example whatever mix.scope is, in [0, 1]; 0 is off.
        gain: Range of the pool example's linear gain, drawn uniformly.
        snr_db: Replaces ``gain``: range of the example's level minus the pool example's, in dB.
        convex: Whether the example itself gets gain 1 - gain, as in a blend.
        rule: How labels are joined: max, convex, union, noisy_or or amplitude.
        label_cap: Largest sum of the labels that a pool example contributes; null is no cap.
    """

    prob: float = 0.0
    gain: list[float] = field(default_factory=lambda: [1.0, 1.0])
    snr_db: list[float] | None = None
    convex: bool = False
    rule: str = "max"
    label_cap: float | None = None

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        for name in ("gain", "snr_db"):
            bounds = getattr(self, name)
            if bounds is not None and len(bounds) != 2:
                raise ValueError(f"{name}={bounds}: it must be a range, [lowest, highest]")
        check_range("gain", (self.gain[0], self.gain[1]), 0)
        if self.label_cap is not None and self.label_cap < 0:
            raise ValueError(f"label_cap={self.label_cap}: it must be 0 or more")
        check_choice("rule", self.rule, RULE_NAMES)


@dataclass
class HiddenMixSettings:
    """Mixup2 of the feature map before the head (Verma et al. 2019, arXiv:1806.05236).

    Attributes:
        prob: Probability of mixing, per batch or per example (mix.scope), in [0, 1]; 0 is off.
        beta: Concentration b of lambda ~ Beta(b, b), drawn per example.
    """

    prob: float = 0.0
    beta: float = 2.0

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        check_concentration("beta", self.beta)


@dataclass
class ProbabilityScheduleSettings:
    """Schedule over a run: a factor that all mix probabilities are multiplied by.

    Attributes:
        start: Factor at the beginning, in [0, 1].
        end: Factor at the end, in [0, 1].
        shape: Curve from start to end: constant (stays at start), linear or cosine.
        warm_up: Fraction of the run over which the factor is first scaled up linearly from 0.
        off_from: Progress in [0, 1] from which on nothing is mixed; 1 mixes to the end.
    """

    start: float = 1.0
    end: float = 1.0
    shape: str = "linear"
    warm_up: float = 0.0
    off_from: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "warm_up", "off_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: it lies in [0, 1]")
        check_choice("shape", self.shape, SHAPES)


@dataclass
class MixSettings:
    """Five mix operators, in this order: mixup, then inject, on waveforms; cutmix, then mixup2, on
    log-mels; hidden on the feature map before the head.

    Attributes:
        mixup_prob: Probability that waveforms are summed, per batch or per example (scope), in
            [0, 1]; 0 is off.
        mixup_double: Given a sum, the probability of two sources, in [0, 1]; otherwise three.
        num_sources: Replaces ``mixup_double``: the probabilities of two, three, four and more
            sources, as in [0.5, 0.3, 0.2]; empty uses ``mixup_double``.
        mix_beta: null sums at gain 1; a number is the concentration of a symmetric Dirichlet
            distribution of gains that add up to 1.
        mixup_rule: How labels are joined: union, convex, max, noisy_or or amplitude.
        match_rms: Whether partners are scaled to the example's own RMS before waveforms are summed.
        post: Scaling of a sum: none, peak_guard, peak_normalise or standardise.
        inject: Adding an example of the mix pool to waveforms.
        cutmix: CutMix of log-mels.
        mixup2_prob: Probability that log-mels are blended, per batch or per example (scope), in
            [0, 1]; 0 is off.
        mix_beta2: Concentration b of lambda ~ Beta(b, b), drawn per example.
        mixup2_rule: How labels are joined: convex, union, max, noisy_or or amplitude.
        hidden: Mixup2 of features.
        scope: What one random decision to mix applies to: batch (all examples) or sample (each
            example by itself). inject always decides per example.
        min_snr_db: Audibility threshold in dB, 0 or less: sources this far below the loudest of
            their mix contribute no label; null is no threshold.
        schedule: How the probabilities change over a run.
    """

    mixup_prob: float = 0.0
    mixup_double: float = 0.5
    num_sources: list[float] = field(default_factory=list)
    mix_beta: float | None = None
    mixup_rule: str = "union"
    match_rms: bool = False
    post: str = "none"
    inject: InjectSettings = field(default_factory=InjectSettings)
    cutmix: CutMixSettings = field(default_factory=CutMixSettings)
    mixup2_prob: float = 0.0
    mix_beta2: float = 2.0
    mixup2_rule: str = "convex"
    hidden: HiddenMixSettings = field(default_factory=HiddenMixSettings)
    scope: str = "batch"
    min_snr_db: float | None = None
    schedule: ProbabilityScheduleSettings = field(default_factory=ProbabilityScheduleSettings)

    def __post_init__(self) -> None:
        for name in ("mixup_prob", "mixup_double", "mixup2_prob"):
            check_probability(name, getattr(self, name))
        check_concentration("mix_beta2", self.mix_beta2)
        if self.mix_beta is not None:
            check_concentration("mix_beta", self.mix_beta)
        probs = self.num_sources
        if probs and (min(probs) < 0 or abs(sum(probs) - 1) > 1e-6):
            raise ValueError(
                f"num_sources={probs}: probabilities of two, three, ... sources must add up to 1"
            )
        for name in ("mixup_rule", "mixup2_rule"):
            check_choice(name, getattr(self, name), RULE_NAMES)
        check_choice("post", self.post, POST_NAMES)
        check_choice("scope", self.scope, SCOPES)
        if self.min_snr_db is not None and not self.min_snr_db <= 0:
            raise ValueError(f"min_snr_db={self.min_snr_db}: it is at most 0; null is no threshold")

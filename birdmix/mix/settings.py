"""The mix of a run, as its configuration names it."""

from dataclasses import dataclass, field

from birdmix.mix.checks import check_concentration, check_probability, check_range
from birdmix.mix.names import AXES, POST_NAMES, RULE_NAMES, SCOPES
from birdmix.mix.schedule import SHAPES
from birdmix.suggest import check_choice


@dataclass
class CutMixSettings:
    """CutMix of log-mels: a piece of another sample in the place of the same piece.

    Attributes:
        prob: Probability that a batch is cut; 0 is off.
        beta: Concentration b of the area left to the sample itself, lambda ~ Beta(b, b).
        axis: What is cut: time, frequency or box.
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
    """Laying a sample of the pool (``data.pool``) over waveforms: background noise, soundscapes.

    Attributes:
        prob: Probability that a sample gets one; 0 is off.
        gain: Range that the pool sample's gain is drawn from, uniformly.
        snr_db: Instead of ``gain``: range of the sample's level over the pool sample's, in dB.
        convex: The sample itself gets 1 - gain, as in a blend.
        rule: How labels are joined: max, convex, union, noisy_or or amplitude.
        label_cap: What comes from the pool adds up to this much label at most; null: no cap.
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
                raise ValueError(f"{name}={bounds}: it is a range, [lowest, highest]")
        check_range("gain", (self.gain[0], self.gain[1]), 0)
        if self.label_cap is not None and self.label_cap < 0:
            raise ValueError(f"label_cap={self.label_cap}: it cannot be negative")
        check_choice("rule", self.rule, RULE_NAMES)


@dataclass
class HiddenSettings:
    """Mixup2 of the feature map before the head (Verma et al. 2019, arXiv:1806.05236).

    Attributes:
        prob: Probability that a batch's features are blended; 0 is off.
        beta: Concentration b of lambda ~ Beta(b, b), one draw per sample.
    """

    prob: float = 0.0
    beta: float = 2.0

    def __post_init__(self) -> None:
        check_probability("prob", self.prob)
        check_concentration("beta", self.beta)


@dataclass
class ScheduleSettings:
    """How all probabilities of the mix change over a run: a factor on each.

    Attributes:
        start: Factor at the beginning, in [0, 1].
        end: Factor at the end, in [0, 1].
        shape: How it goes from start to end: constant (it stays at start), linear or cosine.
        warm_up: Share of the run in which it first rises from 0, linearly.
        off_from: Share of the run from which on nothing is mixed; 1 mixes to the end.
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
    """Five slots, in this order: Mixup, then inject, of waveforms; CutMix, then Mixup2, of
    log-mels; hidden.

    Attributes:
        mixup_prob: Probability that a batch's waveforms are summed; 0 is off.
        mixup_double: Given that, the probability of two sources; otherwise three.
        num_sources: Instead of ``mixup_double``: the probabilities of two, three, four and more
            sources, as in [0.5, 0.3, 0.2]; empty leaves it to ``mixup_double``.
        mix_beta: null sums at gain 1; a number draws the gains from a symmetric Dirichlet
            distribution with this concentration.
        mixup_rule: How labels are joined: union, convex, max, noisy_or or amplitude.
        match_rms: Bring partners to the sample's own loudness before the waveforms are summed.
        post: What is done to a sum: none, peak_guard, peak_normalise or standardise.
        inject: A sample of the pool over waveforms.
        cutmix: CutMix of log-mels.
        mixup2_prob: Probability that a batch's mels are blended; 0 is off.
        mix_beta2: Concentration b of lambda ~ Beta(b, b), one draw per sample.
        mixup2_rule: How labels are joined: convex, union, max, noisy_or or amplitude.
        hidden: Mixup2 of features.
        scope: One gate for the whole batch, or one for each sample.
        min_snr_db: Sources this far below the loudest of their mix (a negative number of dB) bring
            no label; null asks nobody.
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
    hidden: HiddenSettings = field(default_factory=HiddenSettings)
    scope: str = "batch"
    min_snr_db: float | None = None
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)

    def __post_init__(self) -> None:
        for name in ("mixup_prob", "mixup_double", "mixup2_prob"):
            check_probability(name, getattr(self, name))
        check_concentration("mix_beta2", self.mix_beta2)
        if self.mix_beta is not None:
            check_concentration("mix_beta", self.mix_beta)
        probs = self.num_sources
        if probs and (min(probs) < 0 or abs(sum(probs) - 1) > 1e-6):
            raise ValueError(
                f"num_sources={probs}: probabilities of two, three, ... sources, which add up to 1"
            )
        for name in ("mixup_rule", "mixup2_rule"):
            check_choice(name, getattr(self, name), RULE_NAMES)
        check_choice("post", self.post, POST_NAMES)
        check_choice("scope", self.scope, SCOPES)
        if self.min_snr_db is not None and not self.min_snr_db <= 0:
            raise ValueError(f"min_snr_db={self.min_snr_db}: it is at most 0; null asks nobody")

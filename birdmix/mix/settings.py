"""Settings of mixing in a run (config group ``mix``)."""

from dataclasses import dataclass, field, replace

from birdmix.mix.label_rules import RULES, LabelRule
from birdmix.mix.mix_schedule import Schedule, ScheduledFloat
from birdmix.mix.operators.cutmix import CutMixSettings
from birdmix.mix.operators.inject import InjectSettings
from birdmix.mix.operators.mixup import MixupSettings
from birdmix.mix.operators.mixup2 import Mixup2Settings
from birdmix.mix.parameter_checks import check_probability
from birdmix.mix.shared_options import ScopeOption


@dataclass
class HiddenSettings(Mixup2Settings):
    """Settings of mixup2 of features inside the network (Manifold Mixup).

    Attributes:
        layers: Layers of which one is drawn for each batch: input (the log-mel), stages of the
            backbone by timm's names (such as layer2 or blocks.3), features (the feature map before
            the head) and pooled (the features after pooling).

    Raises:
        ValueError: If there is no layer, or one is named twice.
    """

    layers: list[str] = field(default_factory=lambda: ["features"])

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers={list(self.layers)}: name one layer or more, each once")


@dataclass
class MixSettings(ScopeOption, MixupSettings, Mixup2Settings):
    """Five mix operators, in this order: mixup, then inject, on waveforms; cutmix, then mixup2, on
    log-mels; hidden, which is mixup2 of the feature map before the head.

    The settings of mixup and mixup2 are keys of ``mix`` itself; ``match_rms`` and ``post`` are
    mixup's. ``scope`` applies to all operators but inject, which decides per example. In a run
    nothing is mixed by default.

    Attributes:
        inject: Adding an example of the mix pool (``data.mix_pool``) to waveforms.
        cutmix: CutMix of log-mels.
        hidden: Mixup2 of features (Verma et al. 2019, arXiv:1806.05236).
        clean_weight: Weight w in [0, 1) of the loss of the batch without any mix; the loss of the
            mixed batch has weight 1 - w (RegMixup, Pinto et al. 2022, arXiv:2206.14502). 0 computes
            no second view.
        min_snr_db: ``LabelRule.min_snr_db`` of all operators but hidden.
        known_tolerance: ``LabelRule.known_tolerance`` of all operators.
        schedule: Factor in [0, 1] that all probabilities are multiplied by, over the run.
    """

    mixup_prob: ScheduledFloat = 0.0
    mix_beta2: ScheduledFloat = 2.0
    mixup2_prob: ScheduledFloat = 0.0
    inject: InjectSettings = field(default_factory=lambda: InjectSettings(prob=0.0))
    cutmix: CutMixSettings = field(default_factory=lambda: CutMixSettings(prob=0.0))
    hidden: HiddenSettings = field(
        default_factory=lambda: HiddenSettings(mix_beta2=2.0, mixup2_prob=0.0)
    )
    clean_weight: float = 0.0
    min_snr_db: float | None = LabelRule.min_snr_db
    known_tolerance: float = LabelRule.known_tolerance
    schedule: Schedule = field(default_factory=lambda: Schedule(1.0, 1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.clean_weight < 1:
            raise ValueError(f"clean_weight={self.clean_weight}: it lies in [0, 1)")
        check_probability("schedule", self.schedule)
        self.label_rule(self.mixup_rule)  # checks the options of all rules

    def scheduled(self, probability: ScheduledFloat) -> Schedule:
        """Return a probability times the run's schedule."""
        assert not isinstance(probability, Schedule)  # a configuration holds numbers
        return self.schedule.times(probability)

    def label_rule(self, name: str) -> LabelRule:
        """Return a rule with the run's audibility threshold and tolerance."""
        return replace(
            RULES[name], min_snr_db=self.min_snr_db, known_tolerance=self.known_tolerance
        )

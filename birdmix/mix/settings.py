"""Settings of mixing in a run (config group ``mix``)."""

from dataclasses import dataclass, field, replace

from birdmix.messages import check_choice
from birdmix.mix.controls import CONTROLS
from birdmix.mix.label_rules import RULES, LabelRule
from birdmix.mix.mix_schedule import Schedule, ScheduledFloat, schedule_endpoints
from birdmix.mix.operators.cutmix import CutMixSettings
from birdmix.mix.operators.inject import InjectSettings
from birdmix.mix.operators.mixup import MixupSettings
from birdmix.mix.operators.mixup2 import Mixup2Settings
from birdmix.mix.parameter_checks import check_probability
from birdmix.mix.shared_options import ScopeOption


@dataclass
class HiddenSettings(Mixup2Settings):
    """Settings of mixup2 of a hidden layer of the network.

    Source: Manifold Mixup, Verma et al. 2019, arXiv:1806.05236. Departures: those of ``Mixup2``.

    Attributes:
        layers: Layers of which one is drawn for each batch: input (the log-mel), stages of the
            backbone by timm's names (such as layer2 or blocks.2), features (the feature map before
            the head) and pooled (the features after pooling).

    Raises:
        ValueError: If there is no layer, or one is named twice.
    """

    layers: list[str] = field(default_factory=lambda: ["features"])

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers={list(self.layers)}: name one layer or more, each once")
        if self.time_shift != "none":
            raise ValueError(
                f"time_shift={self.time_shift}: not every hidden layer has a time axis; shift "
                "partners by mix.time_shift"
            )


@dataclass
class MixSettings(ScopeOption, MixupSettings, Mixup2Settings):
    """Mix operators, in this order: mixup, then injectors, on waveforms; cutmix, then mixup2, on
    log-mels; hidden, which is mixup2 of features in the network.

    The settings of mixup and mixup2 are keys of ``mix`` itself: ``partners`` and ``time_shift`` are
    those of both, ``match_level`` and ``post`` those of mixup. ``scope`` applies to all operators
    but injectors, which decide per example. In a run nothing is mixed by default.

    Attributes:
        injectors: Operators that each add an example of a mix pool (``data.pools``) to waveforms.
        cutmix: CutMix of log-mels.
        hidden: Mixup2 of features (Verma et al. 2019, arXiv:1806.05236).
        clean_weight: Weight w in [0, 1) of the loss of the batch without any mix; the loss of the
            mixed batch has weight 1 - w (RegMixup, Pinto et al. 2022, arXiv:2206.14502). 0 computes
            no second view.
        min_snr_db: ``LabelRule.min_snr_db`` of all operators but hidden.
        known_tolerance: ``LabelRule.known_tolerance`` of all operators.
        schedule: Factor in [0, 1] that all probabilities are multiplied by, over the run.
        control: Control to compare the mix with, in its place: no_mixing (batches and optimizer
            steps as with the mix), inputs_only (each example keeps its own target and known mask)
            or resampling (an example that would be mixed is replaced by one of its sources). null
            (None): the mix itself.
    """

    mixup_prob: ScheduledFloat = 0.0
    mix_beta2: ScheduledFloat = 2.0
    mixup2_prob: ScheduledFloat = 0.0
    injectors: list[InjectSettings] = field(default_factory=list)
    cutmix: CutMixSettings = field(default_factory=lambda: CutMixSettings(prob=0.0))
    hidden: HiddenSettings = field(
        default_factory=lambda: HiddenSettings(mix_beta2=2.0, mixup2_prob=0.0)
    )
    clean_weight: float = 0.0
    min_snr_db: float | None = LabelRule.min_snr_db
    known_tolerance: float = LabelRule.known_tolerance
    schedule: Schedule = field(default_factory=lambda: Schedule(1.0, 1.0))
    control: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.clean_weight < 1:
            raise ValueError(f"clean_weight={self.clean_weight}: it lies in [0, 1)")
        check_probability("schedule", self.schedule)
        if self.control is not None:
            check_choice("control", self.control, CONTROLS)
        self.label_rule(self.mixup_rule)  # checks the options of all rules
        self._check_groups()

    def _check_groups(self) -> None:
        """Raise ValueError if injectors of one group would have to share examples."""
        total: dict[str, float] = {}
        for injector in self.injectors:
            if injector.group is not None:
                probability = max(schedule_endpoints(self.scheduled(injector.prob)))
                total[injector.group] = total.get(injector.group, 0.0) + probability
        for group, probability in total.items():
            if probability > 1 + 1e-6:
                raise ValueError(
                    f"injectors of group {group}: their probabilities add up to {probability:g}; "
                    "they act on different examples, so lower them to 1 together"
                )

    def scheduled(self, probability: ScheduledFloat) -> Schedule:
        """Return a probability times the run's schedule."""
        assert not isinstance(probability, Schedule)  # a configuration holds numbers
        return self.schedule.times(probability)

    def label_rule(self, name: str) -> LabelRule:
        """Return a rule with the run's audibility threshold and tolerance."""
        return replace(
            RULES[name], min_snr_db=self.min_snr_db, known_tolerance=self.known_tolerance
        )

"""Mix operators of a run by stage (waveform, spectrogram, hidden features), built from settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from birdmix.mix.base_operator import Operator
from birdmix.mix.label_rules import RULES, LabelRule
from birdmix.mix.mix_schedule import Schedule
from birdmix.mix.operators import CutMix, Inject, Mixup, Mixup2
from birdmix.mix.settings import MixSettings


@dataclass(frozen=True)
class MixStages:
    """The enabled operators of each stage, by name and in the order in which they are applied.

    Attributes:
        waveform: Operators on waveforms [B, T]: mixup, inject.
        spectrogram: Operators on log-mels [B, 1, M, F]: cutmix, mixup2.
        hidden: Operators on the feature map before the head, [B, D, h, w]: hidden.
    """

    waveform: Mapping[str, Operator]
    spectrogram: Mapping[str, Operator]
    hidden: Mapping[str, Operator]

    @property
    def operator_names(self) -> list[str]:
        """Names of all enabled operators, in order."""
        return [*self.waveform, *self.spectrogram, *self.hidden]

    @property
    def min_batch_size(self) -> int:
        """Smallest batch that can be mixed: the most examples of it in one mix; 1 if none is."""
        stages = (self.waveform, self.spectrogram, self.hidden)
        return max(
            [1, *(operator.min_batch_size for stage in stages for operator in stage.values())]
        )


def build_mix_stages(settings: MixSettings) -> MixStages:
    """Build the operators that the settings enable.

    Args:
        settings: Mix settings of a run; operators of probability 0 are left out.
    """
    inject, cutmix, hidden = settings.inject, settings.cutmix, settings.hidden
    return MixStages(
        waveform=_keep_enabled(
            mixup=Mixup(
                _schedule_probability(settings.mixup_prob, settings),
                settings.mixup_double,
                settings.mix_beta,
                num_sources=dict(enumerate(settings.num_sources, start=2)) or None,
                label_rule=_label_rule(settings.mixup_rule, settings),
                scope=settings.scope,
                match_rms=settings.match_rms,
                post=settings.post,
            ),
            inject=Inject(
                _schedule_probability(inject.prob, settings),
                gain=(inject.gain[0], inject.gain[1]),
                snr_db=None if inject.snr_db is None else (inject.snr_db[0], inject.snr_db[1]),
                convex=inject.convex,
                label_rule=replace(_label_rule(inject.rule, settings), label_cap=inject.label_cap),
            ),
        ),
        spectrogram=_keep_enabled(
            cutmix=CutMix(
                _schedule_probability(cutmix.prob, settings),
                cutmix.beta,
                axis=cutmix.axis,
                label_rule=_label_rule(cutmix.rule, settings),
                scope=settings.scope,
            ),
            mixup2=Mixup2(
                settings.mix_beta2,
                _schedule_probability(settings.mixup2_prob, settings),
                label_rule=_label_rule(settings.mixup2_rule, settings),
                scope=settings.scope,
            ),
        ),
        hidden=_keep_enabled(
            hidden=Mixup2(
                hidden.beta, _schedule_probability(hidden.prob, settings), scope=settings.scope
            )
        ),
    )


def _schedule_probability(prob: float, settings: MixSettings) -> Schedule:
    """Return a probability times the run's schedule."""
    schedule = settings.schedule
    return Schedule(
        schedule.start * prob,
        schedule.end * prob,
        schedule.shape,
        schedule.warm_up,
        schedule.off_from,
    )


def _label_rule(name: str, settings: MixSettings) -> LabelRule:
    """Return the rule of this name with the run's audibility threshold."""
    return replace(RULES[name], min_snr_db=settings.min_snr_db)


def _keep_enabled(**operators: Operator) -> dict[str, Operator]:
    """Return the operators whose probability is not always 0."""
    return {name: operator for name, operator in operators.items() if operator.is_enabled}

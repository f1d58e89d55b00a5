"""From settings to the operators of each stage."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from birdmix.mix.label_rules import RULES, LabelRule
from birdmix.mix.operator import Operator
from birdmix.mix.operators import CutMix, Inject, Mixup, Mixup2
from birdmix.mix.schedule import Schedule
from birdmix.mix.settings import MixSettings


@dataclass(frozen=True)
class Stages:
    """The operators that are switched on, by the names of their slots and in their order.

    Attributes:
        waveform: On waveforms [B, T].
        spectrogram: On log-mels [B, 1, M, F].
        hidden: On the feature map before the head, [B, D, h, w].
    """

    waveform: Mapping[str, Operator]
    spectrogram: Mapping[str, Operator]
    hidden: Mapping[str, Operator]

    @property
    def slots(self) -> list[str]:
        """The names of all slots."""
        return [*self.waveform, *self.spectrogram, *self.hidden]

    @property
    def num_batch_sources(self) -> int:
        """The most samples of a batch that one draw joins; 1 if nothing is mixed."""
        stages = (self.waveform, self.spectrogram, self.hidden)
        return max([1, *(each.num_batch_sources for stage in stages for each in stage.values())])


def build_stages(settings: MixSettings) -> Stages:
    """Make the operators that settings switch on."""
    inject, cutmix, hidden = settings.inject, settings.cutmix, settings.hidden
    return Stages(
        waveform=_on(
            mixup=Mixup(
                _scheduled(settings.mixup_prob, settings),
                settings.mixup_double,
                settings.mix_beta,
                num_sources=dict(enumerate(settings.num_sources, start=2)) or None,
                label_rule=_rule(settings.mixup_rule, settings),
                scope=settings.scope,
                match_rms=settings.match_rms,
                post=settings.post,
            ),
            inject=Inject(
                _scheduled(inject.prob, settings),
                gain=(inject.gain[0], inject.gain[1]),
                snr_db=None if inject.snr_db is None else (inject.snr_db[0], inject.snr_db[1]),
                convex=inject.convex,
                label_rule=replace(_rule(inject.rule, settings), label_cap=inject.label_cap),
            ),
        ),
        spectrogram=_on(
            cutmix=CutMix(
                _scheduled(cutmix.prob, settings),
                cutmix.beta,
                axis=cutmix.axis,
                label_rule=_rule(cutmix.rule, settings),
                scope=settings.scope,
            ),
            mixup2=Mixup2(
                settings.mix_beta2,
                _scheduled(settings.mixup2_prob, settings),
                label_rule=_rule(settings.mixup2_rule, settings),
                scope=settings.scope,
            ),
        ),
        hidden=_on(
            hidden=Mixup2(hidden.beta, _scheduled(hidden.prob, settings), scope=settings.scope)
        ),
    )


def _scheduled(prob: float, settings: MixSettings) -> Schedule:
    schedule = settings.schedule
    return Schedule(
        schedule.start * prob,
        schedule.end * prob,
        schedule.shape,
        schedule.warm_up,
        schedule.off_from,
    )


def _rule(name: str, settings: MixSettings) -> LabelRule:
    return replace(RULES[name], min_snr_db=settings.min_snr_db)


def _on(**operators: Operator) -> dict[str, Operator]:
    return {slot: each for slot, each in operators.items() if each.can_fire}

"""Mix operators of a run by stage (waveform, spectrogram, hidden layer), built from settings."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from birdmix.mix.base_operator import Operator
from birdmix.mix.operators.cutmix import CutMix, CutMixSettings
from birdmix.mix.operators.inject import Inject, InjectSettings
from birdmix.mix.operators.mixup import Mixup, MixupSettings
from birdmix.mix.operators.mixup2 import Mixup2, Mixup2Settings
from birdmix.mix.settings import MixSettings


@dataclass(frozen=True)
class MixStages:
    """The enabled operators of each stage, by name and in the order in which they are applied.

    Attributes:
        waveform: Operators on waveforms [B, T]: mixup, then the injectors, inject_POOL each.
        spectrogram: Operators on log-mels [B, 1, M, F]: cutmix, mixup2.
        hidden: Operators on a hidden layer of the network, [B, ...]: hidden.
        hidden_layers: Layers of which one is drawn for each batch, to mix it by ``hidden``.
        clean_weight: Weight of the loss of the unmixed batch, in [0, 1); 0 leaves it out.
    """

    waveform: Mapping[str, Operator]
    spectrogram: Mapping[str, Operator]
    hidden: Mapping[str, Operator]
    hidden_layers: Sequence[str]
    clean_weight: float

    def without_operators(self) -> "MixStages":
        """Return stages that mix nothing."""
        return replace(self, waveform={}, spectrogram={}, hidden={})

    @property
    def operator_names(self) -> list[str]:
        """Names of all enabled operators, in order."""
        return [*self.waveform, *self.spectrogram, *self.hidden]

    @property
    def counted_layers(self) -> Sequence[str]:
        """Layers to count mixes of: those that are drawn from, if there are several."""
        return self.hidden_layers if self.hidden and len(self.hidden_layers) > 1 else ()

    @property
    def needs_levels_after_waveforms(self) -> bool:
        """Whether a mix of log-mels or features depends on the levels of the waveforms."""
        stages = (self.spectrogram, self.hidden)
        return any(operator.needs_levels for stage in stages for operator in stage.values())

    def min_pool_sizes(self, names: Collection[str]) -> dict[str, int]:
        """Return the smallest possible size of each mix pool that any operator draws from.

        Args:
            names: All pools of a batch.
        """
        sizes: dict[str, int] = {}
        for operator in self.waveform.values():
            for pool in operator.pools_in(names):
                sizes[pool] = max(sizes.get(pool, 1), operator.min_pool_size)
        return sizes

    @property
    def min_batch_size(self) -> int:
        """Smallest batch that can be mixed: the most examples of it in one mix; 1 if none is."""
        stages = (self.waveform, self.spectrogram, self.hidden)
        return max(
            [1, *(operator.min_batch_size for stage in stages for operator in stage.values())]
        )


def build_mix_stages(settings: MixSettings, sample_rate: int | None = None) -> MixStages:
    """Build the operators that the settings enable.

    Args:
        settings: Mix settings of a run; operators of probability 0 are left out.
        sample_rate: Hz, of the waveforms; needed by match_level=loudness.
    """
    cutmix, hidden = settings.cutmix, settings.hidden
    scope = settings.scope
    hidden_rule = replace(settings.label_rule(hidden.mixup2_rule), min_snr_db=None)
    return MixStages(
        waveform=_keep_enabled(
            mixup=_build(
                Mixup, MixupSettings, settings, settings, scope=scope, sample_rate=sample_rate
            ),
            **{
                name: _build(Inject, InjectSettings, each, settings, sample_rate=sample_rate)
                for name, each in name_injectors(settings.injectors).items()
            },
        ),
        spectrogram=_keep_enabled(
            cutmix=_build(CutMix, CutMixSettings, cutmix, settings, scope=scope),
            mixup2=_build(Mixup2, Mixup2Settings, settings, settings, scope=scope),
        ),
        hidden=_keep_enabled(
            hidden=replace(
                _build(Mixup2, Mixup2Settings, hidden, settings, scope=scope),
                label_rule=hidden_rule,
                linear=False,  # pooled features [B, D] are no waveforms
            )
        ),
        hidden_layers=tuple(hidden.layers),
        clean_weight=settings.clean_weight,
    )


def name_injectors(injectors: Sequence[InjectSettings]) -> dict[str, InjectSettings]:
    """Return injectors by name: inject, or inject_POOL, with a number if that is taken."""
    named: dict[str, InjectSettings] = {}
    for injector in injectors:
        name = "inject" if injector.pool is None else f"inject_{injector.pool}"
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        named[name if name not in named else next(n for n in numbered if n not in named)] = injector
    return named


def _build(
    operator_class: type[Operator], of: type, own: object, run: MixSettings, **options: Any
) -> Operator:
    """Build an operator from its settings and those of the run.

    Args:
        operator_class: The operator.
        of: Its class of settings.
        own: Object with these settings.
        run: Settings whose schedule and rule options are applied.
        options: Further options of the operator.
    """
    values = {each.name: getattr(own, each.name) for each in fields(of)}
    operator = operator_class(**values | options)
    changes: dict[str, Any] = {
        operator.probability_setting: run.scheduled(operator.probability),
        "label_rule": run.label_rule(values[operator.rule_setting]),
        "control": run.control,
    }
    return replace(operator, **changes)


def _keep_enabled(**operators: Operator) -> dict[str, Operator]:
    """Return the operators whose probability is not always 0."""
    return {name: operator for name, operator in operators.items() if operator.is_enabled}

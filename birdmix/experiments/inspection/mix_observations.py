"""What was drawn and applied over many batches, beside what the settings promise for them.

Promises follow schedules: they are summed over the batches that were looked at. The number of
independent draws behind a rate decides what chance allows: with scope=batch one for each batch.

Shapes: B batch, C classes, K terms.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from birdmix.experiments.inspection.batch_replay import ReplayedBatch
from birdmix.experiments.inspection.mix_promises import (
    bin_probabilities,
    gate_probability,
    own_part_cdf,
    own_snr_cdf,
    source_count_probabilities,
)
from birdmix.experiments.inspection.source_tracing import Term, TermPowers, TracedOperator
from birdmix.mix import Inject, LabelRule, MixStages, Mixup2, Operator, measure_level_db

#: Level in dB, below the loudest source of a mix, from which on nobody hears a source, unless
#: ``mix.min_snr_db`` says another. Under steady noise as loud as a song, birds miss calls some
#: 20 dB below it.
DEFAULT_AUDIBLE_DB = -20.0

# Bins have round values in their middle, where constant gains put all of them.
PART_EDGES = (np.arange(22) - 0.5) / 20 + 1e-5
SNR_EDGES = np.arange(-43.5, 44.0, 3.0)


@dataclass
class OperatorObservations:
    """What one operator did.

    Attributes:
        operator: The operator.
        on_waveforms: Whether it mixes waveforms.
        num_examples: Examples that it could mix.
        num_mixed: Examples that it mixed.
        gate_draws: Independent decisions whether to mix.
        gate_hits: Those that mixed.
        gate_sum: Sum of the promised probabilities of these decisions.
        counts: Number of draws of each number of sources, of two or more.
        promised_counts: The same, as expected.
        parts: Draws of lambda in each bin of ``PART_EDGES``.
        promised_parts: The same, as expected; None if it has no closed form.
        own_snr: Levels of examples against what the operator added, in each bin of ``SNR_EDGES``;
            of waveforms.
        promised_own_snr: The same, as expected; None if nothing is promised.
    """

    operator: Operator
    on_waveforms: bool
    num_examples: int = 0
    num_mixed: int = 0
    gate_draws: int = 0
    gate_hits: int = 0
    gate_sum: float = 0.0
    counts: Counter[int] = field(default_factory=Counter)
    promised_counts: dict[int, float] = field(default_factory=dict)
    parts: np.ndarray = field(default_factory=lambda: np.zeros(len(PART_EDGES) - 1))
    promised_parts: np.ndarray | None = field(default_factory=lambda: np.zeros(len(PART_EDGES) - 1))
    own_snr: np.ndarray = field(default_factory=lambda: np.zeros(len(SNR_EDGES) - 1))
    promised_own_snr: np.ndarray | None = field(
        default_factory=lambda: np.zeros(len(SNR_EDGES) - 1)
    )

    def add(self, traced: TracedOperator, progress: float) -> None:
        """Add the plan of a batch.

        Args:
            traced: The operator as it was applied.
            progress: Fraction of the run that was done.
        """
        plan, operator = traced.applied.plan, self.operator
        counts = plan.source_counts
        mixed = counts > 1
        per_batch = operator.scope == "batch"
        num_draws = 1 if per_batch else len(mixed)
        self.num_examples += len(mixed)
        self.num_mixed += int(mixed.sum())
        self.gate_draws += num_draws
        self.gate_hits += int(mixed.any()) if per_batch else int(mixed.sum())
        self.gate_sum += num_draws * gate_probability(operator, progress)
        if not mixed.any():
            return
        drawn = np.unique(counts[mixed]) if per_batch else counts[mixed]
        self.counts.update(drawn.tolist())
        chances = source_count_probabilities(operator, progress)
        several = 1 - chances.get(1, 0.0)
        for count, chance in chances.items():
            if count > 1:
                expected = len(drawn) * chance / several
                self.promised_counts[count] = self.promised_counts.get(count, 0.0) + expected
        self._add_parts(traced, mixed, progress)

    def _add_parts(self, traced: TracedOperator, mixed: np.ndarray, progress: float) -> None:
        plan, counts = traced.applied.plan, traced.applied.plan.source_counts
        # Areas as drawn: on a coarse grid of log-mels they are rounded.
        if plan.boxes is not None:
            area = np.diff(plan.boxes.time)[:, 0] * np.diff(plan.boxes.mel)[:, 0]
            part = 1 - area
        else:
            part = traced.details.part[:, 0]
        once = isinstance(self.operator, Mixup2) and self.operator.lambda_per == "batch"
        for count in np.unique(counts[mixed]).tolist():
            drawn = part[mixed & (counts == count)][: 1 if once else None]
            self.parts += _histogram(drawn, PART_EDGES)
            law = own_part_cdf(self.operator, progress, count)
            if law is None or self.promised_parts is None:
                self.promised_parts = None
            else:
                self.promised_parts += len(drawn) * bin_probabilities(law, PART_EDGES)

    def add_own_snr(self, snr_db: float, num_sources: int, match: str, progress: float) -> None:
        """Add the level of an example against what the operator added to it, in dB.

        Args:
            snr_db: The measured level.
            num_sources: Sources of the mix.
            match: How levels were matched before the gains (``Plan.match``).
            progress: Fraction of the run that was done.
        """
        self.own_snr += _histogram(np.array([snr_db]), SNR_EDGES)
        if not np.isfinite(snr_db):
            return  # silence, which cannot be matched
        law = own_part_cdf(self.operator, progress, num_sources)
        if law is None or match != "rms" or num_sources > 2 or self.promised_own_snr is None:
            self.promised_own_snr = None
        else:
            self.promised_own_snr += bin_probabilities(own_snr_cdf(law), SNR_EDGES)


@dataclass
class MixObservations:
    """What was done in a series of batches.

    Attributes:
        operators: Observations of each operator, by name.
        hidden_layers: Hidden layers of which one is drawn for each batch.
        audible_db: Level in dB, below the loudest source, from which on a source is inaudible.
        num_batches: Batches.
        num_examples: Examples.
        layers: Batches in which each hidden layer was drawn to be mixed.
        source_snr: Levels of the sources of mixed waveforms against all else, in ``SNR_EDGES``.
        label_mass_in: Sum of targets per example before the mixes, of each batch.
        label_mass_out: The same after them.
        num_positives: Targets above 0 after the mixes, of known classes.
        num_inaudible: Those of which all sources are inaudible.
        num_clipped: Waveforms with a peak above 1 after mix and augmentation.
        num_nonfinite: Examples that are not finite.
    """

    operators: Mapping[str, OperatorObservations]
    hidden_layers: Sequence[str]
    audible_db: float
    num_batches: int = 0
    num_examples: int = 0
    layers: Counter[str] = field(default_factory=Counter)
    source_snr: np.ndarray = field(default_factory=lambda: np.zeros(len(SNR_EDGES) - 1))
    label_mass_in: list[float] = field(default_factory=list)
    label_mass_out: list[float] = field(default_factory=list)
    num_positives: int = 0
    num_inaudible: int = 0
    num_clipped: int = 0
    num_nonfinite: int = 0

    @staticmethod
    def of_stages(stages: MixStages, min_snr_db: float | None) -> "MixObservations":
        """Return observations of nothing yet.

        Args:
            stages: The operators.
            min_snr_db: ``mix.min_snr_db`` of the run.
        """
        groups = (stages.waveform, stages.spectrogram, stages.hidden)
        return MixObservations(
            {
                name: OperatorObservations(operator, on_waveforms=group is stages.waveform)
                for group in groups
                for name, operator in group.items()
            },
            stages.hidden_layers if stages.hidden else (),
            DEFAULT_AUDIBLE_DB if min_snr_db is None else min_snr_db,
        )

    @property
    def keeps_label_mass(self) -> bool:
        """Whether the settings promise the same sum of labels before and after the mixes.

        They do if all operators share out labels by parts among the examples of the batch, of which
        each is a partner as often as any other.
        """
        return all(
            _shares_out_by_parts(each.operator.effective_rule)
            and not isinstance(each.operator, Inject)
            and getattr(each.operator, "partner_pool", None) is None
            and getattr(each.operator, "partners", "any") == "any"
            for each in self.operators.values()
        )

    @property
    def silences_inaudible(self) -> bool:
        """Whether the settings promise that no inaudible source brings a label.

        Several operators attenuate a source one after the other, each within its threshold.
        """
        rules = [each.operator.effective_rule for each in self.operators.values()]
        return len(rules) == 1 and rules[0].min_snr_db is not None

    def add(self, replayed: ReplayedBatch, traced: Sequence[TracedOperator]) -> None:
        """Add a batch.

        Args:
            replayed: The batch.
            traced: Its operators.
        """
        progress = replayed.keys.progress
        target, mixed_target = replayed.batch.examples.target, replayed.examples.target
        self.num_batches += 1
        self.num_examples += len(target)
        self.label_mass_in.append(float(target.sum() / len(target)))
        self.label_mass_out.append(float(mixed_target.sum() / len(target)))
        self.num_clipped += int((replayed.prepared.peak > 1).sum())
        self.num_nonfinite += int((~replayed.prepared.finite).sum())
        for each in traced:
            self.operators[each.applied.name].add(each, progress)
            if each.applied.name == "hidden" and not each.applied.plan.is_identity:
                self.layers[replayed.hidden_layer or ""] += 1
        self._add_snr(replayed, traced)
        self._add_audibility(replayed, traced)

    def _add_snr(self, replayed: ReplayedBatch, traced: Sequence[TracedOperator]) -> None:
        """Measure the levels of the sources of all mixed waveforms."""
        on_waveforms = [each for each in traced if self.operators[each.applied.name].on_waveforms]
        if not on_waveforms:
            return
        finite = replayed.prepared.finite.tolist()
        for example, terms in enumerate(on_waveforms[-1].after):
            if len(terms) < 2 or not finite[example]:
                continue
            powers = TermPowers.measure(replayed.batch, terms)
            self.source_snr += _histogram(powers.snr_db_of_each(), SNR_EDGES)
            for each in on_waveforms:
                if each.mixes(example):
                    self._add_own_snr(each, example, powers, replayed.keys.progress)

    def _add_own_snr(
        self, each: TracedOperator, example: int, powers: TermPowers, progress: float
    ) -> None:
        """Add the level of an example before an operator against what this operator added."""
        # Operators append their terms, and later ones scale all terms alike.
        num_before, num_after = len(each.before[example]), len(each.after[example])
        among = TermPowers(powers.products[:num_after, :num_after])
        plan = each.applied.plan
        self.operators[each.applied.name].add_own_snr(
            among.snr_db(np.arange(num_after) < num_before),
            int(plan.source_counts[example]),
            plan.match,
            progress,
        )

    def _add_audibility(self, replayed: ReplayedBatch, traced: Sequence[TracedOperator]) -> None:
        """Count the targets above 0 of which all sources are inaudible."""
        rms, has_label = _segment_levels_and_labels(replayed)
        is_positive = (replayed.examples.target > 0) & replayed.examples.known_mask()
        positive = is_positive.cpu().numpy()
        for example in np.flatnonzero(replayed.prepared.finite.cpu().numpy()).tolist():
            terms = traced[-1].after[example] if traced else [Term(example)]
            terms = [term for term in terms if term.part > 0]
            level = np.array([term.gain * rms[term.segment] for term in terms])
            is_audible = (level > 0) & (level >= level.max() * 10 ** (self.audible_db / 20))
            labels = has_label[[term.segment for term in terms]]
            heard = (labels & is_audible[:, None]).any(axis=0)
            self.num_positives += int(positive[example].sum())
            self.num_inaudible += int((positive[example] & labels.any(axis=0) & ~heard).sum())


def _shares_out_by_parts(rule: LabelRule) -> bool:
    has_limits = rule.needs_levels or rule.label_cap is not None or rule.label_sum is not None
    return rule.share == "part" and rule.join == "sum" and not has_limits


def _segment_levels_and_labels(replayed: ReplayedBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the RMS [N] of the segments of batch and pools, and their labels, bool [N, C]."""
    parts = [each for each in (replayed.batch.examples, replayed.batch.pool) if each is not None]
    level_db = torch.cat([measure_level_db(each.x)[:, 0] for each in parts])
    target = torch.cat([each.target for each in parts])
    return 10 ** (level_db.double().cpu().numpy() / 20), target.cpu().numpy() > 0


def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count finite values in bins; those beyond the edges count in the first and the last bin."""
    kept = values[np.isfinite(values)]
    return np.histogram(np.clip(kept, edges[0], edges[-1] - 1e-6), edges)[0].astype(float)

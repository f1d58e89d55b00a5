"""Views of mixed examples: sounds, log-mels, sources, targets, for the page.

Sources are the segments in the waveform, then the other examples that were mixed in behind it, as
log-mels or features. A mix of log-mels has no sound: waveforms from before are played.

Shapes: B batch, T samples, M mel bins, F frames, C classes, K sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from birdmix.audio.encode import encode_ogg
from birdmix.experiments.inspection.batch_replay import BatchReplay, ReplayedBatch
from birdmix.experiments.inspection.source_tracing import (
    Term,
    TermPowers,
    TracedOperator,
    sound_of_term,
)
from birdmix.mix import Examples, Operator
from birdmix.report.inspection_page import Box, ExampleView, SourceView, TargetRow
from birdmix.report.log_mel_image import log_mel_png

# Names of labels of one recording that are listed, and segments of a partner.
_MAX_NAMES, _MAX_SEGMENTS = 6, 6

# Largest peak of the sounds of an example, of which the loudest gets it.
_PEAK = 0.9

# Smallest contribution to a target that is listed: one of rounding errors is not.
_LEAST = 1e-4


@dataclass(frozen=True)
class _Source:
    """A source while the view is built.

    Attributes:
        name, lines, numbers: As in ``SourceView``.
        sound: Its waveform in the mix, [T].
        mel: Its log-mel, [M, F].
        brought: What it brings to each target, [C].
    """

    name: str
    lines: Sequence[str]
    numbers: Sequence[tuple[str, str]]
    sound: Tensor
    mel: Tensor
    brought: np.ndarray


@dataclass(frozen=True)
class BatchViews:
    """Makes the views of the examples of one batch.

    Args:
        replay: The run that the batch is of.
        replayed: The batch.
        traced: Its operators.
        waveforms: Its waveforms after mix and augmentation, [B, T].
        clean: Log-mels of its clean view, [B, 1, M, F]; None if there is none.
    """

    replay: BatchReplay
    replayed: ReplayedBatch
    traced: Sequence[TracedOperator]
    waveforms: Tensor
    clean: Tensor | None

    @staticmethod
    def of_batch(
        replay: BatchReplay, replayed: ReplayedBatch, traced: Sequence[TracedOperator]
    ) -> "BatchViews":
        """Prepare the views of a batch."""
        clean = replay.clean_view(replayed)
        return BatchViews(
            replay,
            replayed,
            traced,
            replay.waveforms(replayed),
            None if clean is None else clean.examples.x,
        )

    @property
    def mixed_examples(self) -> list[int]:
        """The examples that any operator mixed."""
        num_examples = len(self.replayed.batch.examples.x)
        return [b for b in range(num_examples) if any(each.mixes(b) for each in self.traced)]

    def view(self, example: int) -> ExampleView:
        """Return the view of an example.

        Args:
            example: Its index in the batch.
        """
        sources = [*self._waveform_sources(example), *self._later_sources(example)]
        mix = self.waveforms[example]
        peaks = [float(sound.abs().max()) for sound in (mix, *(each.sound for each in sources))]
        loudest = max([peak for peak in peaks if np.isfinite(peak)], default=0.0)
        gain = _PEAK / loudest if loudest > 0 else 1.0
        targets, unknown = self._targets(example, sources)
        return ExampleView(
            title=f"batch {self.replayed.name}, example {example + 1}",
            steps=[self._step(each, example) for each in self.traced if each.mixes(example)]
            or ["not mixed"],
            sound=self._encode(mix, gain),
            image=_png(self.replayed.examples.x[example, 0]),
            boxes=self._boxes(example),
            sources=[
                SourceView(
                    each.name,
                    each.lines,
                    each.numbers,
                    self._encode(each.sound, gain),
                    _png(each.mel),
                )
                for each in sources
            ],
            targets=targets,
            unknown=unknown,
            notes=self._notes(example, 20 * np.log10(gain)),
            clean_image=None if self.clean is None else _png(self.clean[example, 0]),
        )

    def _encode(self, sound: Tensor, gain: float) -> bytes:
        values = torch.nan_to_num(sound.float() * gain, nan=0.0, posinf=0.0, neginf=0.0)
        rate = self.replay.config.frontend.log_mel.sample_rate
        return encode_ogg(values.clamp(-1, 1).cpu().numpy(), rate)

    def _step(self, each: TracedOperator, example: int) -> str:
        """Describe in a line how an operator mixed an example."""
        operator, what = each.applied.operator, "waveforms"
        if each.applied.name in self.replay.step.mix_stages.spectrogram:
            what = "log-mels"
        elif each.applied.name in self.replay.step.mix_stages.hidden:
            what = f"examples at layer {self.replayed.hidden_layer}"
        count = each.applied.plan.source_counts[example]
        return f"{each.applied.name}: {count} {what}, {_describe_rule(operator)}"

    def _waveform_sources(self, example: int) -> list[_Source]:
        """Return the segments in the waveform of an example."""
        terms = self._waveform_terms(example)
        snr = TermPowers.measure(self.replayed.batch, terms).snr_db_of_each()
        sounds = torch.stack([sound_of_term(self.replayed.batch, term) for term in terms])
        mels = self.replay.step.log_mel(sounds)
        part, share = self._own_factors(example)
        target = self._segment_targets
        sources = []
        for number, term in enumerate(terms):
            seconds = term.offset / self.replay.config.frontend.log_mel.sample_rate
            numbers = [("gain", _decibel(term.gain))]
            if len(terms) > 1:
                numbers.append(("SNR", f"{snr[number]:+.1f} dB"))
            numbers += [
                ("part", f"{term.part * part:.2f}"),
                ("label share", f"{term.share * share:.2f}"),
            ]
            if term.offset:
                numbers.append(("later by", f"{seconds:.2f} s"))
            numbers.append(("added by", term.operator or "itself"))
            sources.append(
                _Source(
                    self._segment_name(term.segment),
                    self._segment_lines(term.segment),
                    numbers,
                    sounds[number],
                    mels[number, 0],
                    term.share * share * target[term.segment],
                )
            )
        return sources

    def _later_sources(self, example: int) -> list[_Source]:
        """Return the examples that were mixed in as log-mels or features."""
        sources = []
        for at, each in self._later_operators(example):
            part_after, share_after = self._own_factors(example, at + 1)
            for slot in each.slots(example)[1:]:
                partner = int(each.details.source[example, slot])
                part, share, gain = (
                    float(values[example, slot])
                    for values in (each.details.part, each.details.share, each.details.gain)
                )
                before = each.applied.before.examples
                numbers = [
                    ("part", f"{part * part_after:.2f}"),
                    ("label share", f"{share * share_after:.2f}"),
                ]
                if each.applied.plan.match != "none":
                    numbers.insert(0, ("gain", _decibel(gain)))
                if each.details.offset[example, slot]:
                    cells = int(each.details.offset[example, slot]) / before.x.shape[-1]
                    seconds = cells * self.replay.config.data.segment_seconds
                    numbers.append(("later by", f"{seconds:.2f} s"))
                numbers.append(("added by", each.applied.name))
                target = before.target[partner].float().cpu().numpy()
                sources.append(
                    _Source(
                        f"example {partner + 1} of the batch",
                        self._partner_lines(partner),
                        numbers,
                        self.waveforms[partner],
                        before.x[partner, 0],
                        share * share_after * target,
                    )
                )
        return sources

    def _later_operators(self, example: int) -> list[tuple[int, TracedOperator]]:
        """Return the operators on log-mels and features that mixed an example, with their index."""
        on_waveforms = self.replay.step.mix_stages.waveform
        return [
            (at, each)
            for at, each in enumerate(self.traced)
            if each.applied.name not in on_waveforms and each.mixes(example)
        ]

    def _own_factors(self, example: int, start: int = 0) -> tuple[float, float]:
        """Return part and share that later operators, from index ``start`` on, leave an example."""
        part = share = 1.0
        for at, each in self._later_operators(example):
            if at >= start:
                part *= float(each.details.part[example, 0])
                share *= float(each.details.share[example, 0])
        return part, share

    def _waveform_terms(self, example: int) -> Sequence[Term]:
        on_waveforms = self.replay.step.mix_stages.waveform
        traced = [each for each in self.traced if each.applied.name in on_waveforms]
        return traced[-1].after[example] if traced else [Term(example)]

    def _partner_lines(self, partner: int) -> list[str]:
        """Return lines about a partner: the segments in its waveform."""
        terms = self._waveform_terms(partner)
        lines = [
            f"{self._segment_name(term.segment)} ({_decibel(term.gain)}): "
            + self._segment_lines(term.segment)[0]
            for term in terms[:_MAX_SEGMENTS]
        ]
        if len(terms) > _MAX_SEGMENTS:
            lines.append(f"and {len(terms) - _MAX_SEGMENTS} more")
        return lines

    @cached_property
    def _segment_targets(self) -> np.ndarray:
        """Targets of the segments of the batch and its pools, [N, C]."""
        return torch.cat([each.target for each in self._segments]).float().cpu().numpy()

    @cached_property
    def _segment_known(self) -> np.ndarray:
        """Which of these targets are known, bool [N, C]."""
        return torch.cat([each.known_mask() for each in self._segments]).cpu().numpy()

    @property
    def _segments(self) -> list[Examples]:
        batch = self.replayed.batch
        return [each for each in (batch.examples, batch.pool) if each is not None]

    def _segment_row(self, segment: int) -> int:
        context = self.replayed.batch.context
        assert context.row is not None
        return int(context.row[segment])

    def _segment_name(self, segment: int) -> str:
        """Return pool and path of a segment."""
        context = self.replayed.batch.context
        row = self.replay.data.batch_rows.take(np.array([self._segment_row(segment)]))
        pools = [name for name in context.pool_sizes if segment in context.candidates(name)]
        prefix = "".join(f"pool {name}: " for name in pools)
        return f"{prefix}{row.paths[0]}"

    def _segment_lines(self, segment: int) -> list[str]:
        """Return labels and unknown labels of a segment, and its group if that is not its file."""
        row = self.replay.data.batch_rows.take(np.array([self._segment_row(segment)]))
        lines = [self._class_names(self._segment_targets[segment] > 0) or "no label"]
        if unknown := self._class_names(~self._segment_known[segment]):
            lines.append(f"unknown: {unknown}")
        if row.groups[0] and row.groups[0] != row.paths[0]:
            lines.append(f"group {row.groups[0]}")
        return lines

    def _class_names(self, selected: np.ndarray) -> str:
        """Return the names of selected classes, bool [C], the first ones if there are many."""
        names = [self.replay.data.labels.names[c] for c in np.flatnonzero(selected).tolist()]
        if len(names) > _MAX_NAMES:
            names = [*names[: _MAX_NAMES - 1], f"{len(names) - _MAX_NAMES + 1} more"]
        return ", ".join(names)

    def _targets(
        self, example: int, sources: Sequence[_Source]
    ) -> tuple[list[TargetRow], list[str]]:
        """Return the rows of the classes with a target, and the names of the other unknown ones."""
        examples, names = self.replayed.examples, self.replay.data.labels.names
        target = examples.target[example].float().cpu().numpy()
        known = examples.known_mask()[example].cpu().numpy()
        brought = np.stack([each.brought for each in sources])
        listed = (target > 0) | (brought > _LEAST).any(axis=0)
        columns = sorted(np.flatnonzero(listed).tolist(), key=lambda c: -target[c])
        rows = [
            TargetRow(
                names[column],
                float(target[column]),
                bool(known[column]),
                brought[:, column].tolist(),
            )
            for column in columns
        ]
        return rows, [names[column] for column in np.flatnonzero(~known & ~listed).tolist()]

    def _boxes(self, example: int) -> list[Box]:
        """Return the boxes that partners fill in the log-mel, on its grid."""
        boxes = []
        for _, each in self._later_operators(example):
            plan, shape = each.applied.plan, tuple(each.applied.before.examples.x.shape)
            if plan.boxes is None:
                continue
            time, mel = plan.boxes.bounds_in_cells(shape)
            name = f"from example {int(plan.source[example, 1]) + 1}"
            begin, end = (time[example] / shape[-1]).tolist()
            low, high = (mel[example] / shape[-2]).tolist()
            boxes.append(Box((begin, end), (low, high), name))
        return boxes

    def _notes(self, example: int, gain_db: float) -> list[str]:
        weight = float(self.replayed.examples.sample_weights()[example])
        peak = float(self.replayed.prepared.peak[example])
        notes = [
            f"sample weight {weight:.2f}",
            f"peak of the waveform {peak:.2f}" + (", above 1" if peak > 1 else ""),
            f"its sounds are played {gain_db:+.1f} dB, all alike",
        ]
        if not bool(self.replayed.prepared.finite[example]):
            notes.append("not finite: the network gets 0, and no loss is computed")
        if self.clean is not None:
            weight = self.replay.step.mix_stages.clean_weight
            notes.append(
                f"the loss of the clean view, of the unmixed example, has weight {weight:g}"
            )
        return ["; ".join(notes)]


def _describe_rule(operator: Operator) -> str:
    """Describe how an operator joins labels and scales sounds."""
    rule = operator.effective_rule
    words = [f"labels by {getattr(operator, operator.rule_setting)}"]
    if rule.min_snr_db is not None:
        words.append(f"none of sources {-rule.min_snr_db:g} dB below the loudest")
    if rule.label_cap is not None:
        words.append(f"at most {rule.label_cap:g} from a pool")
    if rule.label_sum is not None:
        words.append(f"scaled to {rule.label_sum:g} from a pool")
    if operator.match_level != "none":
        words.append(f"levels matched by {operator.match_level}")
    if operator.post != "none":
        words.append(f"then {operator.post}")
    return ", ".join(words)


def _decibel(gain: float) -> str:
    return f"{20 * np.log10(gain):+.1f} dB" if gain > 0 else "silent"


def _png(mel: Tensor) -> bytes:
    return log_mel_png(mel.float().cpu().numpy())

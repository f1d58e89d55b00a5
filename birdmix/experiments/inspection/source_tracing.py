"""Tracing of mixes back to their sources: which segments are in each example, at what gain.

An operator mixes examples that operators before it have mixed. Gains are multiplied, shifts added
and shares multiplied along the way, so that each segment's contribution to the end is known.

Shapes: B batch, P mix pool, N = B + P segments, S sources, K terms, T samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from birdmix.loading.batch import Batch
from birdmix.mix import MixDetails
from birdmix.training.training_step import AppliedOperator


class Term(NamedTuple):
    """A segment in a mixed example.

    Attributes:
        segment: Index in the batch followed by the mix pools.
        gain: Factor of its sound in the mix, 0 or more.
        offset: Shift in time, later and around the end, in samples.
        part: Part of the mix that it is, in [0, 1].
        share: Share of its label that it brings.
        operator: Name of the operator that added it; None for the example itself.
    """

    segment: int
    gain: float = 1.0
    offset: int = 0
    part: float = 1.0
    share: float = 1.0
    operator: str | None = None


class TracedOperator(NamedTuple):
    """An operator as it was applied, its numbers, and the terms of each example before and after.

    Attributes:
        applied: The operator, its plan, and the batch before and after it.
        details: Gains, shifts, parts and shares of its sources.
        before: Terms of each example before it, B lists.
        after: Terms of each example after it, B lists.
    """

    applied: AppliedOperator
    details: MixDetails
    before: Sequence[Sequence[Term]]
    after: Sequence[Sequence[Term]]

    def mixes(self, example: int) -> bool:
        """Return whether it mixed an example, or replaced it by another (mix.control)."""
        plan = self.applied.plan
        return bool(plan.source_counts[example] > 1 or plan.gain[example, 0] == 0)

    def slots(self, example: int) -> list[int]:
        """Return the slots of the sources that an example uses, its own first."""
        return np.flatnonzero(self.applied.plan.used_mask[example]).tolist()

    def terms_before(self, source: int) -> Sequence[Term]:
        """Return the terms of a source, a segment of a pool included, before this operator."""
        return self.before[source] if source < len(self.before) else (Term(source),)


def trace_operators(
    applied: Sequence[AppliedOperator], num_samples: int
) -> Sequence[TracedOperator]:
    """Trace the operators that were applied to a batch.

    Args:
        applied: The operators, in order.
        num_samples: Length of the segments T, for shifts of log-mels.
    """
    traced: list[TracedOperator] = []
    terms: Sequence[Sequence[Term]] = ()
    for each in applied:
        examples = each.before.examples
        terms = terms or [[Term(index)] for index in range(len(examples.x))]
        details = each.operator.describe(each.plan, examples, each.before.pool)
        step = TracedOperator(each, details, terms, terms)
        samples_per_cell = num_samples / examples.x.shape[-1]
        terms = [
            _join_terms(step, example, samples_per_cell, num_samples)
            for example in range(len(examples.x))
        ]
        traced.append(step._replace(after=terms))
    return traced


def _join_terms(
    step: TracedOperator, example: int, samples_per_cell: float, num_samples: int
) -> Sequence[Term]:
    """Return the terms of an example after an operator."""
    if not step.mixes(example):
        return step.before[example]
    details = step.details
    joined = []
    for slot in step.slots(example):
        gain, part, share = (
            float(values[example, slot]) for values in (details.gain, details.part, details.share)
        )
        offset = round(int(details.offset[example, slot]) * samples_per_cell)
        joined += [
            Term(
                segment=term.segment,
                gain=term.gain * gain,
                offset=(term.offset + offset) % num_samples,
                part=term.part * part,
                share=term.share * share,
                operator=step.applied.name if slot else term.operator,
            )
            for term in step.terms_before(int(details.source[example, slot]))
        ]
    return joined


def sound_of_term(batch: Batch, term: Term) -> Tensor:
    """Return the waveform [T] that a term adds to its mix: shifted, and times its gain.

    Args:
        batch: The batch as loaded.
        term: The term.
    """
    return segment_waveform(batch, term.segment).roll(term.offset) * term.gain


def segment_waveform(batch: Batch, segment: int) -> Tensor:
    """Return the waveform [T] of a segment of the batch or of its mix pools."""
    x = batch.examples.x
    if segment < len(x):
        return x[segment]
    assert batch.pool is not None
    return batch.pool.x[segment - len(x)]


class TermPowers(NamedTuple):
    """The powers of the terms of an example, and of sums of some of them.

    Attributes:
        products: Mean products of the terms' sounds, float64 [K, K]; the diagonal are powers.
    """

    products: np.ndarray

    @staticmethod
    def measure(batch: Batch, terms: Sequence[Term]) -> "TermPowers":
        """Measure the terms of an example.

        Args:
            batch: The batch as loaded.
            terms: K terms of one of its examples.
        """
        # On the host: tensor cores of a GPU would round the products.
        sounds = torch.stack([sound_of_term(batch, term) for term in terms]).cpu().double()
        return TermPowers((sounds @ sounds.T / sounds.shape[1]).numpy())

    def snr_db(self, chosen: np.ndarray) -> float:
        """Return the level of the sum of some terms minus that of the sum of the others, in dB.

        Args:
            chosen: Which terms are the signal, bool [K].

        Returns:
            inf if the others are silent, -inf if the signal is, nan if both are.
        """
        signal, noise = (float(each @ self.products @ each) for each in (chosen, ~chosen))
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(10 * (np.log10(np.maximum(signal, 0)) - np.log10(np.maximum(noise, 0))))

    def snr_db_of_each(self) -> np.ndarray:
        """Return the level of each term against all others together, in dB, float64 [K]."""
        return np.array([self.snr_db(each) for each in np.eye(len(self.products), dtype=bool)])

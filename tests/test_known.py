"""Which labels of a mix are known: those that unknown labels of its sources can hardly change."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from birdmix.mix import (
    CONVEX,
    MAX,
    NOISY_OR,
    RULES,
    UNION,
    Boxes,
    Chain,
    CutMix,
    Inject,
    LabelRule,
    Mixed,
    Mixup,
    Mixup2,
    Operator,
    Plan,
    Samples,
)
from birdmix.mix.label_rules import JOINS, SHARES

ALL_RULES = [LabelRule(share, join) for share in SHARES for join in JOINS]
OPERATORS: list[Operator] = [
    Mixup(0.8, 0.5, scope="sample"),
    Mixup(1.0, 0.3, mix_beta=0.5, match_rms=True),
    Mixup2(0.5, 1.0),
    CutMix(0.8, axis="time", scope="sample"),
    CutMix(1.0, axis="box"),
    Inject(0.8, gain=(0.1, 0.9), convex=True),
]
TOLERANCE = 0.1


def mix(rule: LabelRule, gain: float, first: tuple, second: tuple, x: Tensor | None = None) -> bool:
    """Return whether a label is known in a blend; its sources are (target, known)."""
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([[gain, 1 - gain], [1, 0]]))
    (target, known), (other_target, other_known) = first, second
    samples = Samples(
        torch.ones(2, 8) if x is None else x,
        torch.tensor([[target], [other_target]]),
        known=torch.tensor([[known], [other_known]]),
    )
    return Mixup2(1.0, 1.0, label_rule=rule).replay(plan, samples).known[0, 0].item()


SURE, WEAK, ABSENT, UNKNOWN = (1.0, True), (0.06, True), (0.0, True), (0.0, False)


@pytest.mark.parametrize(
    ("rule", "gain", "first", "second", "expected"),
    [
        (CONVEX, 0.5, SURE, UNKNOWN, False),  # .5 or 1
        (CONVEX, 0.5, SURE, ABSENT, True),
        (CONVEX, 0.95, SURE, UNKNOWN, True),  # .95 or 1
        (CONVEX, 0.95, ABSENT, UNKNOWN, True),  # 0 or .05
        (CONVEX, 0.9, ABSENT, UNKNOWN, True),  # 0 or .1: the tolerance itself
        (CONVEX, 0.89, ABSENT, UNKNOWN, False),
        (UNION, 0.5, SURE, UNKNOWN, True),  # 1 whatever the other holds
        (UNION, 0.5, (0.95, True), UNKNOWN, True),
        (UNION, 0.5, WEAK, UNKNOWN, False),  # .06 or 1
        (MAX, 0.5, SURE, UNKNOWN, True),
        (MAX, 0.5, WEAK, UNKNOWN, False),
        (NOISY_OR, 0.5, (0.9, True), UNKNOWN, True),
        (NOISY_OR, 0.5, (0.8, True), UNKNOWN, False),
        (MAX, 0.5, UNKNOWN, UNKNOWN, False),
        (MAX, 0.5, ABSENT, WEAK, True),
        # What is written where a label is unknown counts for nothing.
        (MAX, 0.5, (1.0, False), ABSENT, False),
    ],
)
def test_a_label_is_known_where_the_unknown_ones_hardly_change_it(
    rule: LabelRule, gain: float, first: tuple, second: tuple, expected: bool
):
    assert mix(rule, gain, first, second) is expected


def test_a_source_that_brings_no_label_does_not_count():
    quiet = torch.tensor([[1.0], [1e-3]]).expand(2, 8)
    floored = replace(MAX, min_snr_db=-30)
    assert mix(floored, 0.5, ABSENT, UNKNOWN, quiet)
    assert not mix(floored, 0.5, ABSENT, UNKNOWN)
    assert not mix(floored, 0.5, UNKNOWN, ABSENT, quiet)


def test_the_amplitude_rule_forgives_an_unknown_that_is_barely_heard():
    quiet = torch.tensor([[1.0], [0.05]]).expand(2, 8)
    assert mix(RULES["amplitude"], 0.5, ABSENT, UNKNOWN, quiet)
    assert not mix(RULES["amplitude"], 0.5, ABSENT, UNKNOWN)


def test_the_tolerance_is_part_of_a_rule():
    assert mix(replace(CONVEX, known_tolerance=0.5), 0.5, SURE, UNKNOWN)
    assert not mix(replace(CONVEX, known_tolerance=0.0), 0.95, SURE, UNKNOWN)
    assert mix(replace(CONVEX, known_tolerance=0.0), 0.95, SURE, ABSENT)
    with pytest.raises(ValueError, match=r"known_tolerance=-0.1"):
        replace(CONVEX, known_tolerance=-0.1)


def random_samples(seed: int, num_samples: int, num_frames: int) -> Samples:
    """Draw samples whose labels are 0, 1, weak or unknown, and unlike in loudness."""
    rng = np.random.default_rng(seed)
    values = np.array([0, 0, 1, 1, 0.06, 0.5, 0.95], np.float32)
    x = rng.standard_normal((num_samples, 1, 8, 12)).astype(np.float32)
    x *= 10 ** rng.uniform(-2, 0, (num_samples, 1, 1, 1)).astype(np.float32)
    target = torch.from_numpy(rng.choice(values, (num_samples, 5)))
    frames = torch.from_numpy(rng.choice(values, (num_samples, 5, num_frames)))
    known = torch.from_numpy(rng.random((num_samples, 5)) < 0.6)
    frames_known = torch.from_numpy(rng.random((num_samples, 5, num_frames)) < 0.6)
    return Samples(
        torch.from_numpy(x), target, known=known, frames=frames, frames_known=frames_known
    )


def with_unknowns(samples: Samples, value: float) -> Samples:
    """Return the samples with this value for all that is unknown, and nothing unknown."""
    assert samples.known is not None and samples.frames is not None
    return samples._replace(
        target=samples.target.where(samples.known, value),
        frames=samples.frames.where(samples.frames_known, value),
        known=None,
        frames_known=None,
    )


def assert_law(known: Tensor, lowest: Tensor, highest: Tensor) -> None:
    """Assert the law, but for differences that rounding puts on either side of the tolerance."""
    difference = highest - lowest
    decided = (difference - TOLERANCE).abs() > 1e-4
    assert torch.equal(known[decided], (difference <= TOLERANCE)[decided])


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.integers(0, 10_000),
    st.sampled_from(OPERATORS),
    st.sampled_from(ALL_RULES),
    st.sampled_from([None, -12.0]),
)
def test_every_rule_knows_what_both_extremes_agree_on(
    seed: int, operator: Operator, rule: LabelRule, min_snr_db: float | None
):
    samples, pool = random_samples(seed, 6, 4), random_samples(seed + 1, 3, 4)
    plan = operator.draw(6, np.random.default_rng(seed), pool_size=3)
    ruled = Mixup2(1.0, 1.0, label_rule=replace(rule, min_snr_db=min_snr_db), linear=True)
    mixed = ruled.replay(plan, samples, pool)
    lowest, highest = (
        ruled.replay(plan, with_unknowns(samples, value), with_unknowns(pool, value))
        for value in (0.0, 1.0)
    )
    assert_law(mixed.known, lowest.target, highest.target)
    assert_law(mixed.frames_known, lowest.frames, highest.frames)
    # So whatever is true of the unknown labels, a known one of the mix is right.
    truth = ruled.replay(plan, with_unknowns(samples, seed % 11 / 10), with_unknowns(pool, 0.5))
    for known, target, true in (
        (mixed.known, lowest.target, truth.target),
        (mixed.frames_known, lowest.frames, truth.frames),
    ):
        assert (
            (target - true)[known].abs().max().item() <= TOLERANCE + 1e-5 if known.any() else True
        )


def cut_mix(**tensors: Tensor) -> Mixed:
    """Paste the second sample over the second quarter of the first."""
    boxes = Boxes(np.array([[0.25, 0.5], [0, 0]]), np.array([[0.0, 1.0]] * 2))
    plan = Plan(np.array([[0, 1], [1, 1]]), np.array([[1, 1], [1, 0]]), boxes)
    return CutMix(1.0).replay(plan, Samples(torch.ones(2, 8), torch.zeros(2, 1), **tensors))


def test_a_frame_is_known_by_what_is_heard_in_it():
    known = torch.tensor([[True], [False]])
    mixed = cut_mix(known=known, frames=torch.zeros(2, 1, 8))
    assert mixed.frames_known[0, 0].tolist() == [True] * 2 + [False] * 2 + [True] * 4
    assert not mixed.known[0, 0]  # 0 or .25 of the clip
    mixed = cut_mix(known=~known, frames=torch.zeros(2, 1, 8))
    assert mixed.frames_known[0, 0].tolist() == [False] * 2 + [True] * 2 + [False] * 4


def test_frames_may_have_a_mask_of_their_own():
    frames_known = torch.ones(2, 1, 8, dtype=torch.bool)
    frames_known[1, 0, 2] = False
    mixed = cut_mix(frames=torch.zeros(2, 1, 8), frames_known=frames_known)
    assert mixed.frames_known[0, 0].tolist() == [True] * 2 + [False] + [True] * 5
    assert mixed.known is None


def test_frames_without_any_mask_have_none():
    assert cut_mix(frames=torch.zeros(2, 1, 8)).frames_known is None
    assert cut_mix(known=torch.ones(2, 1) > 0).frames_known is None


def test_a_chain_carries_the_mask_of_frames_along():
    samples = random_samples(0, 4, 4)
    given = (samples.x, samples.target, None, samples.known, samples.frames)
    first, second = CutMix(1.0), Mixup(1.0, 1.0)
    chained = Chain(first, second)(*given, rng=np.random.default_rng(0))
    generator = np.random.default_rng(0)
    step = first(*given, rng=generator)
    step = second(*step[:5], rng=generator, frames_known=step.frames_known)
    assert torch.equal(chained.frames_known, step.frames_known)
    assert not torch.equal(step.frames_known, step.known[..., None].expand_as(step.frames_known))


def test_a_capped_pool_of_which_nothing_is_known_makes_nothing_known():
    pool = Samples(torch.ones(1, 8), torch.zeros(1, 9), known=torch.zeros(1, 9) > 0)
    operator = Inject(1.0, label_rule=replace(MAX, label_cap=0.5))
    mixed = operator(torch.ones(2, 8), torch.zeros(2, 9), rng=np.random.default_rng(0), pool=pool)
    assert not mixed.known.any()


def test_masks_never_wait_for_an_accelerator():
    samples = Samples(*(None if t is None else t.to("meta") for t in random_samples(0, 4, 4)))
    plan = CutMix(1.0).draw(4, np.random.default_rng(0))
    for rule in ALL_RULES:
        mixed = Mixup2(1.0, 1.0, label_rule=rule, linear=True).replay(plan, samples)
        assert mixed.known.shape == (4, 5) and mixed.frames_known.shape == (4, 5, 4)

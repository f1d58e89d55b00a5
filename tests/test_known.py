"""Known masks of mixes: labels that unknown labels of the sources change by at most .1."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
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
    DrawContext,
    Examples,
    Inject,
    LabelRule,
    MixResult,
    Mixup,
    Mixup2,
    Operator,
    Plan,
)
from birdmix.mix.label_rules import JOINS, SHARES
from tests.laws import law

ALL_RULES = [LabelRule(share, join) for share in SHARES for join in JOINS]
OPERATORS: list[Operator] = [
    Mixup(0.8, 0.5, scope="sample"),
    Mixup(1.0, 0.3, mix_beta=0.5, match_level="rms"),
    Mixup(1.0, 0.5, source_gain=[0.2, 0.7], time_shift="random"),
    Mixup2(0.5, 1.0, time_shift="aligned"),
    Mixup2(0.5, 1.0, num_sources2=[0.5, 0.5]),
    CutMix(0.8, axis="time", scope="sample"),
    CutMix(1.0, axis="box"),
    Inject(0.8, blend=[0.1, 0.9]),
]
TOLERANCE = 0.1


def mix(rule: LabelRule, gain: float, first: tuple, second: tuple, x: Tensor | None = None) -> bool:
    """Return whether the label of a blend is known; the sources are (target, known)."""
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([[gain, 1 - gain], [1, 0]]))
    (target, known), (other_target, other_known) = first, second
    examples = Examples(
        torch.ones(2, 8) if x is None else x,
        torch.tensor([[target], [other_target]]),
        known=torch.tensor([[known], [other_known]]),
    )
    return Mixup2(1.0, 1.0, label_rule=rule).replay(plan, examples).known[0, 0].item()


PRESENT, WEAK, ABSENT, UNKNOWN = (1.0, True), (0.06, True), (0.0, True), (0.0, False)


@pytest.mark.parametrize(
    ("rule", "gain", "first", "second", "expected"),
    [
        (CONVEX, 0.5, PRESENT, UNKNOWN, False),  # .5 or 1
        (CONVEX, 0.5, PRESENT, ABSENT, True),
        (CONVEX, 0.95, PRESENT, UNKNOWN, True),  # .95 or 1
        (CONVEX, 0.95, ABSENT, UNKNOWN, True),  # 0 or .05
        (CONVEX, 0.9, ABSENT, UNKNOWN, True),  # 0 or .1: the tolerance itself
        (CONVEX, 0.89, ABSENT, UNKNOWN, False),
        (UNION, 0.5, PRESENT, UNKNOWN, True),  # 1 for any value of the other
        (UNION, 0.5, (0.95, True), UNKNOWN, True),
        (UNION, 0.5, WEAK, UNKNOWN, False),  # .06 or 1
        (MAX, 0.5, PRESENT, UNKNOWN, True),
        (MAX, 0.5, WEAK, UNKNOWN, False),
        (NOISY_OR, 0.5, (0.9, True), UNKNOWN, True),
        (NOISY_OR, 0.5, (0.8, True), UNKNOWN, False),
        (MAX, 0.5, UNKNOWN, UNKNOWN, False),
        (MAX, 0.5, ABSENT, WEAK, True),
        # The value of an unknown label has no effect.
        (MAX, 0.5, (1.0, False), ABSENT, False),
    ],
)
def test_a_label_is_known_where_unknown_labels_change_it_by_at_most_the_tolerance(
    rule: LabelRule, gain: float, first: tuple, second: tuple, expected: bool
):
    assert mix(rule, gain, first, second) is expected


def test_a_source_of_label_share_0_does_not_affect_the_known_mask():
    quiet = torch.tensor([[1.0], [1e-3]]).expand(2, 8)
    audible = replace(MAX, min_snr_db=-30)
    assert mix(audible, 0.5, ABSENT, UNKNOWN, quiet)
    assert not mix(audible, 0.5, ABSENT, UNKNOWN)
    assert not mix(audible, 0.5, UNKNOWN, ABSENT, quiet)


def test_the_amplitude_rule_ignores_the_unknown_label_of_a_quiet_source():
    quiet = torch.tensor([[1.0], [0.05]]).expand(2, 8)
    assert mix(RULES["amplitude"], 0.5, ABSENT, UNKNOWN, quiet)
    assert not mix(RULES["amplitude"], 0.5, ABSENT, UNKNOWN)


def test_the_known_tolerance_is_a_field_of_the_rule():
    assert mix(replace(CONVEX, known_tolerance=0.5), 0.5, PRESENT, UNKNOWN)
    assert not mix(replace(CONVEX, known_tolerance=0.0), 0.95, PRESENT, UNKNOWN)
    assert mix(replace(CONVEX, known_tolerance=0.0), 0.95, PRESENT, ABSENT)
    with pytest.raises(ValueError, match=r"known_tolerance=-0.1"):
        replace(CONVEX, known_tolerance=-0.1)


def random_examples(seed: int, num_examples: int, num_frames: int) -> Examples:
    """Draw examples of labels 0, 1, weak or unknown, and of levels between -40 and 0 dB."""
    rng = np.random.default_rng(seed)
    values = np.array([0, 0, 1, 1, 0.06, 0.5, 0.95], np.float32)
    x = rng.standard_normal((num_examples, 1, 8, 12)).astype(np.float32)
    x *= 10 ** rng.uniform(-2, 0, (num_examples, 1, 1, 1)).astype(np.float32)
    target = torch.from_numpy(rng.choice(values, (num_examples, 5)))
    frames = torch.from_numpy(rng.choice(values, (num_examples, 5, num_frames)))
    known = torch.from_numpy(rng.random((num_examples, 5)) < 0.6)
    frames_known = torch.from_numpy(rng.random((num_examples, 5, num_frames)) < 0.6)
    return Examples(
        torch.from_numpy(x), target, known=known, frames=frames, frames_known=frames_known
    )


def fill_unknown(examples: Examples, value: float) -> Examples:
    """Return the examples with all unknown labels set to this value, and known."""
    assert examples.known is not None and examples.frames is not None
    return examples._replace(
        target=examples.target.where(examples.known, value),
        frames=examples.frames.where(examples.frames_known, value),
        known=None,
        frames_known=None,
    )


def assert_known_law(known: Tensor, lowest: Tensor, highest: Tensor) -> None:
    """Assert known == (difference <= tolerance), except for differences within rounding of it."""
    difference = highest - lowest
    clear = (difference - TOLERANCE).abs() > 1e-4
    assert torch.equal(known[clear], (difference <= TOLERANCE)[clear])


@law(150)
@given(
    st.integers(0, 10_000),
    st.sampled_from(OPERATORS),
    st.sampled_from(ALL_RULES),
    st.sampled_from([None, -12.0]),
    st.sampled_from([{}, {}, {"label_cap": 0.4}, {"label_sum": 0.7}]),
)
def test_for_every_rule_known_are_labels_that_are_alike_for_unknowns_of_0_and_1(
    seed: int,
    operator: Operator,
    rule: LabelRule,
    min_snr_db: float | None,
    limits: dict[str, float],
):
    examples, pool = random_examples(seed, 6, 4), random_examples(seed + 1, 3, 4)
    plan = operator.draw(DrawContext(6, {"pool": 3}), np.random.default_rng(seed))
    by_rule = Mixup2(
        1.0, 1.0, label_rule=replace(rule, min_snr_db=min_snr_db, **limits), linear=True
    )
    mixed = by_rule.replay(plan, examples, pool)
    lowest, highest = (
        by_rule.replay(plan, fill_unknown(examples, value), fill_unknown(pool, value))
        for value in (0.0, 1.0)
    )
    if not limits:  # they depend on the unknown labels, too
        assert_known_law(mixed.known, lowest.target, highest.target)
        assert_known_law(mixed.frames_known, lowest.frames, highest.frames)
    # A known label of the mix is right for any true values of the unknown labels.
    truth = by_rule.replay(plan, fill_unknown(examples, seed % 11 / 10), fill_unknown(pool, 0.5))
    for known, target, true in (
        (mixed.known, lowest.target, truth.target),
        (mixed.frames_known, lowest.frames, truth.frames),
    ):
        assert (
            (target - true)[known].abs().max().item() <= TOLERANCE + 1e-5 if known.any() else True
        )


def cut_mix(**tensors: Tensor) -> MixResult:
    """Replace the second quarter of the first example by that of the second."""
    boxes = Boxes(np.array([[0.25, 0.5], [0, 0]]), np.array([[0.0, 1.0]] * 2))
    plan = Plan(np.array([[0, 1], [1, 1]]), np.array([[1, 1], [1, 0]]), boxes)
    return CutMix(1.0).replay(plan, Examples(torch.ones(2, 8), torch.zeros(2, 1), **tensors))


def test_a_frame_is_known_if_the_source_in_it_is():
    known = torch.tensor([[True], [False]])
    mixed = cut_mix(known=known, frames=torch.zeros(2, 1, 8))
    assert mixed.frames_known[0, 0].tolist() == [True] * 2 + [False] * 2 + [True] * 4
    assert not mixed.known[0, 0]  # 0 or .25 for the whole example
    mixed = cut_mix(known=~known, frames=torch.zeros(2, 1, 8))
    assert mixed.frames_known[0, 0].tolist() == [False] * 2 + [True] * 2 + [False] * 4


def test_frames_can_have_their_own_known_mask():
    frames_known = torch.ones(2, 1, 8, dtype=torch.bool)
    frames_known[1, 0, 2] = False
    mixed = cut_mix(frames=torch.zeros(2, 1, 8), frames_known=frames_known)
    assert mixed.frames_known[0, 0].tolist() == [True] * 2 + [False] + [True] * 5
    assert mixed.known is None


def test_frames_without_any_mask_have_no_mask_after_a_mix():
    assert cut_mix(frames=torch.zeros(2, 1, 8)).frames_known is None
    assert cut_mix(known=torch.ones(2, 1) > 0).frames_known is None


def test_a_chain_passes_the_known_mask_of_frames_on():
    examples = random_examples(0, 4, 4)
    tensors = (examples.x, examples.target, None, examples.known, examples.frames)
    first, second = CutMix(1.0), Mixup(1.0, 1.0)
    chained = Chain(first, second)(*tensors, rng=np.random.default_rng(0))
    generator = np.random.default_rng(0)
    mixed = first(*tensors, rng=generator)
    mixed = second(*mixed.examples[:5], rng=generator, frames_known=mixed.frames_known)
    assert torch.equal(chained.frames_known, mixed.frames_known)
    assert not torch.equal(mixed.frames_known, mixed.known[..., None].expand_as(mixed.frames_known))


def test_after_injection_of_unknown_labels_no_label_is_known_despite_a_label_cap():
    pool = Examples(torch.ones(1, 8), torch.zeros(1, 9), known=torch.zeros(1, 9) > 0)
    operator = Inject(1.0, label_rule=replace(MAX, label_cap=0.5))
    mixed = operator(torch.ones(2, 8), torch.zeros(2, 9), rng=np.random.default_rng(0), pool=pool)
    assert not mixed.known.any()


def test_known_masks_are_computed_without_reading_values_on_an_accelerator():
    examples = Examples(*(None if t is None else t.to("meta") for t in random_examples(0, 4, 4)))
    plan = CutMix(1.0).draw(DrawContext(4), np.random.default_rng(0))
    for rule in ALL_RULES:
        mixed = Mixup2(1.0, 1.0, label_rule=rule, linear=True).replay(plan, examples)
        assert mixed.known.shape == (4, 5) and mixed.frames_known.shape == (4, 5, 4)


@pytest.mark.parametrize(
    ("unknown", "limit", "known"),
    [
        (True, {"label_sum": 0.5}, [False, False]),  # the known label is .5 or .25
        (False, {"label_sum": 0.5}, [True, True]),
        (True, {"label_cap": 0.5}, [False, False]),
        (True, {"label_cap": 3.0}, [True, False]),  # the cap scales nothing
    ],
)
def test_a_known_label_that_unknown_ones_would_scale_is_unknown(
    unknown: bool, limit: dict[str, float], known: list[bool]
):
    plan = Plan(np.array([[0, 1]]), np.ones((1, 2)))
    own = Examples(torch.ones(1, 8), torch.zeros(1, 2), known=torch.ones(1, 2, dtype=torch.bool))
    pool = Examples(torch.ones(1, 8), torch.tensor([[1.0, 0.0]]))
    pool = pool._replace(known=torch.tensor([[True, not unknown]]))
    rule = LabelRule("full", "max", **limit)
    assert Mixup2(1.0, 1.0, label_rule=rule).replay(plan, own, pool).known.tolist() == [known]

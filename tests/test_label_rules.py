"""Label rules: the label shares of sources, joins, audibility and strong targets."""

import numpy as np
import pytest
import torch
from torch import Tensor

from birdmix.mix import (
    AMPLITUDE,
    CONVEX,
    MAX,
    NOISY_OR,
    UNION,
    Boxes,
    CutMix,
    DrawContext,
    Examples,
    LabelRule,
    MixResult,
    Mixup,
    Mixup2,
    Plan,
    measure_level_db,
)
from birdmix.mix.sound_levels import source_rms

PAIR = Plan(np.array([[0, 1], [1, 0]]), np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))


def tone(*amplitudes: float, num_samples: int = 400) -> Tensor:
    """Return square waves [B, T]; their RMS is their amplitude."""
    wave = torch.ones(num_samples)
    wave[::2] = -1
    return torch.stack([amplitude * wave for amplitude in amplitudes])


def mix(rule: LabelRule, x: Tensor, plan: Plan = PAIR, **tensors: Tensor) -> MixResult:
    target = tensors.pop("target", torch.eye(len(x)))
    operator = Mixup2(1.0, 1.0, label_rule=rule)
    return operator.replay(plan, Examples(x, target, **tensors))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (CONVEX, 0.25 * 0.8 + 0.75 * 0.4),
        (UNION, 1.0),
        (MAX, 0.8),
        (NOISY_OR, 1 - 0.2 * 0.6),
        (AMPLITUDE, 0.25 * 0.8 + 0.75 * 0.4),
        (LabelRule("part", "max"), max(0.25 * 0.8, 0.75 * 0.4)),
        (LabelRule("part", "noisy_or"), 1 - (1 - 0.25 * 0.8) * (1 - 0.75 * 0.4)),
        (LabelRule("full", "sum"), 1.0),
    ],
)
def test_joins_compute_the_sum_maximum_or_noisy_or(rule: LabelRule, expected: float):
    mixed = mix(rule, tone(1, 1), target=torch.tensor([[0.8], [0.4]]))
    assert mixed.target[0].item() == pytest.approx(expected)


def test_a_union_adds_soft_labels_as_the_reference_code_does():
    target = torch.full((4, 1), 0.3)
    mixed = Mixup(1.0, 1.0)(torch.eye(4), target, rng=np.random.default_rng(0))
    assert torch.allclose(mixed.target, torch.full((4, 1), 0.6))


def test_rules_with_equal_fields_are_equal():
    assert LabelRule("full", "sum") == UNION
    assert len({UNION, LabelRule("full", "sum"), MAX}) == 2


def test_amplitude_shares_are_proportional_to_gain_times_rms():
    mixed = mix(AMPLITUDE, tone(1.0, 0.1))
    assert mixed.target[0].tolist() == pytest.approx([0.25 / 0.325, 0.075 / 0.325])
    assert mixed.target[1].tolist() == pytest.approx([0.5 / 0.55, 0.05 / 0.55])


def test_a_quiet_partner_at_lambda_one_half_brings_little_label():
    mixed = mix(AMPLITUDE, tone(1.0, 0.01))
    assert mixed.target[1].tolist() == pytest.approx([0.990099, 0.009901], abs=1e-5)


@pytest.mark.parametrize("rule", [CONVEX, UNION, MAX, NOISY_OR, AMPLITUDE])
def test_silence_brings_no_label_with_an_audibility_threshold(rule: LabelRule):
    audible = LabelRule(rule.share, rule.join, min_snr_db=-60)
    mixed = mix(audible, tone(1.0, 0.0))
    assert mixed.target[0, 1] == 0 and mixed.target[0, 0] > 0
    assert mix(audible, tone(0.0, 0.0)).target.sum() == 0


def test_a_source_below_the_audibility_threshold_brings_no_label():
    def target(threshold: float) -> list[float]:
        return (
            mix(LabelRule("full", "max", min_snr_db=threshold), tone(1.0, 0.01)).target[1].tolist()
        )

    assert target(-39) == [1, 0]  # at lambda 1/2 the partner is 40 dB below
    assert target(-41) == [1, 1]


def test_matched_sources_are_equally_loud_before_the_gains():
    x = tone(1.0, 0.01)
    operator = Mixup2(1.0, 1.0, match_level="rms", fixed_lambda=0.5, label_rule=AMPLITUDE)
    mixed = operator(x, torch.eye(2), rng=np.random.default_rng(0))
    assert torch.allclose(mixed.x, x)  # half of itself plus half of the other, scaled to its level
    assert torch.allclose(mixed.target, torch.full((2, 2), 0.5))


def test_silence_is_not_amplified():
    x = tone(1.0, 1e-7)
    mixed = Mixup(1.0, 1.0, match_level="rms")(x, torch.eye(2), rng=np.random.default_rng(0))
    assert mixed.x.isfinite().all() and torch.allclose(mixed.x[0], x[0], atol=1e-6)


# Levels inside boxes


def cut(begin: float, end: float) -> Plan:
    boxes = Boxes(np.array([[begin, end], [0, 0]]), np.array([[0.0, 1.0]] * 2))
    return Plan(np.array([[0, 1], [1, 1]]), np.array([[1, 1], [1, 0]], np.float32), boxes)


def padded(sound_fraction: float) -> Tensor:
    """Return an example full of sound, and one that is silent after a fraction of its length."""
    x = tone(1.0, 1.0)
    x[1, round(sound_fraction * x.shape[1]) :] = 0
    return x


def test_a_pasted_box_of_padding_brings_no_label():
    rule = LabelRule("part", "sum", min_snr_db=-30)
    assert mix(rule, padded(0.5), cut(0.5, 0.75)).target[0].tolist() == [0.75, 0]
    assert mix(rule, padded(0.5), cut(0.25, 0.5)).target[0].tolist() == [0.75, 0.25]


def test_an_example_whose_sound_is_covered_by_the_box_keeps_no_label():
    rule = LabelRule("full", "max", min_snr_db=-30)
    x = padded(0.5).flip(0)  # now the example itself has sound in its first half only
    assert mix(rule, x, cut(0.0, 0.5)).target[0].tolist() == [0, 1]
    assert mix(rule, x, cut(0.5, 1.0)).target[0].tolist() == [1, 1]


@pytest.mark.parametrize("axis", ["time", "frequency", "box"])
def test_levels_are_measured_inside_and_outside_every_box(axis: str):
    x = torch.randn(6, 7, 30, generator=torch.Generator().manual_seed(0))
    x *= 10 ** torch.linspace(-2, 1, 6)[:, None, None]
    plan = CutMix(0.8, axis=axis, scope="sample").draw(DrawContext(6), np.random.default_rng(1))
    rms = source_rms(plan, torch.from_numpy(plan.source), x, None, None, linear=True)
    times, mels = plan.boxes.bounds_in_cells(tuple(x.shape))
    for index, (own, partner) in enumerate(plan.source):
        inside = np.zeros(x.shape[1:], bool)
        inside[slice(*mels[index]), slice(*times[index])] = plan.used_mask[index, 1]
        expected = x[own].numpy()[~inside]
        assert rms[index, 0] == pytest.approx(np.sqrt(np.square(expected).mean()), rel=1e-5)
        if inside.any():
            expected = x[partner].numpy()[inside]
            assert rms[index, 1] == pytest.approx(np.sqrt(np.square(expected).mean()), rel=1e-5)


def test_a_box_smaller_than_a_cell_changes_no_label_mask_or_weight():
    known = torch.tensor([[True, True], [False, False]])
    mixed = mix(CONVEX, tone(1, 1), cut(0.5, 0.5001), known=known, weight=torch.tensor([1.0, 5.0]))
    assert mixed.target[0].tolist() == [1, 0]
    assert mixed.known[0].all() and mixed.weight[0] == 1


def test_audibility_depends_on_the_level_inside_the_box():
    x = torch.ones(2, 4, 8)
    x[1, :2] = 0  # the partner is silent in the lower half of its bins
    rule = LabelRule("part", "sum", min_snr_db=-30)
    low, high = np.array([[0.0, 0.5]] * 2), np.array([[0.5, 1.0]] * 2)
    for mel, expected in ((low, [0.75, 0]), (high, [0.75, 0.25])):
        boxes = Boxes(np.array([[0.5, 1.0]] * 2), mel)
        plan = Plan(cut(0, 1).source, cut(0, 1).gain, boxes)
        operator = CutMix(1.0, label_rule=rule, linear=True)
        mixed = operator.replay(plan, Examples(x, torch.eye(2)))
        assert mixed.target[0].tolist() == expected


# Levels passed along with spectrograms


def test_mixing_mels_by_level_needs_the_level_of_the_waveform():
    mel = torch.randn(2, 1, 8, 10)
    for operator in (
        Mixup2(1.0, 1.0, label_rule=AMPLITUDE),
        Mixup2(1.0, 1.0, label_rule=LabelRule("full", "max", min_snr_db=-30)),
        Mixup2(1.0, 1.0, match_level="rms"),
    ):
        with pytest.raises(ValueError, match="level=birdmix.mix.measure_level_db"):
            operator(mel, torch.eye(2), rng=np.random.default_rng(0))
        operator(mel, torch.eye(2), rng=np.random.default_rng(0), level=torch.zeros(2))


def test_passed_levels_give_the_same_targets_as_measured_levels():
    waveforms = tone(1.0, 0.1)
    mel = torch.randn(2, 8, 10)
    for rule in (AMPLITUDE, LabelRule("full", "max", min_snr_db=-25)):
        measured = mix(rule, waveforms).target
        passed = mix(rule, mel, level=measure_level_db(waveforms)).target
        assert torch.allclose(measured, passed, atol=1e-6)


def test_levels_by_time_intervals_give_the_level_inside_the_box():
    rule = LabelRule("part", "sum", min_snr_db=-30)
    mel, levels = torch.randn(2, 8, 16), measure_level_db(padded(0.5), num_intervals=8)
    assert mix(rule, mel, cut(0.5, 0.75), level=levels).target[0].tolist() == [0.75, 0]
    assert mix(rule, mel, cut(0.25, 0.5), level=levels).target[0].tolist() == [0.75, 0.25]


def test_normalised_mels_are_not_scaled_to_match_levels():
    mel = torch.randn(2, 8, 10)
    plain = Mixup2(1.0, 1.0)(mel, torch.eye(2), rng=np.random.default_rng(0))
    matched = Mixup2(1.0, 1.0, match_level="rms")(
        mel, torch.eye(2), rng=np.random.default_rng(0), level=torch.tensor([0.0, -20.0])
    )
    assert torch.equal(plain.x, matched.x)


# Strong targets (frames)


def test_frame_targets_inside_the_box_are_those_of_the_partner():
    frames = torch.zeros(2, 2, 8)
    frames[0, 0], frames[1, 1] = 1, 1
    mixed = mix(CONVEX, tone(1, 1), cut(0.25, 0.5), frames=frames)
    assert mixed.frames[0, 0].tolist() == [1, 1, 0, 0, 1, 1, 1, 1]
    assert mixed.frames[0, 1].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert torch.allclose(mixed.frames.mean(dim=2), mixed.target)


def test_a_frame_that_is_partly_in_the_box_has_label_shares_by_area():
    frames = torch.zeros(2, 2, 2)
    frames[0, 0], frames[1, 1] = 1, 1
    mixed = mix(CONVEX, tone(1, 1), cut(0.25, 0.5), frames=frames)
    assert mixed.frames[0].tolist() == [[0.5, 1], [0.5, 0]]
    assert mix(UNION, tone(1, 1), cut(0.25, 0.5), frames=frames).frames[0].tolist() == [
        [1, 1],
        [1, 0],
    ]


def test_frame_targets_of_blends_have_the_shares_of_the_whole_example():
    frames = torch.eye(2)[..., None].expand(2, 2, 5)
    for rule in (CONVEX, UNION, MAX, AMPLITUDE):
        mixed = mix(rule, tone(1.0, 0.1), frames=frames)
        assert torch.allclose(mixed.frames, mixed.target[..., None].expand(2, 2, 5))


def test_an_inaudible_source_brings_no_label_in_any_frame():
    frames = torch.eye(2)[..., None].expand(2, 2, 8)
    rule = LabelRule("part", "sum", min_snr_db=-30)
    mixed = mix(rule, padded(0.5), cut(0.5, 0.75), frames=frames)
    assert (mixed.frames[0, 1] == 0).all()


@pytest.mark.parametrize(
    ("create", "expected"),
    [
        (lambda: LabelRule("half", "sum"), "share='half'"),
        (lambda: LabelRule("full", "add"), "join='add'"),
        (lambda: LabelRule("full", "max", min_snr_db=3), "min_snr_db=3"),
        (lambda: LabelRule("full", "max", label_cap=-1), "label_cap=-1"),
    ],
)
def test_an_invalid_rule_raises_an_error(create, expected: str):
    with pytest.raises(ValueError, match=expected):
        create()

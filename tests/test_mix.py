"""Mixing. On the identity batch row i holds only sample i, so outputs are the gains themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from birdmix.batch import Batch
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import LogMelSettings, MaskingSettings
from birdmix.keys import StepKeys
from birdmix.mix import CONVEX, Mixup, Mixup2, Plan
from birdmix.mix.apply import _apply_slots, apply
from birdmix.mix.draw import convex_plan, draw_partners, sum_plan
from birdmix.mix.label_rules import join_known, join_weight
from birdmix.training.step import TrainingStep


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_mixup2_blends_targets_with_the_gains_of_the_inputs():
    eye = torch.eye(8)
    mixed = Mixup2(mix_beta=0.4, mixup2_prob=1.0)(eye, eye, rng=rng())
    assert torch.equal(mixed.x, mixed.target)
    assert torch.allclose(mixed.x.sum(dim=1), torch.ones(8))


@pytest.mark.parametrize(("mixup_double", "num_sources"), [(1.0, 2), (0.0, 3)])
def test_mixup_sums_distinct_sources_at_gain_one(mixup_double: float, num_sources: int):
    eye = torch.eye(8)
    mixed = Mixup(mixup_prob=1.0, mixup_double=mixup_double)(eye, eye, rng=rng())
    assert set(mixed.x.unique().tolist()) == {0.0, 1.0}
    assert (mixed.x.sum(dim=1) == num_sources).all()
    assert (mixed.x.diag() == 1).all()
    assert torch.equal(mixed.x, mixed.target)
    assert mixed.plan.num_self_pairs == 0


def test_a_union_of_equal_labels_stays_at_one():
    target = torch.ones(4, 1)
    mixed = Mixup(mixup_prob=1.0, mixup_double=0.0)(torch.eye(4), target, rng=rng())
    assert torch.equal(mixed.target, target)


def test_a_union_adds_soft_labels_as_the_reference_does():
    target = torch.full((4, 1), 0.3)
    mixed = Mixup(mixup_prob=1.0, mixup_double=1.0)(torch.eye(4), target, rng=rng())
    assert torch.allclose(mixed.target, torch.full((4, 1), 0.6))


def test_dirichlet_gains_add_up_to_one():
    eye = torch.eye(8)
    mixed = Mixup(mixup_prob=1.0, mixup_double=0.0, mix_beta=1.0)(eye, eye, rng=rng())
    assert torch.allclose(mixed.x.sum(dim=1), torch.ones(8))
    assert (mixed.plan.num_sources == 3).all()


@pytest.mark.parametrize("shape", [(8, 50), (8, 1, 6, 5), (8, 2, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_apply_is_the_weighted_sum_of_rows_for_any_shape(shape: tuple, dtype: torch.dtype):
    plan = sum_plan(8, 3, 1.0, rng())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    matrix = np.zeros((8, 8))
    np.add.at(matrix, (np.arange(8)[:, None], plan.source), plan.gain)
    expected = torch.einsum("bi,i...->b...", torch.from_numpy(matrix), x.double())
    tolerance = 1e-6 if dtype == torch.float32 else 5e-2
    mixed = apply(plan, x)
    assert mixed.dtype == dtype
    assert torch.allclose(mixed.double(), expected, atol=tolerance)


def test_both_ways_to_apply_a_plan_agree():
    x = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    for plan in (sum_plan(8, 3, None, rng()), sum_plan(8, 3, 0.5, rng()), convex_plan(8, 1, rng())):
        assert torch.allclose(apply(plan, x), _apply_slots(plan, x), atol=1e-6)


@pytest.mark.parametrize("how", [apply, _apply_slots])
def test_a_broken_sample_reaches_only_those_it_is_mixed_into(how):
    x = torch.ones(4, 10)
    x[2] = float("nan")
    source = np.array([[0, 2], [1, 1], [2, 0], [3, 1]])
    gain = np.array([[1, 1], [1, 0], [1, 1], [0.5, 0.5]], np.float32)
    broken = how(Plan(source, gain), x).isnan().any(dim=1)
    assert broken.tolist() == [True, False, True, False]


def test_nothing_is_mixed_in_place():
    x, target = torch.eye(6), torch.eye(6)
    Mixup(mixup_prob=1.0, mixup_double=0.5)(x, target, rng=rng())
    Mixup2(mix_beta=1.0, mixup2_prob=1.0)(x, target, rng=rng())
    assert torch.equal(x, torch.eye(6)) and torch.equal(target, torch.eye(6))


def test_what_does_not_fire_is_the_input_itself():
    eye = torch.eye(4)
    off = Mixup(mixup_prob=0.0, mixup_double=0.5)
    assert off(eye, eye, rng=rng()).x is eye
    on = Mixup2(mix_beta=1.0, mixup2_prob=1.0).eval()
    assert on(eye, eye, rng=rng()).x is eye


def test_gates_fire_as_often_as_asked():
    mixup = Mixup(mixup_prob=0.6, mixup_double=0.3)
    plans = [mixup.draw(8, rng(seed)) for seed in range(4000)]
    sources = np.array([plan.num_sources[0] for plan in plans])
    assert abs((sources > 1).mean() - 0.6) < 0.03
    assert abs((sources == 2).sum() / (sources > 1).sum() - 0.3) < 0.03


def test_the_gates_of_waveform_and_spectrogram_mix_are_independent():
    step = TrainingStep(
        waveform_mix=Mixup(0.5, 0.5),
        log_mel=LogMel(LogMelSettings(n_fft=64, hop_length=64, n_mels=4)),
        masking=MaskingSettings(),
        spectrogram_mix=Mixup2(1.0, 0.5),
        classifier=torch.nn.Identity(),
        smoothing=0.0,
    )
    known = torch.ones(4, 4, dtype=torch.bool)
    batch = Batch(torch.randn(4, 128), torch.eye(4), torch.ones(4), known, torch.arange(4))
    seen = [step.see(batch, StepKeys(seed=0, epoch=0, batch=index)) for index in range(2000)]
    a = np.array([not each.waveform_plan.is_identity for each in seen])
    b = np.array([not each.spectrogram_plan.is_identity for each in seen])
    assert abs(a.mean() - 0.5) < 0.04 and abs(b.mean() - 0.5) < 0.04
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06


def test_lambda_follows_its_beta_law():
    lam = np.concatenate([convex_plan(64, 0.4, rng(seed)).gain[:, 0] for seed in range(200)])
    assert abs(lam.mean() - 0.5) < 0.01
    assert abs(lam.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.005


def test_bce_on_convex_targets_is_the_lambda_weighted_sum_of_two_losses():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, generator=generator)
    target = (torch.rand(8, 5, generator=generator) < 0.3).float()
    plan = convex_plan(8, 1.0, rng())
    bce = F.binary_cross_entropy_with_logits
    mixed = bce(logits, CONVEX.join(plan, target), reduction="none")
    each = [bce(logits, target[plan.source[:, s]], reduction="none") for s in range(2)]
    gain = torch.from_numpy(plan.gain)
    assert torch.allclose(mixed, gain[:, :1] * each[0] + gain[:, 1:] * each[1], atol=1e-6)


def test_weights_are_the_gain_weighted_mean():
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([[1, 1], [0.25, 0.75]], np.float32))
    assert torch.allclose(join_weight(plan, torch.tensor([1.0, 3.0])), torch.tensor([2.0, 1.5]))


def test_a_label_is_known_where_all_know_it_or_one_surely_holds_it():
    plan = Plan(np.array([[0, 1], [1, 0]]), np.ones((2, 2), np.float32))
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    known = torch.tensor([[True, True, True], [False, False, True]])
    assert join_known(plan, known, target)[0].tolist() == [True, False, True]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(2, 40), st.data())
def test_partners_are_never_oneself_and_never_twice_the_same(batch_size: int, data):
    num_partners = data.draw(st.integers(1, batch_size - 1))
    partners = draw_partners(batch_size, num_partners, rng(data.draw(st.integers(0, 999))))
    for row, each in enumerate(partners.tolist()):
        assert row not in each
        assert len(set(each)) == num_partners
    for column in partners.T:  # and everybody is heard equally often
        assert sorted(column.tolist()) == list(range(batch_size))


def test_the_same_generator_gives_the_same_mix():
    x = torch.randn(8, 20)
    a = Mixup(0.9, 0.5)(x, torch.eye(8), rng=rng(7))
    b = Mixup(0.9, 0.5)(x, torch.eye(8), rng=rng(7))
    assert torch.equal(a.x, b.x) and torch.equal(a.target, b.target)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Mixup(1.5, 0.5), r"mixup_prob=1.5"),
        (lambda: Mixup2(0.0, 0.5), r"mix_beta=0.0"),
        (lambda: Mixup(1, 0)(torch.eye(2), torch.eye(2), rng=rng()), r"data.batch_size"),
        (lambda: Mixup(1, 1)(torch.eye(1), torch.eye(1), rng=rng()), r"data.drop_last=true"),
        (lambda: Mixup(1, 1)(torch.eye(4), torch.eye(4).long(), rng=rng()), r"one-hot"),
        (lambda: Mixup(1, 1)(torch.eye(4), torch.eye(3), rng=rng()), r"target holds 3"),
        (lambda: apply(Plan.identity(3), torch.eye(4)), r"batch of 3"),
    ],
)
def test_wrong_input_is_told_with_its_remedy(call, expected: str):
    with pytest.raises(ValueError, match=expected):
        call()

"""The level of a mix: that of its waveform, for sources that are uncorrelated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from birdmix.mix import (
    RULES,
    Boxes,
    Chain,
    CutMix,
    Inject,
    Mixup,
    Mixup2,
    Operator,
    Plan,
    Samples,
    level,
    mixed_level,
)

# Noise of 40,000 samples: levels of stretches of 8,000 are true to 10 log10(1 + sqrt(2 / 8000)) =
# .07 dB, and so is the claim that two of them are uncorrelated. Tolerances are several times that.
NUM_SAMPLES = 40_000
CLOSE = 0.3


def noise(*decibels: float, seed: int = 0) -> Tensor:
    """White noise at these levels, [B, T]."""
    rms = 10 ** (torch.tensor(decibels) / 20)
    white = torch.randn(len(decibels), NUM_SAMPLES, generator=torch.Generator().manual_seed(seed))
    return white * rms[:, None]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


OPERATORS = {
    "sum": lambda **options: Mixup(1.0, 1.0, **options),
    "sum of three, some samples": lambda **options: Mixup(0.7, 0.0, scope="sample", **options),
    "dirichlet": lambda **options: Mixup(1.0, 0.0, mix_beta=1.0, **options),
    "blend": lambda **options: Mixup2(1.0, 1.0, **options),
    "cut in time": lambda **options: CutMix(1.0, **options),
    "inject": lambda **options: Inject(0.7, gain=(0.2, 2.0), **options),
    "inject at a level": lambda **options: Inject(0.7, snr_db=(-3, 6), **options),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("match_rms", [False, True])
@pytest.mark.parametrize("post", ["none", "peak_guard", "peak_normalise", "standardise"])
@pytest.mark.parametrize("num_stretches", [1, 5])
def test_the_level_of_a_mix_is_that_of_its_waveform(
    name: str, match_rms: bool, post: str, num_stretches: int
):
    x = noise(-6, -20, 0, -30, -12, -3)
    pool = Samples(noise(-40, 0, -20, seed=1), torch.zeros(3, 6))
    pool = pool._replace(level=level(pool.x, num_stretches))
    operator: Operator = OPERATORS[name](match_rms=match_rms, post=post)
    mixed = operator(x, torch.eye(6), rng=rng(), pool=pool, level=level(x, num_stretches))
    assert mixed.level.shape == (6, num_stretches)
    assert torch.allclose(mixed.level, level(mixed.x, num_stretches), atol=CLOSE)


def test_a_pool_laid_over_at_0_db_adds_3_db():
    x, pool = noise(-6), Samples(noise(-60, seed=1), torch.zeros(1, 1))
    pool = pool._replace(level=level(pool.x))
    inject = Inject(1.0, snr_db=(0, 0))
    mixed = inject(x, torch.ones(1, 1), rng=rng(), pool=pool, level=level(x))
    assert mixed.level.item() == pytest.approx(-3.0, abs=CLOSE)
    assert mixed_level(mixed.plan, level(x), pool.level).item() == pytest.approx(-3, abs=CLOSE)
    assert level(mixed.x).item() == pytest.approx(-3.0, abs=CLOSE)


def test_a_normalised_peak_counts():
    x = noise(-6, -6)
    mixed = Mixup(1.0, 1.0, post="peak_normalise")(x, torch.eye(2), rng=rng(), level=level(x))
    assert torch.allclose(mixed.level, level(mixed.x), atol=CLOSE)
    assert (mixed.level < -11).all() and (mixed.level > -14).all()  # peaks of 4 to 5 sigma


def test_a_chain_carries_levels_through_matching_and_post():
    x = noise(-6, -40, -20, 0)
    chain = Chain(Mixup(1.0, 1.0, match_rms=True), Mixup2(1.0, 1.0, post="peak_normalise"))
    mixed = chain(x, torch.eye(4), rng=rng(), level=level(x))
    # Both mixes share sources, which are then correlated: only their order of size is right.
    assert torch.allclose(mixed.level, level(mixed.x), atol=3)


def test_post_of_a_spectrogram_leaves_the_sound_as_loud():
    mel, levels = torch.randn(2, 1, 8, 10), torch.tensor([-6.0, -20.0])
    plain = Mixup2(1.0, 1.0)(mel, torch.eye(2), rng=rng(), level=levels)
    post = Mixup2(1.0, 1.0, post="standardise")(mel, torch.eye(2), rng=rng(), level=levels)
    assert torch.equal(plain.level, post.level)


def test_the_level_of_a_cut_is_that_of_both_its_parts():
    boxes = Boxes(np.array([[0.5, 1.0]] * 2), np.array([[0.0, 1.0]] * 2))
    plan = Plan(np.array([[0, 1], [1, 0]]), np.ones((2, 2)), boxes)
    after = mixed_level(plan, torch.tensor([[0.0, 0.0], [-20.0, -20.0]]))
    assert after.tolist() == [[0.0, pytest.approx(-20)], [pytest.approx(-20), 0.0]]


def test_a_broken_sample_spoils_no_other_samples_level():
    plan = Mixup(1.0, 1.0, scope="sample").draw(6, rng())
    levels = torch.zeros(6)
    levels[4] = float("nan")
    holds_it = torch.from_numpy(((plan.source == 4) & plan.used).any(axis=1))
    assert mixed_level(plan, levels).isnan().tolist() == holds_it.tolist()


def test_levels_are_the_same_where_nothing_is_mixed():
    levels = torch.tensor([-6.0, -20.0])
    assert Mixup(0.0)(noise(-6, -20), torch.eye(2), rng=rng(), level=levels).level is levels
    resting = Mixup(1.0).eval()(noise(-6, -20), torch.eye(2), rng=rng(), level=levels)
    assert resting.level is levels


def test_a_mix_without_levels_has_none():
    x, eye = noise(-6, -20), torch.eye(2)
    assert Mixup(1.0, 1.0)(x, eye, rng=rng()).level is None
    pool = Samples(x, eye)
    assert Inject(1.0)(x, eye, rng=rng(), pool=pool, level=level(x)).level is None


@pytest.mark.parametrize("name", OPERATORS)
def test_levels_are_computed_without_waiting_for_an_accelerator(name: str):
    x = torch.empty(6, 40, device="meta")
    target, levels = torch.empty(6, 3, device="meta"), torch.empty(6, 5, device="meta")
    operator = OPERATORS[name](
        match_rms=True, post="peak_normalise", label_rule=replace(RULES["max"], min_snr_db=-20)
    )
    pool = Samples(x, target, level=levels)
    assert operator(x, target, rng=rng(), pool=pool, level=levels).level.shape == (6, 5)


def test_levels_of_double_precision_are_those_of_single():
    x = noise(-6, -200, -400)
    assert level(x.double())[:, 0].tolist() == pytest.approx([-6, -200, -400], abs=CLOSE)
    assert level(x.double()).dtype == torch.float32
    x = noise(-6, -20).double()
    matched = Mixup(1.0, 1.0, match_rms=True, label_rule=RULES["amplitude"])
    mixed = matched(x, torch.eye(2), rng=rng(), level=level(x))
    assert mixed.x.dtype == torch.float64
    assert torch.allclose(mixed.level, level(mixed.x), atol=CLOSE)

"""Levels of mixes of uncorrelated sources: computed from source levels, compared with measured."""

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
    DrawContext,
    Examples,
    Inject,
    MixLayer,
    Mixup,
    Mixup2,
    Operator,
    Plan,
    measure_level_db,
    mixed_level_db,
)

# Noise of 40,000 samples: levels of intervals of 8,000 samples have a standard error of
# 10 log10(1 + sqrt(2 / 8000)) = .07 dB, and two of them are uncorrelated to the same accuracy.
# The tolerance is several times that.
NUM_SAMPLES = 40_000
TOLERANCE_DB = 0.3


def noise(*decibels: float, seed: int = 0) -> Tensor:
    """Return white noise at these levels in dB, [B, T]."""
    rms = 10 ** (torch.tensor(decibels) / 20)
    white = torch.randn(len(decibels), NUM_SAMPLES, generator=torch.Generator().manual_seed(seed))
    return white * rms[:, None]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


OPERATORS = {
    "sum": lambda **options: Mixup(1.0, 1.0, **options),
    "sum of three, per example": lambda **options: Mixup(0.7, 0.0, scope="sample", **options),
    "dirichlet": lambda **options: Mixup(1.0, 0.0, mix_beta=1.0, **options),
    "blend": lambda **options: Mixup2(1.0, 1.0, **options),
    "cut in time": lambda **options: CutMix(1.0, **options),
    "unit power": lambda **options: Mixup(1.0, 0.5, mix_beta=1.0, unit_power=True, **options),
    "shifted": lambda **options: Mixup(1.0, 0.0, time_shift="random", **options),
    "inject": lambda **options: Inject(0.7, gain=[0.2, 2.0], **options),
    "inject at a level": lambda **options: Inject(0.7, snr_db=[-3, 6], **options),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("match_level", ["none", "rms"])
@pytest.mark.parametrize("post", ["none", "peak_guard", "peak_normalise", "standardise"])
@pytest.mark.parametrize("num_intervals", [1, 5])
def test_the_computed_level_of_a_mix_is_the_measured_one(
    name: str, match_level: str, post: str, num_intervals: int
):
    x = noise(-6, -20, 0, -30, -12, -3)
    pool = Examples(noise(-40, 0, -20, seed=1), torch.zeros(3, 6))
    pool = pool._replace(level=measure_level_db(pool.x, num_intervals))
    operator: Operator = OPERATORS[name](match_level=match_level, post=post)
    mixed = operator(
        x, torch.eye(6), rng=rng(), pool=pool, level=measure_level_db(x, num_intervals)
    )
    assert mixed.level.shape == (6, num_intervals)
    assert torch.allclose(mixed.level, measure_level_db(mixed.x, num_intervals), atol=TOLERANCE_DB)


def test_injection_at_0_db_raises_the_level_by_3_db():
    x, pool = noise(-6), Examples(noise(-60, seed=1), torch.zeros(1, 1))
    pool = pool._replace(level=measure_level_db(pool.x))
    inject = Inject(1.0, snr_db=[0, 0])
    mixed = inject(x, torch.ones(1, 1), rng=rng(), pool=pool, level=measure_level_db(x))
    assert mixed.level.item() == pytest.approx(-3.0, abs=TOLERANCE_DB)
    computed = mixed_level_db(mixed.plan, measure_level_db(x), pool.level)
    assert computed.item() == pytest.approx(-3, abs=TOLERANCE_DB)
    assert measure_level_db(mixed.x).item() == pytest.approx(-3.0, abs=TOLERANCE_DB)


def test_peak_normalisation_changes_the_level():
    x = noise(-6, -6)
    mixed = Mixup(1.0, 1.0, post="peak_normalise")(
        x, torch.eye(2), rng=rng(), level=measure_level_db(x)
    )
    assert torch.allclose(mixed.level, measure_level_db(mixed.x), atol=TOLERANCE_DB)
    assert (mixed.level < -11).all() and (mixed.level > -14).all()  # peaks of 4 to 5 sigma


def test_a_chain_computes_levels_through_matching_and_post():
    x = noise(-6, -40, -20, 0)
    chain = Chain(Mixup(1.0, 1.0, match_level="rms"), Mixup2(1.0, 1.0, post="peak_normalise"))
    mixed = chain(x, torch.eye(4), rng=rng(), level=measure_level_db(x))
    # Both mixes have sources in common, which are then correlated: levels are approximate.
    assert torch.allclose(mixed.level, measure_level_db(mixed.x), atol=3)


def test_post_of_a_spectrogram_does_not_change_its_level():
    mel, levels = torch.randn(2, 1, 8, 10), torch.tensor([-6.0, -20.0])
    plain = Mixup2(1.0, 1.0)(mel, torch.eye(2), rng=rng(), level=levels)
    post = Mixup2(1.0, 1.0, post="standardise")(mel, torch.eye(2), rng=rng(), level=levels)
    assert torch.equal(plain.level, post.level)


def test_levels_of_a_cut_are_those_of_the_source_in_each_interval():
    boxes = Boxes(np.array([[0.5, 1.0]] * 2), np.array([[0.0, 1.0]] * 2))
    plan = Plan(np.array([[0, 1], [1, 0]]), np.ones((2, 2)), boxes)
    after = mixed_level_db(plan, torch.tensor([[0.0, 0.0], [-20.0, -20.0]]))
    assert after.tolist() == [[0.0, pytest.approx(-20)], [pytest.approx(-20), 0.0]]


def test_a_nan_level_changes_only_the_levels_of_examples_it_is_mixed_into():
    plan = Mixup(1.0, 1.0, scope="sample").draw(DrawContext(6), rng())
    levels = torch.zeros(6)
    levels[4] = float("nan")
    has_nan_source = torch.from_numpy(((plan.source == 4) & plan.used_mask).any(axis=1))
    assert mixed_level_db(plan, levels).isnan().tolist() == has_nan_source.tolist()


def test_levels_are_unchanged_without_a_mix():
    levels = torch.tensor([-6.0, -20.0])
    assert Mixup(0.0)(noise(-6, -20), torch.eye(2), rng=rng(), level=levels).level is levels
    unmixed = MixLayer(Mixup(1.0)).eval()(noise(-6, -20), torch.eye(2), rng=rng(), level=levels)
    assert unmixed.level is levels


def test_without_levels_of_batch_or_pool_the_mix_has_no_level():
    x, eye = noise(-6, -20), torch.eye(2)
    assert Mixup(1.0, 1.0)(x, eye, rng=rng()).level is None
    pool = Examples(x, eye)
    assert Inject(1.0)(x, eye, rng=rng(), pool=pool, level=measure_level_db(x)).level is None


@pytest.mark.parametrize("name", OPERATORS)
def test_levels_are_computed_without_reading_values_on_an_accelerator(name: str):
    x = torch.empty(6, 40, device="meta")
    target, levels = torch.empty(6, 3, device="meta"), torch.empty(6, 5, device="meta")
    operator = OPERATORS[name](
        match_level="rms", post="peak_normalise", label_rule=replace(RULES["max"], min_snr_db=-20)
    )
    pool = Examples(x, target, level=levels)
    assert operator(x, target, rng=rng(), pool=pool, level=levels).level.shape == (6, 5)


def test_levels_of_float64_waveforms_are_float32_and_not_rounded_to_silence():
    x = noise(-6, -200, -400)
    assert measure_level_db(x.double())[:, 0].tolist() == pytest.approx(
        [-6, -200, -400], abs=TOLERANCE_DB
    )
    assert measure_level_db(x.double()).dtype == torch.float32
    x = noise(-6, -20).double()
    matched = Mixup(1.0, 1.0, match_level="rms", label_rule=RULES["amplitude"])
    mixed = matched(x, torch.eye(2), rng=rng(), level=measure_level_db(x))
    assert mixed.x.dtype == torch.float64
    assert torch.allclose(mixed.level, measure_level_db(mixed.x), atol=TOLERANCE_DB)

"""Gains, numbers of sources and label shares of mixes by the laws of winners and papers."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from birdmix.mix import (
    SATURATING,
    DrawContext,
    Examples,
    Inject,
    LabelRule,
    Mixup,
    Mixup2,
    Plan,
    measure_level_db,
)
from birdmix.mix.resolve_plan import resolve_plan
from birdmix.mix.sound_levels import _loudness
from tests.laws import DTYPES

RATE = 16_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(frequency: float, amplitude: float, seconds: float = 1.0) -> Tensor:
    t = torch.arange(round(RATE * seconds)) / RATE
    return amplitude * torch.sin(2 * torch.pi * frequency * t)


def gains(operator, batch_size: int = 64, num_batches: int = 40) -> np.ndarray:
    context = DrawContext(batch_size)
    return np.concatenate([operator.draw(context, rng(s)).gain for s in range(num_batches)])


# Independent gains (sumix)


@pytest.mark.parametrize(
    ("gain", "shares"),
    [((0.3, 1.0), (0.6, 1.0)), ((0.5, 0.4), (1.0, 0.8)), ((0.9, 0.6), (1.0, 1.0))],
)
def test_a_saturating_share_is_the_gain_over_a_half_and_at_most_one(gain: tuple, shares: tuple):
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([gain, (1, 0)]))
    mixed = Mixup(1.0, label_rule=SATURATING).replay(plan, Examples(torch.eye(2), torch.eye(2)))
    assert mixed.target[0].tolist() == pytest.approx(shares)
    assert mixed.x[0].tolist() == pytest.approx(gain)


def test_a_mix_is_described_by_the_gains_and_shares_that_were_applied():
    x = torch.stack([tone(500, 0.8), tone(700, 0.2)])
    examples, pool = Examples(x[:1], torch.tensor([[1.0, 0]])), Examples(x[1:], torch.ones(1, 2))
    operator = Inject(1, snr_db=[6, 6], label_sum=0.5, post="peak_normalise", time_shift="random")
    mixed = operator.mix(examples, rng=rng(), pool=pool)
    details = operator.describe(mixed.plan, examples, pool)
    # The partner is matched, a factor of 4, and then 6 dB lower; the peak of the sum is 1.
    gain, partner_gain = details.gain[0].tolist()
    assert partner_gain / gain == pytest.approx(4 * 10 ** (-6 / 20), rel=1e-4)
    total = gain * x[0] + partner_gain * x[1].roll(int(details.offset[0, 1]))
    torch.testing.assert_close(total, mixed.x[0])
    assert details.source.tolist() == [[0, 1]]
    assert details.share[0].tolist() == pytest.approx([1, 0.25])  # two labels add up to .5
    assert details.part[0].sum() == pytest.approx(1)


@pytest.mark.slow
def test_independent_gains_are_uniform_and_uncorrelated():
    drawn = gains(Mixup(1.0, 1.0, source_gain=[0.3, 1.0]))
    for slot in (0, 1):
        assert stats.kstest(drawn[:, slot], stats.uniform(0.3, 0.7).cdf).pvalue > 0.01
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.05


def test_gains_in_db_are_of_partners_and_uniform_in_db():
    drawn = gains(Mixup(1.0, 0.5, partner_gain_db=[-10, 0], scope="sample"))
    assert (drawn[:, 0] == 1).all()
    decibels = 20 * np.log10(drawn[:, 1:][drawn[:, 1:] > 0])
    assert stats.kstest(decibels, stats.uniform(-10, 10).cdf).pvalue > 0.01


# Unit power and numbers of sources (Perch 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gains_of_unit_power_are_divided_by_the_root_of_the_sum_of_squares(dtype: torch.dtype):
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([[0.6, 0.2], [1, 0]]), unit_power=True)
    eye = torch.eye(2, dtype=dtype)
    mixed = Mixup(1.0, mixup_rule="convex").replay(plan, Examples(eye, torch.eye(2)))
    expected = torch.tensor([0.6, 0.2]) / 0.4**0.5
    assert torch.allclose(
        mixed.x[0].float(), expected, atol=1e-6 if dtype is torch.float32 else 4e-3
    )
    assert torch.equal(mixed.x[1], eye[1])
    assert mixed.target[0].tolist() == pytest.approx([0.75, 0.25])  # labels stay


def test_a_mix_of_equally_loud_noises_is_as_loud_as_each_with_unit_power():
    x = torch.randn(6, 40_000, generator=torch.Generator().manual_seed(0))
    level = measure_level_db(x)
    for beta in (None, 0.5):
        mixup = Mixup(1.0, num_sources=[0, 0, 1.0], mix_beta=beta, unit_power=True)
        mixed = mixup(x, torch.eye(6), rng=rng(), level=level)
        assert torch.allclose(measure_level_db(mixed.x), level, atol=0.3)
        assert torch.allclose(mixed.level, level, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("beta", [[1, 1], [2, 5]])
def test_numbers_of_sources_can_be_beta_binomial(scope: str, beta: list):
    operator = Mixup(1.0, max_sources=5, source_count_beta=beta, scope=scope)
    counts = [operator.draw(DrawContext(8), rng(s)).source_counts[0] for s in range(3000)]
    expected = stats.betabinom(4, *beta).pmf(np.arange(5))
    assert stats.chisquare(np.bincount(counts, minlength=6)[1:], 3000 * expected).pvalue > 0.01


def test_an_example_of_one_source_is_not_changed():
    x = torch.randn(16, 50, generator=torch.Generator().manual_seed(0))
    operator = Mixup(1.0, max_sources=3, source_gain=[0.2, 0.5], scope="sample", post="standardise")
    mixed = operator(x, torch.eye(16), rng=rng())
    alone = torch.from_numpy(mixed.plan.source_counts == 1)
    assert 0 < alone.sum() < 16 and torch.equal(mixed.x[alone], x[alone])


# Blends of three and more


def test_blends_of_several_can_be_bounded_fixed_one_per_batch_or_ordered():
    def drawn(**options) -> np.ndarray:
        operator = Mixup2(0.5, 1.0, num_sources2=[0.4, 0.3, 0.3], scope="sample", **options)
        return gains(operator, num_batches=4)

    plain = drawn()
    assert (plain.sum(axis=1) == 1).all() and set((plain > 0).sum(axis=1)) == {2, 3, 4}
    assert (drawn(own_is_larger=True)[:, 0] == drawn(own_is_larger=True).max(axis=1)).all()
    assert drawn(min_lambda=0.4)[:, 0].min() == pytest.approx(0.4)
    assert np.allclose(drawn(fixed_lambda=0.7)[:, 0], 0.7)
    per_batch = drawn(lambda_per="batch")[:64]
    for count in (2, 3, 4):
        rows = per_batch[(per_batch > 0).sum(axis=1) == count]
        assert len(rows) > 1 and (rows == rows[0]).all()
    for options in ({}, {"min_lambda": 0.4}, {"fixed_lambda": 0.7}, {"own_is_larger": True}):
        assert (drawn(**options).sum(axis=1, dtype=np.float32) == 1).all()


@pytest.mark.slow
def test_gains_of_blends_of_three_have_beta_marginals():
    drawn = gains(Mixup2(0.7, 1.0, num_sources2=[0, 1.0]), num_batches=60)
    for slot in range(3):
        assert stats.kstest(drawn[:, slot], stats.beta(0.7, 1.4).cdf).pvalue > 0.01


# Between-class learning: shares are drawn, gains follow from A-weighted levels


def test_loudness_is_a_weighted_and_that_of_the_loudest_frame():
    # A-weighting at 100 Hz, 1 kHz and 4 kHz, IEC 61672: -19.1, 0.0 and 1.0 dB.
    tones = torch.stack([tone(frequency, 0.1) for frequency in (100, 1000, 4000)])
    decibels = 20 * _loudness(tones, RATE).log10()
    assert (decibels - decibels[1]).tolist() == pytest.approx([-19.1, 0, 1.0], abs=0.15)
    short = tone(1000, 0.1)
    short[RATE // 4 :] = 0
    assert torch.allclose(_loudness(short[None], RATE), _loudness(tones[1:2], RATE), rtol=1e-3)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_between_class_gains_are_those_of_tokozume_et_al(share: float):
    x = torch.stack([tone(2000, 0.5), tone(300, 0.02)])
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([[share, 1 - share], [1, 0]]))
    operator = Mixup(
        1.0, 1.0, match_level="loudness", unit_power=True, mixup_rule="convex", sample_rate=RATE
    )
    full = Plan(plan.source, plan.gain, match="loudness", unit_power=True)
    mixed = operator.replay(full, Examples(x, torch.eye(2)))
    level_db = 20 * _loudness(x, RATE).log10().double()
    ratio = 10 ** ((level_db[0] - level_db[1]) / 20)
    t = 1 / (1 + ratio * (1 - share) / share)  # the paper's equation for two sounds
    expected = (t * x[0] + (1 - t) * x[1]) / (t**2 + (1 - t) ** 2) ** 0.5
    assert torch.allclose(mixed.x[0], expected.float(), atol=1e-6)
    assert mixed.target[0].tolist() == pytest.approx([share, 1 - share])
    assert torch.equal(mixed.x[1], x[1])


def test_loudness_is_not_rounded_under_autocast():
    x = torch.stack([100 * tone(2000, 0.5), tone(300, 0.02)])
    plan = Plan(np.array([[0, 1], [1, 0]]), np.full((2, 2), 0.5), match="loudness")
    operator = Mixup(1.0, sample_rate=RATE)
    expected = operator.replay(plan, Examples(x, torch.eye(2))).x
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert torch.equal(operator.replay(plan, Examples(x, torch.eye(2))).x, expected)


def test_a_silent_or_broken_partner_is_not_amplified_by_loudness():
    x = torch.stack([tone(2000, 0.5), torch.zeros(RATE), torch.full((RATE,), torch.nan)])
    plan = Plan(np.array([[0, 1], [1, 0], [2, 2]]), np.array([[0.5, 0.5], [0.5, 0.5], [1, 0]]))
    plan = Plan(plan.source, plan.gain, match="loudness")
    operator = Mixup(1.0, sample_rate=RATE)
    mixed = operator.replay(plan, Examples(x, torch.eye(3)))
    assert torch.equal(mixed.x[0], 0.5 * x[0]) and mixed.x[:2].isfinite().all()


# Laws that all of them keep

LAWS = {
    "unit power": Mixup(1.0, 0.5, mix_beta=1.0, unit_power=True),
    "loudness": Mixup(1.0, 0.5, match_level="loudness", sample_rate=RATE),
    "between class": Mixup(
        1.0, 1.0, mix_beta=1.0, match_level="loudness", unit_power=True, sample_rate=RATE
    ),
    "random shift": Mixup(1.0, 0.5, time_shift="random"),
    "aligned": Mixup(1.0, 0.5, time_shift="aligned", match_level="rms"),
    "independent": Mixup(1.0, source_gain=[0.3, 1.0], mixup_rule="saturating"),
}


@pytest.mark.parametrize("name", LAWS)
def test_they_read_no_values_on_an_accelerator_and_draw_the_same_plan(name: str):
    x, target = torch.randn(6, 3000), torch.eye(6)
    level = torch.zeros(6, 5)
    plan = LAWS[name](x, target, frames=target[..., None], level=level, rng=rng()).plan
    on_meta = [each.to("meta") for each in (x, target, target[..., None], level)]
    mixed = LAWS[name](on_meta[0], on_meta[1], frames=on_meta[2], level=on_meta[3], rng=rng())
    assert mixed.plan == plan and not plan.is_identity
    assert (mixed.x.shape, mixed.level.shape) == (x.shape, level.shape)


@pytest.mark.parametrize("name", LAWS)
def test_they_are_linear_in_the_inputs_given_gains_and_mix_alike_under_autograd(name: str):
    x = torch.randn(6, 3000, generator=torch.Generator().manual_seed(1))
    mixed = LAWS[name](x, torch.eye(6), rng=rng())
    tracked = x.clone().requires_grad_()
    by_slot = LAWS[name](tracked, torch.eye(6), rng=rng())
    assert torch.allclose(mixed.x, by_slot.x, atol=1e-5)
    (gradient,) = torch.autograd.grad(by_slot.x.sum(), tracked)
    # Each sample's gradient is the sum of the gains with which it enters all mixes.
    total = gradient.mean(dim=1)
    expected = torch.zeros(6)
    examples = Examples(x, torch.eye(6))
    rule = LAWS[name].effective_rule
    gain = resolve_plan(mixed.plan, examples, None, rule, None, RATE).applied.gain
    expected.index_add_(0, torch.from_numpy(mixed.plan.source).flatten(), gain.flatten())
    assert torch.allclose(total, expected, rtol=1e-4)


# Sums of labels of a pool


@pytest.mark.parametrize(
    ("target", "limit", "expected"),
    [
        ([1, 1, 0], {"label_sum": 0.5}, [0.25, 0.25, 0]),
        ([0.1, 0.3, 0], {"label_sum": 0.8}, [0.2, 0.6, 0]),  # up
        ([0.9, 0.1, 0], {"label_sum": 2.0}, [1.0, 0.2, 0]),  # none above 1
        ([0, 0, 0], {"label_sum": 0.5}, [0, 0, 0]),  # no label stays none
        ([0.1, 0.3, 0], {"label_cap": 0.8}, [0.1, 0.3, 0]),  # a cap never scales up
    ],
)
@pytest.mark.parametrize("join", ["sum", "max", "noisy_or"])
def test_labels_of_a_pool_are_scaled_to_a_sum(target: list, limit: dict, expected: list, join: str):
    rule = LabelRule("full", join, **limit)
    plan = Plan(np.array([[0, 1]]), np.array([[1.0, 1.0]]))
    own = Examples(torch.ones(1, 4), torch.tensor([[0, 0, 1.0]]), frames=torch.zeros(1, 3, 2))
    pool = Examples(torch.ones(1, 4), torch.tensor([target], dtype=torch.float32))
    pool = pool._replace(frames=pool.target[..., None].repeat(1, 1, 2))
    mixed = Mixup(1.0, label_rule=rule).replay(plan, own, pool)
    assert mixed.target[0].tolist() == pytest.approx([*expected[:2], 1.0])
    assert mixed.frames[0, :, 1].tolist() == pytest.approx(expected)


# Invalid input


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda: Mixup(1.0, source_gain=[0.0, 1.0]),
            r"source_gain=\[0.0, 1.0\]: gains are above 0",
        ),
        (
            lambda: Mixup(1.0, mix_beta=1.0, source_gain=[0.3, 1]),
            r"mix_beta=1.0 and source_gain=\[0.3, 1\]: set one of them",
        ),
        (lambda: Mixup(1.0, max_sources=1), "max_sources=1: it must be at least 2"),
        (lambda: Mixup(1.0, max_sources=3, num_sources=[1.0]), "num_sources=.* and max_sources=3"),
        (lambda: Mixup(1.0, source_count_beta=[1]), r"source_count_beta=\[1\]: it must be two"),
        (lambda: Mixup(1.0, match_level="lufs"), "match_level='lufs'"),
        (lambda: Mixup2(1.0, 1.0, num_sources2=[0.5]), r"num_sources2=\[0.5\]: probabilities of"),
        (lambda: LabelRule("full", "max", label_sum=0), "label_sum=0: it must be above 0"),
        (
            lambda: LabelRule("full", "max", label_cap=1, label_sum=1),
            "label_sum=1 and label_cap=1: set one of them",
        ),
        (
            lambda: Mixup(1.0, match_level="loudness")(torch.eye(4), torch.eye(4), rng=rng()),
            "match_level=loudness needs the operator's sample_rate",
        ),
        (
            lambda: Mixup(1.0, match_level="loudness", sample_rate=RATE, linear=True)(
                torch.ones(4, 2, 9), torch.eye(4), rng=rng()
            ),
            r"match_level=loudness needs waveforms \[B, T\], got shape \[4, 2, 9\]",
        ),
    ],
)
def test_invalid_gains_raise_an_error(call, expected: str):
    with pytest.raises(ValueError, match=expected):
        call()

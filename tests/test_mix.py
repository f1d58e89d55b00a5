"""Mix operators, plans, schedules and mix pools.

On an identity batch (example i is one-hot at i), the outputs are the gains of the plan.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
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
    MixLayer,
    Mixup,
    Mixup2,
    OneOf,
    Operator,
    Plan,
    Schedule,
    batch_rng,
    measure_level_db,
    mixed_level_db,
)
from birdmix.mix.apply_plan import _apply_by_slot, apply_plan_to_inputs
from birdmix.mix.random_draws import draw_boxes_of_area, draw_partners
from birdmix.mix.resolve_plan import AppliedPlan
from tests.laws import DTYPES, law


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def identity(batch_size: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an identity batch, repeated over the cells of ``shape``: [B, B, ...]."""
    eye = torch.eye(batch_size, dtype=dtype)
    return eye.view(batch_size, batch_size, *[1] * len(shape)).expand(-1, -1, *shape).contiguous()


def mix_by_slot(plan: Plan, x: Tensor, pool: Tensor | None = None, post: str = "none") -> Tensor:
    """Apply a plan as on an accelerator without Triton."""
    applied = AppliedPlan.from_plan(plan, tuple(x.shape), x.device)
    return _apply_by_slot(plan, applied, x, pool, post)[0]


SUMS: dict[str, Operator] = {
    "sum of two": Mixup(1.0, 1.0),
    "sum of three": Mixup(1.0, 0.0),
    "dirichlet of three": Mixup(1.0, 0.0, mix_beta=0.7),
    "two to four": Mixup(1.0, mix_beta=1.0, num_sources=[0.5, 0.3, 0.2], scope="sample"),
    "sum, per example": Mixup(0.5, 0.5, scope="sample"),
    "convex": Mixup2(0.4, 1.0),
    "one lambda": Mixup2(0.4, 1.0, lambda_per="batch"),
    "blend of three": Mixup2(0.6, 1.0, num_sources2=[0.3, 0.7], scope="sample"),
    "independent gains": Mixup(1.0, 1.0, source_gain=[0.3, 1.0], mixup_rule="saturating"),
    "gains in dB": Mixup(0.8, 0.5, partner_gain_db=[-10, 0], scope="sample"),
    "beta-binomial": Mixup(1.0, max_sources=4, scope="sample"),
}
CUTS: dict[str, Operator] = {
    "cut in time": CutMix(1.0, axis="time"),
    "cut in frequency": CutMix(1.0, axis="frequency"),
    "cut box": CutMix(1.0, axis="box"),
    "cut box, per example": CutMix(0.5, axis="box", scope="sample"),
}
OPERATORS = SUMS | CUTS
SHAPES = {"[B, M, F]": (), "[B, C, T]": (60,), "[B, C, M, F]": (10, 12)}


def matrix(plan: Plan) -> np.ndarray:
    """Return a plan without boxes as a matrix of gains [B, B]."""
    dense = np.zeros((len(plan.source), len(plan.source)), np.float32)
    np.add.at(dense, (np.arange(len(dense))[:, None], plan.source), plan.gain)
    return dense


# Gains and label shares


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_are_the_gains_of_the_plan(name: str, shape: str, dtype: torch.dtype):
    x = identity(8, *SHAPES[shape], dtype=dtype)
    mixed = SUMS[name](x, torch.eye(8), rng=rng())
    gains = torch.from_numpy(matrix(mixed.plan)).to(dtype)
    assert mixed.x.dtype == dtype and mixed.x.shape == x.shape
    assert (mixed.x == gains.view(8, 8, *[1] * len(SHAPES[shape]))).all()


@pytest.mark.parametrize(
    "name", ["dirichlet of three", "two to four", "convex", "one lambda", "blend of three"]
)
def test_convex_gains_add_up_to_exactly_one(name: str):
    for seed in range(50):
        plan = SUMS[name].draw(DrawContext(16), rng(seed))
        assert (plan.gain.sum(axis=1, dtype=np.float32) == 1).all()
        assert (plan.used_mask.sum(axis=1) >= 2).all()


@pytest.mark.parametrize("name", SUMS)
def test_convex_targets_are_the_gains_over_their_sum(name: str):
    operator = SUMS[name]
    plan = operator.draw(DrawContext(8), rng())
    operator = Mixup2(1.0, 1.0, label_rule=CONVEX)  # any operator replays any plan
    mixed = operator.replay(plan, Examples(torch.eye(8), torch.eye(8)))
    expected = matrix(plan) / matrix(plan).sum(axis=1, keepdims=True)
    assert torch.equal(mixed.target, torch.from_numpy(expected))


def test_mixup2_blends_targets_with_the_gains_of_the_inputs():
    eye = torch.eye(8)
    mixed = Mixup2(mix_beta2=0.4, mixup2_prob=1.0)(eye, eye, rng=rng())
    assert torch.equal(mixed.x, mixed.target)


@pytest.mark.parametrize(("mixup_double", "num_sources"), [(1.0, 2), (0.0, 3)])
def test_mixup_sums_distinct_sources_at_gain_one(mixup_double: float, num_sources: int):
    eye = torch.eye(8)
    mixed = Mixup(mixup_prob=1.0, mixup_double=mixup_double)(eye, eye, rng=rng())
    assert set(mixed.x.unique().tolist()) == {0.0, 1.0}
    assert (mixed.x.sum(dim=1) == num_sources).all()
    assert (mixed.x.diag() == 1).all()
    assert torch.equal(mixed.x, mixed.target)


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_label_shares_of_a_cut_are_areas_on_the_tensors_own_grid(name: str, dtype: torch.dtype):
    x = identity(8, 10, 12, dtype=dtype)  # the mean over the cells of [10, 12] is the area
    mixed = CUTS[name](x, torch.eye(8), rng=rng(3))
    area = (mixed.x == 1).float().mean(dim=(-2, -1))
    assert torch.allclose(area, mixed.target, atol=1e-6)
    assert ((area > 0) & (area < 1)).any()


@pytest.mark.parametrize(("axis", "dim"), [("time", -2), ("frequency", -1)])
def test_a_span_covers_the_full_other_axis(axis: str, dim: int):
    mixed = CutMix(1.0, axis=axis)(identity(8, 10, 12), torch.eye(8), rng=rng())
    assert (mixed.x.amin(dim=dim) == mixed.x.amax(dim=dim)).all()


def test_waveforms_can_be_cut_in_time():
    waveforms = torch.arange(1.0, 7.0)[:, None].expand(6, 200)
    mixed = CutMix(1.0)(waveforms, torch.eye(6), rng=rng())
    for waveform, target in zip(mixed.x, mixed.target, strict=True):
        areas = torch.stack([(waveform == value).float().mean() for value in range(1, 7)])
        assert torch.allclose(areas, target, atol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_plans_have_no_self_pairs_and_no_source_twice(name: str):
    for seed in range(100):
        plan = OPERATORS[name].draw(DrawContext(7), rng(seed))
        assert plan.num_self_pairs == 0
        for sources, used in zip(plan.source, plan.used_mask, strict=True):
            assert len(set(sources[used])) == used.sum()


@law(60)
@given(st.integers(2, 40), st.data())
def test_partners_are_distinct_and_not_the_example_itself(batch_size: int, data):
    num_partners = data.draw(st.integers(1, batch_size - 1))
    partners = draw_partners(batch_size, num_partners, rng(data.draw(st.integers(0, 999))))
    for index, example_partners in enumerate(partners.tolist()):
        assert index not in example_partners
        assert len(set(example_partners)) == num_partners
    for column in partners.T:  # every example is a partner equally often
        assert sorted(column.tolist()) == list(range(batch_size))


@law(60)
@given(st.integers(0, 10_000), st.sampled_from(list(SUMS)), st.integers(4, 12))
def test_mixing_is_linear_in_its_inputs(seed: int, name: str, batch_size: int):
    plan = SUMS[name].draw(DrawContext(batch_size), rng(seed))
    x, y = normal(batch_size, 30), normal(batch_size, 30, seed=1)
    both = apply_plan_to_inputs(plan, 2 * x + y)
    assert torch.allclose(
        both, 2 * apply_plan_to_inputs(plan, x) + apply_plan_to_inputs(plan, y), atol=1e-5
    )


@law(80)
@given(st.integers(0, 10_000), st.sampled_from(list(OPERATORS)), st.sampled_from(list(RULES)))
def test_mixed_targets_lie_between_0_and_the_sum_of_the_sources(seed: int, name: str, rule: str):
    operator = OPERATORS[name]
    plan = operator.draw(DrawContext(6), rng(seed))
    x = normal(6, 4, 50, seed=seed)
    target = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    replayed = Mixup2(1.0, 1.0, label_rule=RULES[rule], linear=True).replay(
        plan, Examples(x, target)
    )
    sources = torch.from_numpy(plan.source)
    used = torch.from_numpy(plan.used_mask)
    highest = (target[sources] * used[..., None]).sum(dim=1)
    assert (replayed.target >= 0).all() and (replayed.target <= 1).all()
    assert (replayed.target <= highest + 1e-6).all()


@law(60)
@given(st.integers(0, 10_000), st.integers(5, 9))
def test_mixing_commutes_with_a_permutation_of_the_classes(seed: int, num_classes: int):
    order = torch.from_numpy(rng(seed).permutation(num_classes))
    target = torch.rand(6, num_classes, generator=torch.Generator().manual_seed(seed))
    for rule in (UNION, MAX, NOISY_OR):
        operator = Mixup(1.0, 0.5, label_rule=rule)
        straight = operator(normal(6, 9), target, rng=rng(seed)).target
        permuted = operator(normal(6, 9), target[:, order], rng=rng(seed)).target
        assert torch.equal(straight[:, order], permuted)


def test_weights_are_the_gain_weighted_mean():
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([[1, 1], [0.25, 0.75]], np.float32))
    examples = Examples(torch.eye(2), torch.eye(2), weight=torch.tensor([1.0, 3.0]))
    assert torch.allclose(Mixup(1.0).replay(plan, examples).weight, torch.tensor([2.0, 1.5]))


# Application of plans


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("post", ["none", "peak_guard", "peak_normalise", "standardise"])
def test_mixing_by_example_and_by_slot_agree(name: str, post: str):
    x = normal(8, 3, 10, 12)
    plan = OPERATORS[name].draw(DrawContext(8), rng(1))
    by_example, by_slot = (
        apply_plan_to_inputs(plan, x, post=post),
        mix_by_slot(plan, x, post=post),
    )
    assert torch.allclose(by_example, by_slot, atol=1e-5)


@pytest.mark.parametrize("post", ["none", "peak_guard"])
def test_mixing_by_example_and_by_slot_agree_with_a_pool(post: str):
    x, pool = normal(6, 40), normal(4, 40, seed=1)
    plan = Inject(0.7, gain=[0.2, 0.8]).draw(DrawContext(6, {"pool": 4}), rng(1))
    assert 0 < (plan.source >= 6).sum() < 6
    expected = mix_by_slot(plan, x, pool, post)
    assert torch.allclose(apply_plan_to_inputs(plan, x, pool, post=post), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 50), (8, 1, 6, 5), (8, 2, 50)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_apply_is_the_weighted_sum_of_examples(shape: tuple, dtype: torch.dtype):
    plan = SUMS["two to four"].draw(DrawContext(8), rng())
    x = normal(*shape).to(dtype)
    expected = torch.einsum("bi,i...->b...", torch.from_numpy(matrix(plan)).double(), x.double())
    tolerance = 1e-6 if dtype == torch.float32 else 5e-2
    assert torch.allclose(apply_plan_to_inputs(plan, x).double(), expected, atol=tolerance)


def test_gradients_flow_back_to_every_source():
    plan = Plan(np.array([[0, 2], [1, 0], [2, 2]]), np.array([[1, 1], [0.3, 0.7], [1, 0]], "f4"))
    features = normal(3, 4, 5, 5).requires_grad_()
    apply_plan_to_inputs(plan, features).sum().backward()
    assert torch.allclose(features.grad[:, 0, 0, 0], torch.tensor([1.7, 0.3, 2.0]))


@pytest.mark.parametrize(
    "apply_function",
    [apply_plan_to_inputs, mix_by_slot],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_example_changes_only_the_examples_it_is_mixed_into(
    apply_function, bad: float
):
    x = torch.ones(4, 10)
    x[2] = bad
    source = np.array([[0, 2], [1, 1], [2, 0], [3, 1]])
    gain = np.array([[1, 1], [1, 0], [1, 1], [0.5, 0.5]], np.float32)
    non_finite = ~apply_function(Plan(source, gain), x).isfinite().all(dim=1)
    assert non_finite.tolist() == [True, False, True, False]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("rule", RULES)
def test_a_nan_example_leaves_inputs_and_labels_of_the_others_finite(name: str, rule: str):
    x = normal(6, 8, 9)
    x[4, 2, 3] = float("nan")
    operator = Mixup2(1.0, 1.0, label_rule=RULES[rule], match_level="rms", linear=True)
    plan = OPERATORS[name].draw(DrawContext(6), rng(2))
    mixed = operator.replay(plan, Examples(x, torch.eye(6)))
    has_nan_source = ((plan.source == 4) & plan.used_mask).any(axis=1)
    assert mixed.x[~has_nan_source].isfinite().all()
    assert mixed.target.isfinite().all()


@pytest.mark.parametrize("name", OPERATORS)
def test_nothing_is_mixed_in_place(name: str):
    x, target, known = normal(8, 6, 7), torch.eye(8), torch.eye(8) > 0
    weight, frames = torch.arange(8.0), torch.rand(8, 8, 5)
    copies = [tensor.clone() for tensor in (x, target, weight, known, frames)]
    OPERATORS[name](x, target, weight, known, frames, rng=rng())
    for tensor, copy in zip((x, target, weight, known, frames), copies, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("name", OPERATORS)
def test_without_a_mix_the_input_itself_is_returned(name: str):
    layer = MixLayer(OPERATORS[name])
    x, eye = normal(8, 6, 7), torch.eye(8)
    assert not layer(x, eye, rng=rng(3)).plan.is_identity
    unmixed = layer.eval()(x, eye, rng=rng(3))
    assert unmixed.x is x and unmixed.target is eye and unmixed.plan.is_identity
    off = Mixup(0.0, 0.5)(x, eye, eye[0], eye > 0, eye[..., None], rng=rng())
    assert off.x is x and off.frames is not None


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("rule", RULES)
def test_mixing_reads_no_values_on_an_accelerator_and_draws_the_same_plan(name: str, rule: str):
    # Tensors on the meta device have no data: reading a value raises an error.
    operator = OPERATORS[name]
    x, target = normal(8, 6, 40), torch.eye(8)
    plan = operator(x, target, rng=rng(7)).plan
    on_host = (x, target, target[0], target > 0, target[..., None])
    on_meta = [tensor.to("meta") for tensor in on_host]
    mixed = operator(*on_meta, rng=rng(7))
    assert np.array_equal(mixed.plan.source, plan.source)
    assert np.array_equal(mixed.plan.gain, plan.gain)
    audible = replace(RULES[rule], min_snr_db=-30, label_cap=1)
    measuring = Mixup2(
        1.0, 1.0, label_rule=audible, match_level="rms", linear=True, post="peak_guard"
    )
    mixed = measuring.replay(plan, Examples(*on_meta))
    assert [tensor.shape for tensor in mixed.examples[:5]] == [tensor.shape for tensor in on_meta]


# Distributions of draws


def test_batches_are_mixed_with_the_given_probability():
    plans = [Mixup(0.6, 0.3).draw(DrawContext(8), rng(seed)) for seed in range(4000)]
    sources = np.array([plan.source_counts[0] for plan in plans])
    assert stats.binomtest(int((sources > 1).sum()), 4000, 0.6).pvalue > 0.01
    assert stats.binomtest(int((sources == 2).sum()), int((sources > 1).sum()), 0.3).pvalue > 0.01


def test_examples_are_mixed_independently_with_scope_sample():
    mixed = np.array(
        [
            Mixup2(1.0, 0.4, scope="sample").draw(DrawContext(8), rng(s)).source_counts > 1
            for s in range(2000)
        ]
    )
    assert stats.binomtest(int(mixed.sum()), mixed.size, 0.4).pvalue > 0.01
    per_batch = np.bincount(mixed.sum(axis=1), minlength=9)
    expected = stats.binom.pmf(np.arange(9), 8, 0.4) * 2000
    assert stats.chisquare(per_batch, expected).pvalue > 0.01


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_numbers_of_sources_follow_their_distribution(scope: str):
    operator = Mixup(1.0, num_sources=[0.5, 0.3, 0.2], scope=scope)
    counts = np.array(
        [operator.draw(DrawContext(6), rng(seed)).source_counts[0] for seed in range(3000)]
    )
    observed = np.bincount(counts)[2:]
    assert stats.chisquare(observed, np.array([0.5, 0.3, 0.2]) * 3000).pvalue > 0.01


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
def test_lambda_follows_its_beta_distribution(beta: float):
    lam = np.concatenate(
        [Mixup2(beta, 1.0).draw(DrawContext(64), rng(s)).gain[:, 0] for s in range(60)]
    )
    assert stats.kstest(lam, stats.beta(beta, beta).cdf).pvalue > 0.01


def test_dirichlet_gains_have_beta_marginals():
    plans = [Mixup(1.0, 0.0, mix_beta=0.7).draw(DrawContext(64), rng(seed)) for seed in range(40)]
    for slot in range(3):
        gains = np.concatenate([plan.gain[:, slot] for plan in plans])
        assert stats.kstest(gains, stats.beta(0.7, 1.4).cdf).pvalue > 0.01


def test_areas_of_cuts_follow_their_distribution_and_lie_inside_the_example():
    boxes = draw_boxes_of_area(rng(0).random(2000), "box", rng(1))
    for span in (boxes.time, boxes.mel):
        assert (span[:, 0] >= 0).all() and (span[:, 1] <= 1).all()
    plan = CutMix(1.0, 1.0, axis="box").draw(DrawContext(2000), rng())
    areas = plan.boxes.area_fractions((2000, 1000, 1000))
    assert stats.kstest(areas, "uniform").pvalue > 0.01


def test_lambda_can_be_one_per_batch_larger_bounded_or_fixed():
    def lam(**options) -> np.ndarray:
        return Mixup2(0.5, 1.0, **options).draw(DrawContext(64), rng()).gain[:, 0]

    assert len(set(lam(lambda_per="batch"))) == 1 and len(set(lam())) > 32
    assert lam(own_is_larger=True).min() >= 0.5 > lam().min()
    assert lam(min_lambda=0.3).min() == np.float32(0.3) and lam(min_lambda=0.3).max() > 0.9
    assert set(lam(fixed_lambda=0.75)) == {0.75}


# Mixing in the worker processes of a loader


class OneHotDataset(torch.utils.data.Dataset):
    """Eight one-hot examples, each with its index."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        return index, torch.eye(8)[index]


class MixingCollate:
    """Collate and mix, with one generator for all batches or with one per batch."""

    def __init__(self, per_batch: bool, epoch: int = 0) -> None:
        self.per_batch, self.epoch, self.shared_rng = per_batch, epoch, rng()

    def __call__(self, examples: list[tuple[int, Tensor]]) -> tuple[np.ndarray, list[int]]:
        indices, x = torch.utils.data.default_collate(examples)
        generator = batch_rng(0, self.epoch, indices) if self.per_batch else self.shared_rng
        return Mixup2(1.0, 1.0)(x, x, rng=generator).plan.gain, indices.tolist()


def load_gains(num_workers: int, **options) -> list[np.ndarray]:
    loader = torch.utils.data.DataLoader(
        OneHotDataset(), batch_size=4, num_workers=num_workers, collate_fn=MixingCollate(**options)
    )
    return [gain for gain, _ in loader]


def test_a_generator_per_batch_draws_the_same_mixes_for_any_number_of_workers():
    in_process, in_workers = load_gains(0, per_batch=True), load_gains(2, per_batch=True)
    assert all(np.array_equal(*pair) for pair in zip(in_process, in_workers, strict=True))
    assert not np.array_equal(*in_process)
    assert not np.array_equal(in_process[0], load_gains(0, per_batch=True, epoch=1)[0])
    assert np.array_equal(*load_gains(2, per_batch=False))  # the documentation warns of this


def test_seed_epoch_and_rows_of_a_batch_must_be_integers():
    assert batch_rng(0, 1, np.arange(3)).random() == batch_rng(0, 1, [0, 1, 2]).random()
    assert batch_rng(0, 1, [0]).random() != batch_rng(0, 1, [0], purpose="noise").random()
    with pytest.raises(ValueError, match=r"are integers: 'float'"):
        batch_rng(0, 0, [0.5])
    with pytest.raises(ValueError, match=r"seed=-1, .* at least 0"):
        batch_rng(-1, 0, [0])


# Schedules, Chain and OneOf


def test_schedules_have_the_values_of_their_shape():
    linear = Schedule(0.2, 0.8)
    assert [linear.value_at(p) for p in (0, 0.5, 1)] == pytest.approx([0.2, 0.5, 0.8])
    cosine = Schedule(1.0, 0.0, shape="cosine")
    assert [cosine.value_at(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.853553, 0.5, 0])
    constant = Schedule(0.5, warm_up=0.2, off_from=0.9)
    assert [constant.value_at(p) for p in (0, 0.1, 0.2, 0.89, 0.9, 1)] == [0, 0.25, 0.5, 0.5, 0, 0]
    assert Schedule(0.5).value_at(1.0) == 0.5


def test_probabilities_and_strengths_follow_their_schedules():
    mixup = Mixup(Schedule(1.0, off_from=0.8), 0.5)
    assert not mixup.draw(DrawContext(8), rng(), progress=0.7).is_identity
    assert mixup.draw(DrawContext(8), rng(), progress=0.8).is_identity
    rising = Mixup2(Schedule(0.1, 50.0), 1.0)
    spread = [rising.draw(DrawContext(64), rng(), progress=p).gain[:, 0].std() for p in (0.0, 1.0)]
    assert spread[0] > 0.4 and spread[1] < 0.1


def test_a_chain_applies_operators_in_order():
    x, target = normal(8, 30), torch.eye(8)
    first, second = Mixup(1.0, 1.0), Mixup2(1.0, 1.0)
    chained = Chain(first, second)(x, target, rng=rng(3))
    generator = rng(3)
    mixed = first(x, target, rng=generator)
    mixed = second(mixed.x, mixed.target, rng=generator)
    assert torch.equal(chained.x, mixed.x) and torch.equal(chained.target, mixed.target)
    assert len(chained.plan) == 2
    assert MixLayer(Chain(first, second)).eval()(x, target, rng=rng()).x is x


def test_a_chain_passes_levels_on():
    x, levels = normal(4, 6, 10), torch.tensor([0.0, -100.0, 0.0, -100.0])
    chain = Chain(Mixup(1.0, 1.0, label_rule=RULES["amplitude"]), Mixup2(1.0, 1.0))
    assert chain(x, torch.eye(4), rng=rng(), level=levels).target.isfinite().all()
    plan = Plan(np.array([[0, 1], [1, 0]]), np.array([[1, 1], [1, 0.1]], np.float32))
    after = mixed_level_db(plan, torch.tensor([0.0, 0.0]))
    assert torch.allclose(after, torch.tensor([3.0103, 0.0432]), atol=1e-3)


def test_levels_are_none_after_mixing_a_pool_without_levels():
    x, eye, pool = normal(4, 6, 10), torch.eye(4), Examples(normal(4, 6, 10), torch.eye(4))
    by_amplitude = Mixup2(1.0, 1.0, label_rule=RULES["amplitude"])
    chain = Chain(Inject(1.0), by_amplitude)
    with pytest.raises(ValueError, match="pass level="):
        chain(x, eye, rng=rng(), pool=pool, level=torch.zeros(4))
    pool = pool._replace(level=torch.zeros(4))
    assert chain(x, eye, rng=rng(), pool=pool, level=torch.zeros(4)).target.isfinite().all()


def test_one_of_chooses_by_weight():
    choice = OneOf(Mixup(1.0, 1.0), Mixup2(1.0, 1.0), weights=(3, 1))
    eye = torch.eye(4)
    sums = sum(bool((choice(eye, eye, rng=rng(s)).plan.gain == 1).all()) for s in range(800))
    assert stats.binomtest(sums, 800, 0.75).pvalue > 0.01


# Mix pools


def test_sources_of_an_injection_come_from_the_pool():
    pool = Examples(torch.full((3, 20), 10.0), torch.eye(5)[2:])
    mixed = Inject(1.0, gain=[0.5, 0.5])(torch.zeros(2, 20), torch.eye(5)[:2], rng=rng(), pool=pool)
    assert (mixed.x == 5).all()
    assert (mixed.target.diag() == 1).all() and (mixed.target.sum(dim=1) == 2).all()
    assert (mixed.target[:, 2:].sum(dim=1) == 1).all()


def test_no_pool_example_is_drawn_twice_before_all_were_drawn_once():
    plan = Inject(1.0).draw(DrawContext(7, {"pool": 3}), rng())
    assert np.bincount(plan.source[:, 1] - 7).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 20.0])
def test_injected_noise_has_the_given_signal_to_noise_ratio(snr_db: float):
    birds, noise = 3 * normal(4, 5000), 0.01 * normal(2, 5000, seed=1)
    pool = Examples(noise, torch.zeros(2, 4))
    operator = Inject(1.0, snr_db=[snr_db, snr_db])
    mixed = operator(birds, torch.eye(4), rng=rng(), pool=pool)
    added = (mixed.x - birds).square().mean(dim=1)
    assert torch.allclose(
        10 * torch.log10(birds.square().mean(dim=1) / added), torch.tensor(snr_db), atol=1e-2
    )


def test_a_pool_that_is_not_drawn_from_may_have_another_shape():
    pool = Examples(torch.ones(3, 5), torch.eye(4)[:3])
    x, eye = normal(4, 6, 7), torch.eye(4)
    assert torch.equal(Mixup(1.0)(x, eye, rng=rng(), pool=pool).x, Mixup(1.0)(x, eye, rng=rng()).x)


def test_a_label_cap_limits_labels_of_the_pool_only():
    target = torch.tensor([[0.0, 0.0, 0.0, 0.9]])
    pool = Examples(torch.ones(1, 10), torch.tensor([[0.5, 1.0, 0.5, 0.0]]))
    rule = MAX.__class__("full", "max", label_cap=0.5)
    mixed = Inject(1.0, label_rule=rule)(torch.ones(1, 10), target, rng=rng(), pool=pool)
    assert torch.allclose(mixed.target, torch.tensor([[0.125, 0.25, 0.125, 0.9]]))


def test_weights_and_unknown_labels_of_a_pool_are_mixed():
    x, target = torch.ones(2, 10), torch.tensor([[1.0, 0], [0, 0]])
    pool = Examples(torch.ones(1, 10), torch.zeros(1, 2), known=torch.tensor([[False, False]]))
    mixed = Inject(1.0)(x, target, torch.tensor([1.0, 3.0]), rng=rng(), pool=pool)
    assert mixed.known.tolist() == [[True, False], [False, False]]
    assert mixed.weight.tolist() == [1.0, 2.0]


# Scaling of mixed examples (post)


def test_post_scales_mixed_inputs_only():
    x, eye = 5 * normal(6, 100), torch.eye(6)
    for post in ("peak_guard", "peak_normalise", "standardise"):
        mixed = Mixup(0.5, 1.0, scope="sample", post=post)(x, eye, rng=rng(1))
        plain = Mixup(0.5, 1.0, scope="sample")(x, eye, rng=rng(1))
        unmixed = mixed.plan.source_counts == 1
        assert 0 < unmixed.sum() < 6
        assert torch.equal(mixed.x[unmixed], x[unmixed])
        assert torch.equal(mixed.target, plain.target)
        if post == "standardise":
            assert torch.allclose(mixed.x[~unmixed].std(dim=1), torch.tensor(1.0), atol=1e-3)
        else:
            assert torch.allclose(mixed.x[~unmixed].abs().amax(dim=1), torch.tensor(1.0))


def test_a_peak_guard_does_not_scale_quiet_mixes():
    x = 0.01 * normal(4, 50)
    guarded = Mixup(1.0, 1.0, post="peak_guard")(x, torch.eye(4), rng=rng())
    assert torch.equal(guarded.x, Mixup(1.0, 1.0)(x, torch.eye(4), rng=rng()).x)


# Invalid input


def call_mixup(x=None, target=None, **tensors):
    x = torch.eye(4) if x is None else x
    return Mixup(1.0, 1.0)(x, torch.eye(len(x)) if target is None else target, rng=rng(), **tensors)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Mixup(1.5, 0.5), r"mixup_prob=1.5: a probability lies in \[0, 1\]"),
        (lambda: Mixup(Schedule(0.5, 2.0), 0.5), r"mixup_prob=2.0"),
        (lambda: Mixup(0.5, -0.1), r"mixup_double=-0.1"),
        (lambda: Mixup(0.5, 0.5, 0.0), r"mix_beta=0.0: a concentration is above 0"),
        (lambda: Mixup(0.5, num_sources=[0.5]), r"add up to 1"),
        (lambda: Mixup(0.5, num_sources=[1.5, -0.5]), r"add up to 1"),
        (lambda: Mixup(0.5, scope="sampel"), r"scope"),
        (lambda: Mixup(0.5, post="loud"), r"post"),
        (lambda: Mixup2(0.0, 0.5), r"mix_beta2=0.0"),
        (lambda: Mixup2(1.0, 0.5, fixed_lambda=1.0), r"fixed_lambda=1.0"),
        (lambda: Mixup2(1.0, 0.5, min_lambda=1.0), r"min_lambda=1.0"),
        (lambda: CutMix(0.5, -1.0), r"beta=-1.0"),
        (lambda: CutMix(0.5, axis="space"), r"axis"),
        (lambda: Inject(0.5, gain=[0.5, 0.2]), r"gain"),
        (lambda: Inject(0.5, blend=[0.5, 2.0]), r"gains of a blend lie in"),
        (lambda: Inject(1.0)(torch.eye(4), torch.eye(4), rng=rng()), r"pool=Examples"),
        (lambda: OneOf(Mixup(1.0), weights=(1, 2)), r"weights"),
        (lambda: Schedule(0.5, shape="square"), r"shape"),
        (lambda: Schedule(0.5).value_at(1.5), r"progress=1.5"),
        (lambda: Mixup(1, 0)(torch.eye(2), torch.eye(2), rng=rng()), r"data.batch_size"),
        (lambda: Mixup(0.1, 1)(torch.eye(1), torch.eye(1), rng=rng()), r"data.drop_last=true"),
        (lambda: call_mixup(target=torch.eye(4).long()), r"int64.*one-hot"),
        (lambda: call_mixup(target=torch.eye(4) * 1.5), r"0 to 1.5.*\[0, 1\]"),
        (lambda: call_mixup(target=torch.full((4, 4), float("nan"))), r"nan"),
        (lambda: call_mixup(target=torch.eye(3)), r"target holds 3"),
        (lambda: call_mixup(target=torch.ones(4)), r"multi-label targets \[B, C\]"),
        (lambda: call_mixup(x=torch.ones(4)), r"batch \[B, ...\]"),
        (lambda: call_mixup(weight=torch.ones(5)), r"weight holds 5"),
        (lambda: call_mixup(known=torch.ones(4, 3, dtype=torch.bool)), r"known has shape"),
        (lambda: call_mixup(frames=torch.ones(4, 4)), r"frames has shape"),
        (lambda: apply_plan_to_inputs(Plan.identity(3), torch.eye(4)), r"batch of 3"),
        (
            lambda: apply_plan_to_inputs(Mixup(1.0).draw(DrawContext(4), rng()), torch.eye(5)),
            r"draw a plan",
        ),
        (
            lambda: Mixup(1.0).replay(
                Mixup(1.0).draw(DrawContext(4), rng()), Examples(*[torch.eye(5)] * 2)
            ),
            r"draw a plan",
        ),
        (
            lambda: apply_plan_to_inputs(
                Inject(1.0).draw(DrawContext(4, {"pool": 2}), rng()), torch.eye(4)
            ),
            r"pass the pool",
        ),
        (
            lambda: apply_plan_to_inputs(
                Inject(1.0).draw(DrawContext(4, {"pool": 2}), rng()), torch.eye(4), torch.eye(2)
            ),
            r"must agree",
        ),
        (lambda: CutMix(1.0, axis="box")(torch.eye(4), torch.eye(4), rng=rng()), r"axis='time'"),
        (
            lambda: Inject(1.0)(
                torch.eye(4), torch.eye(4), rng=rng(), pool=Examples(torch.eye(4), torch.eye(4, 5))
            ),
            r"one label set",
        ),
    ],
)
def test_errors_state_the_invalid_value_and_the_remedy(call, expected: str):
    with pytest.raises(ValueError, match=expected):
        call()


def test_areas_of_boxes_are_the_same_on_any_grid():
    boxes = Boxes(np.array([[0.25, 0.75]]), np.array([[0.0, 1.0]]))
    for shape in ((1, 8), (1, 3, 80), (1, 1, 4, 16)):
        assert boxes.area_fractions(shape).tolist() == [0.5]


def test_levels_are_rms_in_db():
    x = torch.stack([torch.ones(100), 0.1 * torch.ones(100), torch.zeros(100)])
    assert measure_level_db(x)[:, 0].tolist() == pytest.approx([0, -20, -np.inf])
    x[0, 50:] = 0
    assert measure_level_db(x, num_intervals=2)[0].tolist() == pytest.approx([0, -np.inf])

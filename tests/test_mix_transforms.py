"""Mix operators under torch.func (jvp, vmap, grad). A mix is linear in x, so is its tangent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, func
from torch.autograd import forward_ad

from birdmix.mix import (
    RULES,
    Chain,
    CutMix,
    Examples,
    Inject,
    MixResult,
    Mixup,
    Mixup2,
    Operator,
    measure_level_db,
)
from birdmix.mix.apply_plan import apply_plan_to_inputs

OPERATORS = {
    "sum of three": lambda **options: Mixup(1.0, 0.0, scope="sample", **options),
    "blend": lambda **options: Mixup2(0.4, 1.0, **options),
    "cut in time": lambda **options: CutMix(0.8, axis="time", scope="sample", **options),
    "cut box": lambda **options: CutMix(1.0, axis="box", **options),
    "shifted": lambda **options: Mixup(0.8, 0.5, time_shift="random", **options),
    "aligned": lambda **options: Mixup2(0.4, 1.0, time_shift="aligned", **options),
    "unit power": lambda **options: Mixup(1.0, 0.5, mix_beta=1.0, unit_power=True, **options),
    "inject": lambda **options: Inject(0.8, gain=[0.2, 0.8], **options),
    "inject at a level": lambda **options: Inject(0.8, snr_db=[3, 20], **options),
}
B, SHAPE = 5, (2, 6, 12)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def soft(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


X, TANGENT, TARGET = normal(B, *SHAPE), normal(B, *SHAPE, seed=1), soft(B, 4)
KNOWN, FRAMES = soft(B, 4, seed=2) > 0.3, soft(B, 4, 3, seed=3)
POOL = Examples(normal(3, *SHAPE, seed=4), soft(3, 4, seed=5), frames=soft(3, 4, 3, seed=6))
RULE = replace(RULES["amplitude"], min_snr_db=-20)


def mix(operator: Operator, x: Tensor, target: Tensor = TARGET) -> MixResult:
    rng = np.random.default_rng(3)
    return operator(x, target, TARGET[:, 0], KNOWN, FRAMES, rng=rng, pool=POOL)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("match_level", ["none", "rms"])
def test_the_tangent_of_a_mix_is_the_mix_of_the_tangents(name: str, match_level: str):
    operator = OPERATORS[name](match_level=match_level, linear=True, label_rule=RULE)
    mixed, tangent = func.jvp(lambda x: mix(operator, x).x, (X,), (TANGENT,))
    expected = mix(operator, X)
    assert torch.allclose(mixed, expected.x, atol=1e-5)
    if expected.plan.gains_depend_on_data or expected.plan.aligned:  # these are constants
        x, direction = X.clone().requires_grad_(), normal(B, *SHAPE, seed=9)
        (gradient,) = torch.autograd.grad((mix(operator, x).x * direction).sum(), x)
        forward, backward = (tangent * direction).sum(), (gradient * TANGENT).sum()
        assert torch.allclose(forward, backward, rtol=1e-4)
    else:
        pool_tangent = torch.zeros_like(POOL.x)
        assert torch.allclose(
            tangent, apply_plan_to_inputs(expected.plan, TANGENT, pool_tangent), atol=1e-5
        )


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("post", ["none", "standardise"])
def test_vmap_mixes_all_batches_by_one_plan(name: str, post: str):
    operator = OPERATORS[name](match_level="rms", linear=True, post=post, label_rule=RULE)
    x, target = normal(3, B, *SHAPE, seed=7), soft(3, B, 4, seed=8)

    def tensors(x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        mixed = mix(operator, x, target)
        return (*mixed.examples[:5], mixed.frames_known)

    for index, batch in enumerate(zip(*func.vmap(tensors)(x, target), strict=True)):
        for actual, expected in zip(batch, tensors(x[index], target[index]), strict=True):
            assert torch.allclose(actual.float(), expected.float(), atol=1e-4)
    # Only the targets are batched, not x.
    assert torch.equal(
        func.vmap(lambda target: mix(operator, X, target).target)(target)[1],
        mix(operator, X, target[1]).target,
    )


def test_vmap_mixes_levels_weights_and_pools():
    inject = Inject(1.0, snr_db=[0, 0], label_rule=RULE, post="peak_guard")
    x, pool, target = normal(2, B, 40), normal(2, 3, 40, seed=1), soft(2, 3, 4)

    def tensors(x: Tensor, weight: Tensor, pool: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        pool_examples = Examples(pool, target, level=measure_level_db(pool))
        rng = np.random.default_rng(0)
        mixed = inject(x, TARGET, weight, rng=rng, pool=pool_examples, level=measure_level_db(x))
        return mixed.x, mixed.target, mixed.weight, mixed.level

    inputs = (x, torch.arange(2 * B).view(2, B), pool, target)
    for actual, expected in zip(
        func.vmap(tensors)(*inputs), tensors(*(tensor[1] for tensor in inputs)), strict=True
    ):
        assert torch.allclose(actual[1], expected, atol=1e-4)


@pytest.mark.parametrize(
    "operator",
    [
        Mixup(1.0, 1.0),
        CutMix(1.0),
        Mixup2(1.0, 1.0, post="peak_normalise"),
        Chain(Mixup(1.0, 1.0), Mixup2(1.0, 1.0)),
    ],
)
def test_forward_and_backward_derivatives_agree(operator: Operator):
    x, eye = normal(3, 4), torch.eye(3)

    def mixed(x: Tensor) -> Tensor:
        return operator(x, eye, rng=np.random.default_rng(1)).x

    assert torch.allclose(func.jacfwd(mixed)(x), func.jacrev(mixed)(x), atol=1e-5)
    per_batch = func.vmap(func.grad(lambda x: mixed(x).square().sum()))(torch.stack([x, 2 * x]))
    assert torch.allclose(per_batch[0], func.grad(lambda x: mixed(x).square().sum())(x), atol=1e-4)
    with forward_ad.dual_level():
        dual = mixed(forward_ad.make_dual(x, x))
        assert forward_ad.unpack_dual(dual).tangent is not None


def test_targets_have_tangents_too():
    rng = np.random.default_rng
    _, tangent = func.jvp(
        lambda target: Mixup2(1.0, 1.0)(X, target, rng=rng(0)).target, (TARGET,), (TARGET,)
    )
    assert torch.allclose(tangent, Mixup2(1.0, 1.0)(X, TARGET, rng=rng(0)).target)

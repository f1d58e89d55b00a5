"""Inputs of mix operators: lossless conversion of types, errors, empty batches."""

import pickle
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
    MixResult,
    Mixup,
    Mixup2,
    OneOf,
    Operator,
    Plan,
    measure_level_db,
    mixed_level_db,
)

PAIRS = Mixup2(1.0, 1.0)
EYE = torch.eye(6)
#: Weights 1 to 6 after Mixup2(1.0, 1.0) with default_rng(0), computed in float64.
MIXED_WEIGHTS = [1.0134, 1.9623, 3.1940, 2.8298, 5.8144, 4.8479]

OPERATORS = {
    "sum": lambda **options: Mixup(1.0, 0.0, **options),
    "blend": lambda **options: Mixup2(1.0, 1.0, **options),
    "cut": lambda **options: CutMix(1.0, **options),
    "aligned": lambda **options: Mixup(1.0, 0.0, time_shift="aligned", **options),
    "unit power": lambda **options: Mixup(1.0, 0.0, unit_power=True, **options),
    "inject": lambda **options: Inject(1.0, **options),
    "inject at a level": lambda **options: Inject(1.0, snr_db=[0, 0], **options),
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mix(**tensors: Tensor) -> MixResult:
    return PAIRS(EYE, EYE, rng=rng(), **tensors)


# Conversion of types


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64]
)
def test_weights_of_any_type_are_mixed_exactly(dtype: torch.dtype):
    mixed = mix(weight=torch.arange(1, 7).to(dtype))
    assert mixed.weight.tolist() == pytest.approx(MIXED_WEIGHTS, abs=5e-5)
    assert mixed.weight.is_floating_point()


def test_weights_are_floating_with_and_without_a_mix():
    weight = torch.arange(6)
    assert Mixup(0.0)(EYE, EYE, weight, rng=rng()).weight.dtype == torch.float32
    assert MixLayer(Mixup(1.0)).eval()(EYE, EYE, weight, rng=rng()).weight.dtype == torch.float32


def test_replay_converts_types_as_a_call_does():
    plan = PAIRS.draw(DrawContext(6), rng())
    mixed = PAIRS.replay(plan, Examples(EYE, EYE, weight=torch.arange(1, 7)))
    assert mixed.weight.tolist() == pytest.approx(MIXED_WEIGHTS, abs=5e-5)


def test_integer_weights_of_a_pool_are_mixed_exactly():
    pool = Examples(EYE, EYE, weight=torch.full((6,), 2))
    weight = torch.ones(6, dtype=torch.int64)
    mixed = Inject(1.0, gain=[0.5, 0.5])(EYE, EYE, weight, rng=rng(), pool=pool)
    assert torch.allclose(mixed.weight, torch.full((6,), (1 + 0.5 * 2) / 1.5))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_known_masks_of_zeros_and_ones_become_bool(dtype: torch.dtype):
    known = EYE > 0
    expected, mixed = mix(known=known), mix(known=known.to(dtype))
    assert mixed.known.dtype == torch.bool and torch.equal(mixed.known, expected.known)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_integer_frames_are_mixed_without_truncation(dtype: torch.dtype):
    frames = EYE[..., None].expand(-1, -1, 4)
    assert torch.equal(mix(frames=frames.to(dtype)).frames, mix(frames=frames).frames)


def test_bool_targets_are_mixed_as_floats():
    mixed = PAIRS(EYE, EYE > 0, rng=rng())
    assert torch.equal(mixed.target, mix().target)


def test_integer_levels_are_mixed_as_floats():
    by_amplitude = Mixup2(1.0, 1.0, label_rule=RULES["amplitude"])
    decibels = torch.arange(-30, 0, 5)
    mixed = by_amplitude(EYE, EYE, rng=rng(), level=decibels)
    expected = by_amplitude(EYE, EYE, rng=rng(), level=decibels.float())
    assert torch.equal(mixed.target, expected.target)
    assert torch.equal(mixed.level, expected.level)
    assert torch.equal(mixed_level_db(mixed.plan, decibels), expected.level)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("rule", RULES)
def test_mixes_agree_for_waveforms_of_any_precision(name: str, rule: str, dtype: torch.dtype):
    x, pool = normal(6, 50), Examples(normal(6, 50, seed=1), EYE)
    audible = replace(RULES[rule], min_snr_db=-20)
    operator = OPERATORS[name](label_rule=audible, match_level="rms", post="peak_guard")
    expected = operator(x, EYE, rng=rng(), pool=pool, level=measure_level_db(x))
    pool = pool._replace(x=pool.x.to(dtype), level=measure_level_db(pool.x.to(dtype)))
    mixed = operator(x.to(dtype), EYE, rng=rng(), pool=pool, level=measure_level_db(x.to(dtype)))
    # bfloat16 has 8 bits of precision, and samples reach about 5.
    tolerance = 1e-5 if dtype == torch.float64 else 0.1
    assert mixed.x.dtype == dtype and mixed.target.dtype == torch.float32
    assert torch.allclose(mixed.x.float(), expected.x, atol=tolerance)
    assert torch.allclose(mixed.target, expected.target, atol=tolerance)


# Errors


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"weight": torch.ones(6, 1)}, r"weight has shape \[6, 1\]"),
        ({"weight": torch.tensor(1.0)}, r"weight has shape \[\]"),
        ({"weight": torch.full((6,), float("nan"))}, r"weight holds nan or inf"),
        ({"weight": torch.ones(6, dtype=torch.complex64)}, r"complex64"),
        ({"weight": [1.0] * 6}, r"weight is a list; pass a tensor"),
        ({"weight": torch.ones(6, device="meta")}, r"weight is on meta, x on cpu"),
        ({"known": EYE * 0.5}, r"known is torch.float32 and holds other values than 0 and 1"),
        ({"known": EYE > 0, "frames": torch.ones(6, 6, 4) * 2}, r"frames ranges from 2 to 2"),
        ({"frames_known": torch.ones(6, 6, 4) > 0}, r"frames None; they must agree"),
        ({"frames": torch.ones(6, 6, 4), "frames_known": torch.ones(6, 6, 5)}, r"must agree"),
        ({"level": torch.zeros(6, 2, 3)}, r"level has shape \[6, 2, 3\]"),
        ({"level": torch.zeros(6, 0)}, r"level has shape \[6, 0\]"),
        ({"pool": EYE}, r"pool is a Tensor; pass a birdmix.mix.Examples"),
        ({"progress": 2.0}, r"progress=2.0"),
    ],
)
def test_tensors_that_do_not_agree_raise_an_error(tensors: dict, expected: str):
    with pytest.raises(ValueError, match=expected):
        mix(**tensors)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ({"frames": torch.ones(6, 6, 5)}, r"frames has shape \[6, 6, 4\] in the batch"),
        ({"frames": torch.ones(6, 6, 4), "level": torch.zeros(6, 3)}, r"level has shape \[6\]"),
        ({"frames": torch.ones(6, 6, 4), "weight": torch.ones(6, 2)}, r"pool weight has shape"),
    ],
)
def test_a_pool_that_does_not_agree_with_the_batch_raises_an_error(pool: dict, expected: str):
    batch = {"frames": torch.ones(6, 6, 4), "level": torch.zeros(6)}
    with pytest.raises(ValueError, match=expected):
        Inject(1.0)(EYE, EYE, rng=rng(), pool=Examples(EYE, EYE, **pool), **batch)


@pytest.mark.parametrize("seed", [0, None, np.random.RandomState(0)])
def test_rng_must_be_a_numpy_generator(seed: object):
    for operator in (PAIRS, Chain(PAIRS), OneOf(PAIRS)):
        with pytest.raises(ValueError, match=r"pass a generator: numpy.random.default_rng"):
            operator(EYE, EYE, rng=seed)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: measure_level_db(torch.ones(2, 8, dtype=torch.int16)), r"int16.*x / 32768"),
        (lambda: measure_level_db(torch.ones(8)), r"shape \[8\]"),
        (lambda: measure_level_db(torch.ones(2, 8), 9), r"num_intervals=9"),
        (lambda: measure_level_db(torch.ones(2, 8), 0), r"num_intervals=0"),
        (
            lambda: mixed_level_db(PAIRS.draw(DrawContext(3), rng()), torch.zeros(2)),
            r"\[2\] for a plan of 3",
        ),
        (
            lambda: mixed_level_db(
                Inject(1.0).draw(DrawContext(2, {"pool": 2}), rng()),
                torch.zeros(2),
                torch.zeros(2, 5),
            ),
            r"pool_level \[2, 5\]",
        ),
    ],
)
def test_invalid_levels_raise_an_error(call, expected: str):
    with pytest.raises(ValueError, match=expected):
        call()


def test_replay_checks_the_types_of_plan_and_examples():
    with pytest.raises(ValueError, match=r"plan is a NoneType; pass a birdmix.mix.Plan"):
        PAIRS.replay(None, Examples(EYE, EYE))
    with pytest.raises(ValueError, match=r"examples is a tuple; pass a birdmix.mix.Examples"):
        PAIRS.replay(PAIRS.draw(DrawContext(6), rng()), (EYE, EYE))


# Plans


@pytest.mark.parametrize(
    ("source", "gain", "expected"),
    [
        ([0, 1], [1.0, 1.0], r"shape \[2\].*\[B, S\]"),
        ([[0, 1], [1, 0]], [[1.0], [1.0]], r"\[2, 2\] and its gain \[2, 1\]"),
        ([[1, 0], [0, 1]], [[1.0, 0.0], [1.0, 0.0]], r"column 0 .* is \[1, 0\]"),
        ([[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], r"float64"),
        ([[0, -1], [1, 0]], [[1.0, 1.0], [1.0, 1.0]], r"holds -1; indices start at 0"),
        ([[0, 1], [1, 0]], [[1.0, np.nan], [1.0, 1.0]], r"gains must be finite"),
        ([[0, 1], [1, 0]], [[1.0, -1.0], [1.0, 1.0]], r"at least 0"),
        ([[0, 1], [1, 0]], [[1.0, 1.0], [0.0, 0.0]], r"all gains of example 1 are 0"),
    ],
)
def test_an_invalid_plan_raises_an_error(source: list, gain: list, expected: str):
    with pytest.raises(ValueError, match=expected):
        Plan(np.array(source), np.array(gain))


def test_invalid_boxes_raise_an_error():
    half, full = np.array([[0.0, 0.5]] * 2), np.array([[0.0, 1.0]] * 2)
    with pytest.raises(ValueError, match=r"begins before it ends"):
        Boxes(half[:, ::-1], full)
    with pytest.raises(ValueError, match=r"ranges from 0 to 1.5"):
        Boxes(half * 3, full)
    with pytest.raises(ValueError, match=r"mel has shape \[3, 2\]"):
        Boxes(half, np.array([[0.0, 1.0]] * 3))
    with pytest.raises(ValueError, match=r"2 boxes for a source of shape \[3, 2\]"):
        Plan(np.array([[0, 1], [1, 0], [2, 0]]), np.ones((3, 2)), Boxes(half, full))


def test_plans_of_any_number_type_are_equal():
    source, gain = [[0, 1], [1, 0]], [[0.5, 0.5], [0.25, 0.75]]
    plan = Plan(np.array(source, np.int32), np.array(gain, np.float64))
    assert plan == Plan(np.array(source), np.array(gain, np.float32))
    assert plan.source.dtype == np.int64 and plan.gain.dtype == np.float32
    assert PAIRS.replay(plan, Examples(EYE[:2], EYE[:2])).target.dtype == torch.float32


@pytest.mark.parametrize("name", ["sum", "blend", "cut"])
def test_plans_are_equal_by_value(name: str):
    operator = OPERATORS[name]()
    plan, again, other = (operator.draw(DrawContext(6), rng(seed)) for seed in (0, 0, 1))
    assert (plan == again) is True and (plan != again) is False
    assert (plan == other) is False and (plan == "plan") is False
    assert (plan == replace(plan, match="rms")) is False
    assert plan == pickle.loads(pickle.dumps(plan))
    if plan.boxes is not None:
        assert (plan == replace(plan, boxes=None)) is False
        assert (plan.boxes == again.boxes) is True and (plan.boxes == other.boxes) is False


def test_plans_are_not_hashable_as_their_arrays_can_change():
    plan = CutMix(1.0).draw(DrawContext(4), rng())
    for unhashable in (plan, plan.boxes):
        with pytest.raises(TypeError, match="unhashable"):
            hash(unhashable)


# Empty batches


@pytest.mark.parametrize("prob", [0.0, 1.0])
@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("shape", [(0, 40), (0, 1, 8, 10)])
def test_an_empty_batch_passes_through_every_operator(prob: float, scope: str, shape: tuple):
    x, target = torch.zeros(shape), torch.zeros(0, 3)
    tensors = (x, target, target[:, 0], target > 0, target[..., None])
    pool = Examples(torch.ones(2, *shape[1:]), torch.ones(2, 3), frames=torch.ones(2, 3, 1))
    options = {"scope": scope, "match_level": "rms", "linear": True, "post": "peak_normalise"}
    operators: list[Operator] = [
        Mixup(prob, **options),
        Mixup2(1.0, prob, **options),
        CutMix(prob, **options),
        Inject(prob, snr_db=[0, 0], **options),
    ]
    for operator in (*operators, Chain(*operators), OneOf(*operators)):
        mixed = operator(*tensors, rng=rng(), pool=pool, level=torch.zeros(0, 5))
        assert [each.shape for each in mixed.examples[:5]] == [each.shape for each in tensors]
        assert mixed.level.shape == (0, 5) and mixed.frames_known.shape == (0, 3, 1)
    for operator in operators:
        plan = operator.draw(DrawContext(0, {"pool": 2}), rng())
        assert operator.replay(plan, Examples(*tensors), pool).x.shape == shape
        assert plan.is_identity and plan == Plan.identity(0)


@pytest.mark.parametrize("post", ["none", "peak_guard", "peak_normalise", "standardise"])
@pytest.mark.parametrize("name", OPERATORS)
def test_examples_of_length_0_pass_through_every_operator(name: str, post: str):
    x, target = torch.zeros(4, 0), torch.zeros(4, 0)
    operator = OPERATORS[name](match_level="rms", post=post)
    mixed = operator(x, target, rng=rng(), pool=Examples(x, target))
    assert mixed.x.shape == (4, 0) and mixed.target.shape == (4, 0)
    assert measure_level_db(x).tolist() == [[-np.inf]] * 4

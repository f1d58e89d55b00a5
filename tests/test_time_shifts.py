"""Partners that are shifted in time: circular shifts, and loud parts that meet."""

import numpy as np
import pytest
import torch
from scipy import stats

from birdmix.mix import DrawContext, Examples, Inject, Mixup, Mixup2, Plan, measure_level_db
from birdmix.mix.apply_plan import _apply_by_slot, apply_plan_to_inputs
from birdmix.mix.resolve_plan import AppliedPlan
from tests.laws import DTYPES


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shifted_plan(*shifts: float) -> Plan:
    """Return a plan in which each example is added to the next, shifted by these fractions."""
    size = len(shifts)
    source = np.stack([np.arange(size), (np.arange(size) + 1) % size], axis=1)
    shift = np.stack([np.zeros(size), shifts], axis=1)
    return Plan(source, np.ones((size, 2)), shift=shift)


def burst(position: int, length: int = 1000) -> torch.Tensor:
    """Return quiet noise with a loud burst of 50 samples."""
    x = 0.01 * normal(length, seed=position)
    x[position : position + 50] = normal(50, seed=7)
    return x


@pytest.mark.parametrize("shape", [(8,), (3, 8), (1, 5, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shifted_partner_is_rolled_around_the_end(shape: tuple, dtype: torch.dtype):
    x = normal(2, *shape).to(dtype)
    plan = shifted_plan(0.25, 0.5)
    expected = torch.stack([x[0] + x[1].roll(2, -1), x[1] + x[0].roll(4, -1)])
    assert torch.equal(apply_plan_to_inputs(plan, x), expected)
    applied = AppliedPlan.from_plan(plan, tuple(x.shape), x.device)
    assert torch.equal(_apply_by_slot(plan, applied, x, None, "none")[0], expected)


def test_frames_and_levels_move_with_the_sound():
    x = torch.ones(2, 100)
    x[:, :50] = 0.1
    frames = torch.tensor([[[0, 0, 0, 0.0]], [[0, 0, 0, 1.0]]])
    known = torch.tensor([[[True] * 4], [[True, True, True, False]]])
    examples = Examples(x, torch.ones(2, 1), frames=frames, frames_known=known)
    examples = examples._replace(level=measure_level_db(x, 2))
    mixed = Mixup(1.0).replay(shifted_plan(0.5, 0.0), examples).examples
    assert mixed.frames[0, 0].tolist() == [0, 1, 0, 0]  # the event of frame 3 is now in frame 1
    assert mixed.frames_known[0, 0].tolist() == [True, False, True, True]
    power = 10 ** (mixed.level[0] / 10)
    assert power.tolist() == pytest.approx([0.01 + 1, 1 + 0.01])


def test_loud_parts_of_partners_meet_those_of_the_example():
    x = torch.stack([burst(100), burst(640), burst(930)])
    plan = Plan(
        np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]]), np.ones((3, 3), np.float32), aligned=True
    )
    mixed = Mixup(1.0).replay(plan, Examples(x, torch.eye(3)))
    for example, position in enumerate((100, 640, 930)):
        loud = mixed.x[example].abs() > 0.1
        near = (torch.arange(1000) - position + 15) % 1000 < 80
        assert loud[near].sum() > 30 and loud[~near].sum() == 0


def test_spectrograms_are_aligned_by_their_mean_over_frequencies():
    spectrogram = torch.full((2, 1, 4, 20), -60.0)
    spectrogram[0, 0, 1, 5:8], spectrogram[1, 0, 2, 14:17] = -10, -20
    plan = Plan(np.array([[0, 1], [1, 0]]), np.full((2, 2), 0.5), aligned=True)
    mixed = Mixup2(1.0, 1.0).replay(plan, Examples(spectrogram, torch.eye(2)))
    assert (mixed.x[0, 0, 2] > -60).nonzero().flatten().tolist() == [5, 6, 7]


def test_a_nan_partner_changes_only_its_own_mixes_when_aligned():
    x = normal(3, 400)
    x[2] = torch.nan
    plan = Plan(
        np.array([[0, 1], [1, 2], [2, 2]]), np.array([[1, 1], [1, 1], [1, 0]]), aligned=True
    )
    mixed = Mixup(1.0).replay(plan, Examples(x, torch.eye(3)))
    assert mixed.x.isfinite().all(dim=1).tolist() == [True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    "operator",
    [
        Mixup(1.0, 0.0, time_shift="random"),
        Mixup2(1.0, 1.0, time_shift="random"),
        Inject(1.0, time_shift="random"),
    ],
)
def test_random_shifts_are_uniform_and_never_of_the_example_itself(operator):
    context = DrawContext(16, {"pool": 16})
    shift = np.concatenate([operator.draw(context, rng(seed)).shift for seed in range(100)])
    assert not shift[:, 0].any()
    assert stats.kstest(shift[:, 1:].ravel(), "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Mixup(1.0, time_shift="circular"), "time_shift='circular'"),
        (lambda: shifted_plan(0.5, 1.0), r"shifts are fractions of the length in \[0, 1\)"),
        (
            lambda: Plan(np.array([[0]]), np.ones((1, 1)), shift=np.full((1, 1), 0.5)),
            "0 for the example itself",
        ),
    ],
)
def test_invalid_shifts_raise_an_error(call, expected: str):
    with pytest.raises(ValueError, match=expected):
        call()

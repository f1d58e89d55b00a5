"""Controls of comparisons: no mixing, inputs mixed without targets, and resampling."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from birdmix.mix import (
    CutMix,
    DrawContext,
    Examples,
    HiddenSettings,
    Inject,
    InjectSettings,
    MixSettings,
    Mixup,
    Mixup2,
    build_mix_stages,
)

OPERATORS = {
    "mixup": Mixup(1.0, 0.5),
    "quiet partners": Mixup(1.0, 1.0, partner_gain_db=[-40, -30], match_level="rms"),
    "mixup2": Mixup2(2.0, 1.0),
    "cutmix": CutMix(1.0),
}


def one_hot_batch(size: int) -> Examples:
    """Return examples whose waveform is their own number + 1, each of its own class."""
    x = torch.arange(1.0, size + 1)[:, None].expand(size, 8).contiguous()
    return Examples(x, torch.eye(size), known=torch.ones(size, size, dtype=torch.bool))


@pytest.mark.parametrize("name", OPERATORS)
def test_no_mixing_returns_the_examples_themselves(name: str):
    batch = one_hot_batch(6)
    operator = replace(OPERATORS[name], control="no_mixing", linear=True)
    mixed = operator.mix(batch, rng=np.random.default_rng(0))
    assert torch.equal(mixed.x, batch.x)
    assert torch.equal(mixed.target, batch.target)
    assert not operator.may_mix(DrawContext(6), np.random.default_rng(0), 0.0)


@pytest.mark.parametrize("name", OPERATORS)
def test_inputs_only_mixes_inputs_as_the_mix_and_keeps_targets_and_known(name: str):
    batch = one_hot_batch(6)
    batch = batch._replace(known=batch.target == 0)  # a partner would make other labels unknown
    operator = replace(OPERATORS[name], linear=True)
    mixed = operator.mix(batch, rng=np.random.default_rng(3))
    control = replace(operator, control="inputs_only").mix(batch, rng=np.random.default_rng(3))
    assert torch.equal(control.x, mixed.x) and not torch.equal(mixed.x, batch.x)
    assert torch.equal(control.target, batch.target)
    assert torch.equal(control.known, batch.known)


@pytest.mark.parametrize("name", OPERATORS)
def test_resampling_replaces_each_mix_by_one_of_its_sources(name: str):
    batch = one_hot_batch(6)
    operator = replace(OPERATORS[name], linear=True)
    mixed = operator.mix(batch, rng=np.random.default_rng(5))
    control = replace(operator, control="resampling").mix(batch, rng=np.random.default_rng(5))
    chosen = control.x[:, 0].long() - 1
    assert torch.equal(control.x, batch.x[chosen])  # a source at its own level
    assert torch.equal(control.target, batch.target[chosen])
    for example, source in enumerate(chosen.tolist()):
        assert source in mixed.plan.source[example][mixed.plan.used_mask[example]]


def test_resampling_draws_sources_in_proportion_to_their_parts():
    batch = one_hot_batch(2)
    operator = Mixup2(1.0, 1.0, fixed_lambda=0.8, control="resampling")
    rng, rounds = np.random.default_rng(0), 2000
    own = sum(int((operator.mix(batch, rng=rng).x[0] == batch.x[0]).all()) for _ in range(rounds))
    # 5 standard deviations of a binomial count.
    assert abs(own / rounds - 0.8) < 5 * (0.8 * 0.2 / rounds) ** 0.5


def test_resampling_by_a_cut_follows_its_area():
    batch = one_hot_batch(2)
    operator = CutMix(1.0, control="resampling", linear=True)
    plans = [operator.draw(DrawContext(2), np.random.default_rng(seed)) for seed in range(1500)]
    expected = np.mean([1 - plan.boxes.area_fractions((2, 10_000))[0] for plan in plans])
    own = [operator.mix(batch, rng=np.random.default_rng(s)).x[0, 0] == 1 for s in range(1500)]
    assert abs(np.mean(own) - expected) < 5 * (0.25 / 1500) ** 0.5


def test_a_partner_from_a_pool_can_replace_an_example():
    batch = one_hot_batch(2)
    pool = Examples(torch.full((3, 8), 9.0), torch.tensor([[1.0, 1.0]] * 3))
    operator = Inject(1.0, blend=[1.0, 1.0], control="resampling")
    mixed = operator.mix(batch, rng=np.random.default_rng(0), pool=pool)
    assert (mixed.x == 9).all() and (mixed.target == 1).all()


def test_the_control_of_a_run_applies_to_all_its_operators():
    settings = MixSettings(
        mixup_prob=0.5,
        mixup2_prob=0.5,
        injectors=[InjectSettings(0.5, label_sum=0.5)],
        hidden=HiddenSettings(2.0, 0.5),
        control="inputs_only",
    )
    stages = build_mix_stages(settings)
    operators = {**stages.waveform, **stages.spectrogram, **stages.hidden}
    assert {operator.control for operator in operators.values()} == {"inputs_only"}
    assert {operator.effective_rule.share for operator in operators.values()} == {"own"}


def test_an_unknown_control_is_refused():
    with pytest.raises(ValueError, match="'resample' is unknown; did you mean 'resampling'"):
        MixSettings(control="resample")


def test_inputs_only_keeps_the_examples_own_weights():
    batch = one_hot_batch(4)._replace(weight=torch.tensor([1.0, 0.5, 0.25, 0.0]))
    mixed = Mixup2(1.0, 1.0, control="inputs_only").mix(batch, rng=np.random.default_rng(0))
    assert torch.equal(mixed.weight, batch.weight)

"""Several injectors: their pools, groups that never meet on an example, levels and names."""

import numpy as np
import pytest
import torch
from scipy import stats

from birdmix.mix import (
    Chain,
    DrawContext,
    Examples,
    Inject,
    InjectSettings,
    MixSettings,
    OneOf,
    build_mix_stages,
)

POOLS = {"noise": 3, "soundscapes": 5}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def inject_all(chain: Chain, seed: int = 0, batch_size: int = 16):
    """Mix an identity batch of silence with two pools of ones, which have no labels."""
    pool = Examples(torch.ones(8, 4), torch.zeros(8, batch_size))
    x, target = torch.zeros(batch_size, 4), torch.eye(batch_size)
    context = DrawContext(batch_size, POOLS)
    return chain(x, target, rng=rng(seed), pool=pool, context=context)


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_injectors_of_one_group_never_meet_on_one_example(scope: str):
    chain = Chain(
        Inject(0.3, pool="noise", group="a", scope=scope),
        Inject(0.5, pool="soundscapes", group="a", scope=scope),
        Inject(0.2, pool="noise", group="a", scope=scope),
    )
    for seed in range(50):
        mixed = inject_all(chain, seed)
        assert (mixed.x == 1).all()  # exactly one of them, as probabilities add up to 1
        counts = [plan.source_counts > 1 for plan in mixed.plan]
        assert (np.sum(counts, axis=0) == 1).all()


def test_injectors_without_a_group_are_independent_of_each_other():
    chain = Chain(Inject(1.0, pool="noise"), Inject(1.0, pool="soundscapes"))
    mixed = inject_all(chain)
    assert (mixed.x == 2).all()
    first, second = (plan.source[:, 1] - 16 for plan in mixed.plan)
    assert first.max() < 3 <= second.min()


@pytest.mark.slow
def test_injectors_of_a_group_keep_their_probabilities():
    chain = Chain(
        Inject(0.25, pool="noise", group="a"),
        Inject(0.75, pool="noise"),
        Inject(0.5, pool="soundscapes", group="a"),
    )
    counts = np.zeros(3)
    for seed in range(500):
        counts += [(plan.source_counts > 1).sum() for plan in inject_all(chain, seed).plan]
    for count, probability in zip(counts, (0.25, 0.75, 0.5), strict=True):
        assert stats.binomtest(int(count), 500 * 16, probability).pvalue > 0.01


def test_pool_examples_can_be_chosen_by_their_labels():
    target, pool_target = np.eye(2)[[0, 1, 0]], np.eye(2)[[1, 1, 0]]
    context = DrawContext.from_targets(target, {"birds": pool_target})
    for partners, same in (("common_class", True), ("no_common_class", False)):
        for seed in range(20):
            plan = Inject(1.0, pool="birds", partners=partners).draw(context, rng(seed))
            classes = context.primary[plan.source]
            assert ((classes[:, 0] == classes[:, 1]) == same).all()


@pytest.mark.parametrize(
    ("options", "own", "injected"),
    [
        ({}, 1, 1),
        ({"gain": [0.3, 0.3]}, 1, 0.3),
        ({"gain_db": [-20, -20]}, 1, 0.1),
        ({"blend": [0.25, 0.25]}, 0.75, 0.25),
    ],
)
def test_the_level_of_a_pool_example_can_be_stated_in_four_ways(
    options: dict, own: float, injected: float
):
    plan = Inject(1.0, **options).draw(DrawContext(4, {"noise": 4}), rng())
    assert plan.gain[0].tolist() == pytest.approx([own, injected])


def test_injectors_of_a_run_are_named_by_their_pools():
    settings = MixSettings(
        injectors=[
            InjectSettings(0.5, pool="noise"),
            InjectSettings(0.5, pool="soundscapes"),
            InjectSettings(0.5, pool="noise", snr_db=[3.0, 30.0]),
        ]
    )
    stages = build_mix_stages(settings)
    assert list(stages.waveform) == ["inject_noise", "inject_soundscapes", "inject_noise_2"]
    assert stages.waveform["inject_noise_2"].needs_levels


def test_no_injector_is_lost_by_a_name_that_is_taken():
    pools = ["a", "a", "a_2", None, "a"]
    settings = MixSettings(injectors=[InjectSettings(0.5, pool=pool) for pool in pools])
    names = build_mix_stages(settings).operator_names
    assert names == ["inject_a", "inject_a_2", "inject_a_2_2", "inject", "inject_a_3"]


def test_a_pool_example_is_not_of_the_recording_that_it_is_added_to():
    recording = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    context = DrawContext(4, {"balanced": 4}, recording=recording)
    for seed in range(50):
        plan = Inject(1.0, pool="balanced").draw(context, rng(seed))
        assert (recording[plan.source[:, 1]] != recording[:4]).all()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda: MixSettings(
                injectors=[InjectSettings(0.75, group="a"), InjectSettings(0.5, group="a")]
            ),
            "injectors of group a: their probabilities add up to 1.25",
        ),
        (
            lambda: inject_all(Chain(*[Inject(0.6, pool="noise", group="a")] * 2)),
            "group=a: the probabilities of its injectors add up to 1.2",
        ),
        (
            lambda: Inject(0.5, gain=[0.1, 1], snr_db=[0, 1]),
            "gain=.* and snr_db=.*: set one of them",
        ),
        (lambda: Inject(0.5, snr_db=[0, 1], match_level="loudness"), "it states levels by RMS"),
        (lambda: Inject(0.5, snr_db=[30, 3]), "snr_db=.*: a range .* in dB, the lowest first"),
        (lambda: Inject(0.5, snr_db=10), "snr_db=10: it must be a range"),
        (
            lambda: Inject(0.5, label_rule="max"),
            "label_rule='max': pass a LabelRule, or a name as rule",
        ),
        (lambda: Inject(0.5, gain_db=[-np.inf, 0]), "gain_db=.* between -120 and 120"),
        (lambda: Inject(0.5, gain=[0, 1]), r"gain=\[0, 1\]: gains are above 0"),
        (lambda: OneOf(Inject(0.5, group="a")), "its injectors need no group; set group=None"),
        (lambda: Inject(0.5, label_cap=0.5, label_sum=0.5), "set one of them"),
    ],
)
def test_injectors_that_exclude_each_other_raise_an_error(call, expected: str):
    with pytest.raises(ValueError, match=expected):
        call()

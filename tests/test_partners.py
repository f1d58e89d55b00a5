"""Partners of a mix: which examples fit together, what is drawn, and what the host knows."""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from birdmix.mix import Chain, CutMix, DrawContext, Examples, Inject, Mixup, Mixup2, Plan
from birdmix.mix.partners import PARTNERS, draw_fitting_partners


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


#: Eight examples of the classes 0, 0, 0, 1, 1, 2, both 1 and 2, and none.
LABELS = np.zeros((8, 3), bool)
LABELS[[0, 1, 2], 0] = LABELS[[3, 4, 6], 1] = LABELS[[5, 6], 2] = True
CONTEXT = DrawContext(8, labels=LABELS, group=np.array([5, 5, 5, 9, 9, -1, -1, 9]))


def draw(partners: str, num_partners: int = 1, seed: int = 0, context: DrawContext = CONTEXT):
    batch = range(context.batch_size)
    return draw_fitting_partners(context, num_partners, partners, batch, rng(seed))


@pytest.mark.parametrize("partners", PARTNERS)
@pytest.mark.parametrize("num_partners", [1, 3, 7])
def test_no_example_is_its_own_partner_or_has_one_twice(partners: str, num_partners: int):
    for seed in range(20):
        drawn, _ = draw(partners, num_partners, seed)
        assert (drawn != np.arange(8)[:, None]).all()
        assert all(len(set(row)) == num_partners for row in drawn.tolist())


def test_partners_without_a_common_class_have_none_among_each_other_either():
    for seed in range(50):
        drawn, unfit = draw("no_common_class", 2, seed)
        sources = np.concatenate([np.arange(8)[:, None], drawn], axis=1)
        times_present = LABELS[sources].sum(axis=1).max(axis=1)
        assert ((times_present <= 1) == ~unfit.any(axis=1)).all()
        assert unfit[[0, 3, 5, 7]].sum() == 0  # for these two always fit, whatever the first is


def test_partners_of_a_common_class_have_one_where_there_is_any():
    drawn, unfit = draw("common_class")
    assert (LABELS[drawn[:, 0]] & LABELS).any(axis=1).tolist() == [True] * 7 + [False]
    assert unfit[:, 0].tolist() == [False] * 7 + [True]  # the last has no class


def test_partners_of_the_same_group_are_of_it_and_an_unknown_group_is_none():
    drawn, unfit = draw("same_group")
    fits = [True, True, True, True, True, False, False, True]
    assert (CONTEXT.group[drawn[:, 0]] == CONTEXT.group)[fits].all()
    assert (~unfit[:, 0]).tolist() == fits


def test_segments_of_the_own_recording_fit_only_as_the_same_group():
    recording = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    context = CONTEXT._replace(recording=recording)
    for seed in range(30):
        drawn, _ = draw("any", 2, seed, context)
        assert (recording[drawn] != recording[:, None]).all()
    drawn = np.array([draw("same_group", 1, seed, context)[0][0, 0] for seed in range(30)])
    assert set(drawn) == {1, 2}


def test_partners_can_come_from_a_pool_and_are_never_of_the_own_recording():
    x, target = torch.eye(6), torch.eye(6)[:, :3]
    pool = Examples(torch.zeros(5, 6), torch.zeros(5, 3))
    recording = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4])
    context = DrawContext(6, {"noise": 2, "balanced": 3}, recording=recording)
    mixup = Mixup(1.0, 1.0, partner_pool="balanced")
    mixed = mixup(x, target, rng=rng(), pool=pool, context=context)
    partners = mixed.plan.source[:, 1]
    assert partners.min() >= 8 and partners.max() < 11
    assert (recording[partners] != recording[:6]).all()
    one = mixup(x[:1], target[:1], rng=rng(), pool=pool, context=context._replace(batch_size=1))
    assert one.plan.source_counts.tolist() == [2]  # a batch of one is enough


def test_two_partners_are_not_of_one_recording():
    context = DrawContext(2, {"a": 4}, recording=np.array([8, 9, 0, 0, 1, 2]))
    for seed in range(30):
        drawn, _ = draw_fitting_partners(context, 3, "any", context.candidates("a"), rng(seed))
        assert sorted(context.recording[drawn[0]]) == [0, 1, 2]


def test_there_is_no_warning_about_partners_that_are_not_used():
    labels = np.ones((8, 1), bool)  # nothing fits
    operator = Mixup(0.1, 1.0, partners="no_common_class", scope="sample")
    num_warnings = num_unfit = 0
    for seed in range(50):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            plan = operator.draw(DrawContext(8, labels=labels), rng(seed))
        num_warnings += len(caught)
        num_unfit += plan.num_unfit > 0
    assert 0 < num_warnings == num_unfit < 50


def test_unfit_partners_are_counted_where_they_are_used():
    operator = Mixup2(1.0, 1.0, partners="no_common_class", scope="sample")
    same = DrawContext.from_targets(np.ones((4, 2)))
    with pytest.warns(UserWarning, match="too few partners fit"):
        plan = operator.draw(same, rng())
    assert plan.num_unfit == 4 and plan.unfit.tolist() == [[False, True]] * 4
    assert plan.restrict_to(np.array([True, False, True, False])).num_unfit == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert operator.draw(DrawContext.from_targets(np.eye(4)), rng()).num_unfit == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("partners", "example", "fitting"),
    [
        ("no_common_class", 0, [3, 4, 5, 6, 7]),
        ("common_class", 3, [4, 6]),
        ("same_group", 7, [3, 4]),
        ("any", 2, [0, 1, 3, 4, 5, 6, 7]),
    ],
)
def test_all_fitting_partners_are_equally_likely(partners: str, example: int, fitting: list):
    drawn = [draw(partners, 1, seed)[0][example, 0] for seed in range(4000)]
    counts = np.bincount(drawn, minlength=8)
    assert counts.sum() == counts[fitting].sum()
    assert stats.chisquare(counts[fitting]).pvalue > 0.01


# The context


def test_the_context_follows_from_targets():
    context = DrawContext.from_targets(
        np.array([[0.2, 0.9], [0, 0]]), {"noise": np.array([[0.5, 0.5]])}
    )
    assert context.labels.tolist() == [[True, True], [False, False], [True, True]]
    assert context.primary.tolist() == [1, -1, 0]
    assert context.pool_sizes == {"noise": 1} and context.num_pool_examples == 1


def test_after_a_mix_an_example_has_the_labels_of_all_its_sources():
    context = DrawContext.from_targets(np.eye(3))
    plan = Plan(np.array([[0, 1], [1, 1], [2, 0]]), np.array([[1, 1], [1, 0], [1, 0.5]]))
    after = context.after(plan)
    assert after.labels.tolist() == [[True, True, False], [False, True, False], [True, False, True]]
    assert context.labels.sum() == 3  # the context before is not changed


def test_a_chain_draws_partners_by_the_labels_of_the_mixes_before():
    eye = torch.eye(6)
    chain = Chain(Mixup(1.0, 1.0), CutMix(1.0, partners="no_common_class"))
    context = DrawContext.from_targets(eye.numpy())
    for seed in range(20):
        mixed = chain(eye[..., None], eye, rng=rng(seed), context=context)
        sums, cut = mixed.plan
        labels = context.after(sums).labels
        if not cut.num_unfit:
            assert not (labels & labels[cut.source[:, 1]]).any()


def test_contexts_of_pools_are_joined_in_order():
    batch, pool = DrawContext.from_targets(np.eye(2)), DrawContext.from_targets(np.ones((1, 2)))
    batch, pool = batch._replace(row=np.array([7, 8])), pool._replace(row=np.array([3]))
    joined = batch.append_pools({"a": pool, "b": pool._replace(batch_size=1, primary=None)})
    assert joined.pool_sizes == {"a": 1, "b": 1}
    assert joined.row.tolist() == [7, 8, 3, 3] and joined.primary is None
    assert [list(joined.candidates(name)) for name in ("a", "b", None)] == [[2], [3], [2, 3]]


# Invalid input


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Mixup(1.0, partners="same_site"), "partners='same_site'"),
        (
            lambda: Mixup2(1.0, 1.0, partners="common_class").draw(DrawContext(4), rng()),
            r"partners=common_class needs the labels of the examples; pass context=DrawContext.fr",
        ),
        (
            lambda: Mixup2(1.0, 1.0, partners="same_group").draw(DrawContext(4), rng()),
            r"needs the group of the examples; pass .*_replace\(group=numbers\)",
        ),
        (
            lambda: Inject(1.0, pool="noise").draw(DrawContext(4, {"birds": 2}), rng()),
            r"no pool 'noise' in this batch, which has \['birds'\]",
        ),
        (
            lambda: Mixup(1.0, 0.0, partner_pool="a").draw(DrawContext(4, {"a": 1}), rng()),
            r"2 partners are drawn for each example, and there are only 1 candidates",
        ),
    ],
)
def test_partners_that_cannot_be_drawn_raise_an_error(call, expected: str):
    with pytest.raises(ValueError, match=expected):
        call()

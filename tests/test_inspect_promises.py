"""What settings of a mix promise, against hand-computed values and against what is drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from birdmix.experiments.inspection.batch_replay import ReplayedBatch
from birdmix.experiments.inspection.distribution_views import distribution_views
from birdmix.experiments.inspection.mix_observations import MixObservations, OperatorObservations
from birdmix.experiments.inspection.mix_promises import (
    chance_interval,
    gate_probability,
    own_part_cdf,
    own_snr_cdf,
    source_count_probabilities,
)
from birdmix.experiments.inspection.source_tracing import trace_operators
from birdmix.loading.batch import Batch
from birdmix.mix import (
    CutMix,
    DrawContext,
    Examples,
    Inject,
    LabelRule,
    MixStages,
    Mixup,
    Mixup2,
    Operator,
    Schedule,
)
from birdmix.random_keys import StepKeys
from birdmix.training.training_step import PreparedBatch, mix_batch

# Values in closed form


def test_the_rate_follows_the_schedule():
    operator = Mixup(mixup_prob=Schedule(0.8, 0.4))
    rates = [gate_probability(operator, at) for at in (0, 0.5, 1)]
    assert rates == pytest.approx([0.8, 0.6, 0.4])


def test_a_source_count_of_one_is_no_mix():
    operator = Mixup(mixup_prob=0.8, max_sources=4)
    counts = source_count_probabilities(operator, 0)
    assert counts == pytest.approx({1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25})  # uniform by [1, 1]
    assert gate_probability(operator, 0) == pytest.approx(0.6)


def test_the_number_of_sources_follows_mixup_double_or_the_list():
    assert source_count_probabilities(Mixup(1, 0.7), 0) == pytest.approx({2: 0.7, 3: 0.3})
    listed = Mixup2(1, 1, num_sources2=[0.5, 0.0, 0.5])
    assert source_count_probabilities(listed, 0) == pytest.approx({2: 0.5, 4: 0.5})


@pytest.mark.parametrize(
    ("operator", "num_sources", "part", "probability"),
    [
        (Mixup2(1, 1), 2, 0.3, 0.3),  # Beta(1, 1) is uniform
        (Mixup2(1, 1, own_is_larger=True), 2, 0.75, 0.5),  # uniform between .5 and 1
        (Mixup2(1, 1, min_lambda=0.4), 2, 0.39, 0.0),
        (Mixup2(1, 1, min_lambda=0.4), 2, 0.41, 0.41),
        (Mixup2(1, 1, num_sources2=[0, 1]), 3, 0.5, 0.75),  # Beta(1, 2): 1 - (1 - x)^2
        (Mixup(1, mix_beta=1), 3, 0.5, 0.75),
        (Mixup(1), 4, 0.24, 0.0),
        (Mixup(1), 4, 0.26, 1.0),
        (Mixup(1, partner_gain_db=[-20, 0]), 2, 1 / (1 + 10**-0.5), 0.5),  # -10 dB
        (CutMix(1), 2, 0.2, 0.2),
        (Inject(1, gain=[0.5, 1]), 2, 1 / 1.75, 0.5),
        (Inject(1, gain_db=[-20, 0]), 2, 1 / (1 + 10**-0.5), 0.5),
        (Inject(1, snr_db=[0, 20]), 2, 1 / (1 + 10**-0.5), 0.5),
        (Inject(1, blend=[0.2, 0.6]), 2, 0.6, 0.5),
        (Inject(1), 2, 0.51, 1.0),
    ],
)
def test_the_law_of_lambda_has_its_hand_computed_value(
    operator: Operator, num_sources: int, part: float, probability: float
):
    law = own_part_cdf(operator, 0, num_sources)
    assert law is not None
    assert law(np.array([part])) == pytest.approx([probability], abs=1e-6)


def test_the_level_of_a_matched_partner_has_the_law_of_its_gain():
    law = own_part_cdf(Inject(1, snr_db=[3, 30]), 0, 2)
    assert law is not None
    at = own_snr_cdf(law)(np.array([2.9, 3 + 27 / 3, 30.1]))
    np.testing.assert_allclose(at, [0, 1 / 3, 1], atol=1e-6)


def test_nothing_is_promised_without_a_closed_form():
    assert own_part_cdf(Mixup(1, source_gain=[0.3, 1]), 0, 2) is None
    assert own_part_cdf(Mixup(1, partner_gain_db=[-9, 0]), 0, 3) is None


def test_chance_leaves_a_binomial_interval():
    low, high = chance_interval(np.array([0.5, 0.0, 1.0]), 100)
    assert low.tolist() == pytest.approx([0.34, 0, 1])  # 3.3 standard deviations of .05
    assert high.tolist() == pytest.approx([0.66, 0, 1])


# Draws


def observe(operator: Operator, promised: Operator | None = None, num_batches: int = 300):
    """Draw batches with an operator; return them beside what it, or another one, promises."""
    name, num_examples, pool_size = "mixup", 12, 6
    observations = OperatorObservations(promised or operator, on_waveforms=False)
    x = torch.ones(num_examples, 1, 8, 40)
    x_pool = torch.ones(pool_size, 1, 8, 40)
    level, pool_level = torch.zeros(num_examples), torch.zeros(pool_size)
    batch = Batch(
        Examples(x, torch.eye(num_examples), level=level),
        DrawContext(num_examples, {"pool": pool_size}),
        Examples(x_pool, torch.zeros(pool_size, num_examples), level=pool_level),
    )
    for number in range(num_batches):
        keys = StepKeys(0, 0, number, progress=number / num_batches)
        applied = []
        mix_batch({name: operator}, batch, keys, applied.append)
        (traced,) = trace_operators(applied, 40)
        observations.add(traced, keys.progress)
    stages = MixStages({}, {name: operator}, {}, (), 0)
    all_observations = MixObservations.of_stages(stages, None)
    all_observations.operators[name] = observations
    all_observations.label_mass_in = all_observations.label_mass_out = [1.0]
    views = [view for view in distribution_views(all_observations) if view.verdict]
    return {view.name.removeprefix(f"{name}: "): view for view in views}


@pytest.mark.parametrize(
    "operator",
    [
        Mixup(0.7, 0.3),
        Mixup(Schedule(0.2, 0.9), num_sources=[0.5, 0, 0.5], scope="sample"),
        Mixup(0.8, max_sources=4, source_count_beta=[2, 1]),
        Mixup(0.7, 0.5, mix_beta=Schedule(0.5, 3)),
        Mixup(1, 1, partner_gain_db=[-15, 3]),
        Mixup2(2, 0.5),
        Mixup2(Schedule(0.3, 4), 1, num_sources2=[0.4, 0.3, 0.3], scope="sample"),
        Mixup2(0.4, 1, own_is_larger=True, min_lambda=0.6),
        Mixup2(1, 1, lambda_per="batch"),
        Mixup2(1, 1, fixed_lambda=0.625),
        CutMix(0.5, 1.5, axis="box"),
        CutMix(1, 0.3, axis="time", scope="sample"),
        Inject(0.3, gain=[0.2, 0.9]),
        Inject(0.3, gain_db=[-30, -3]),
        Inject(0.3, snr_db=[-5, 25]),
        Inject(1, blend=[0.1, 0.7]),
        Inject(0.5),
    ],
    ids=str,
)
def test_draws_keep_the_promises_of_their_settings(operator: Operator):
    views = observe(operator)
    assert "how often" in views
    assert "lambda, the part of the mix that is the example itself" in views
    assert [view.verdict for view in views.values() if view.is_broken] == []


@pytest.mark.parametrize(
    ("drawn", "promised", "broken"),
    [
        (Mixup(0.7), Mixup(0.5), "how often"),
        (Mixup(1, 0.5), Mixup(1, 0.8), "number of sources"),
        (Mixup2(1, 1), Mixup2(2, 1), "lambda, the part of the mix that is the example itself"),
    ],
)
def test_draws_of_other_settings_break_the_promise(
    drawn: Operator, promised: Operator, broken: str
):
    views = observe(drawn, promised)
    assert [name for name, view in views.items() if view.is_broken] == [broken]
    assert views[broken].verdict.startswith("differs: ")


# Audibility and labels


def observe_batch(
    operator: Operator, x: torch.Tensor, min_snr_db: float | None = None
) -> MixObservations:
    """Observe one batch of waveforms, each with a class of its own."""
    stages = MixStages({"mixup": operator}, {}, {}, (), 0)
    observations = MixObservations.of_stages(stages, min_snr_db)
    num_examples = len(x)
    batch = Batch(Examples(x, torch.eye(num_examples)), DrawContext(num_examples))
    applied, keys = [], StepKeys(0, 0, 0)
    mixed, plans = mix_batch(stages.waveform, batch, keys, applied.append)
    peak = mixed.examples.x.abs().amax(dim=1)
    prepared = PreparedBatch(mixed, plans, peak, torch.ones(num_examples, dtype=torch.bool))
    replayed = ReplayedBatch((0, 0), keys, batch, applied, prepared, None, mixed.examples)
    observations.add(replayed, trace_operators(applied, x.shape[1]))
    return observations


def quiet_and_loud() -> torch.Tensor:
    """Two noises, one 26 dB above the other."""
    x = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    return x * torch.tensor([[0.02], [0.4]])


def test_a_label_whose_sources_are_all_far_below_the_loudest_is_inaudible():
    observations = observe_batch(Mixup(1, 1), quiet_and_loud())
    # Both mixes hold both classes; the quiet one is 26 dB below, beyond the 20 of the convention.
    assert (observations.num_positives, observations.num_inaudible) == (4, 2)


def test_the_threshold_is_that_of_the_settings():
    assert observe_batch(Mixup(1, 1), quiet_and_loud(), min_snr_db=-30).num_inaudible == 0


def test_settings_with_a_threshold_promise_that_every_label_can_be_heard():
    rule = LabelRule("full", "sum", min_snr_db=-20)
    observations = observe_batch(
        replace(Mixup(1, 1), label_rule=rule), quiet_and_loud(), min_snr_db=-20
    )
    assert (observations.num_positives, observations.num_inaudible) == (2, 0)
    (view,) = [v for v in distribution_views(observations) if "hear" in v.name]
    assert (view.verdict, view.is_broken) == ("as promised", False)


def test_peaks_above_1_are_counted_as_clipped():
    x = torch.full((2, 100), 0.6)
    assert observe_batch(Mixup(1, 1), x).num_clipped == 2
    assert observe_batch(Mixup(1, 1, post="peak_guard"), x).num_clipped == 0


@pytest.mark.parametrize(
    ("operator", "is_kept"),
    [
        (Mixup2(1, 1), True),
        (Mixup2(1, 1, own_is_larger=True), True),
        (CutMix(1), True),
        (Mixup(1), False),
        (Mixup(1, mixup_rule="convex"), True),
        (Mixup(1, mixup_rule="convex", partner_pool="other"), False),
        (Mixup(1, mixup_rule="convex", partners="no_common_class"), False),
        (Inject(1, rule="convex"), False),
    ],
    ids=str,
)
def test_only_parts_among_the_batch_keep_the_sum_of_labels(operator: Operator, is_kept: bool):
    stages = MixStages({"mixup": operator}, {}, {}, (), 0)
    assert MixObservations.of_stages(stages, None).keeps_label_mass == is_kept

"""The training step: mixing of batches, the network's input, and the mix statistics."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from birdmix.augment import (
    AugmentSettings,
    FreqMixStyleSettings,
    GainSettings,
    build_augment_stages,
)
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import AttenuationSettings, LogMelSettings, MaskingSettings
from birdmix.loading.batch import Batch
from birdmix.loading.run_data import open_data
from birdmix.loading.segment_dataset import SegmentDataset
from birdmix.mix import (
    CutMix,
    CutMixSettings,
    DrawContext,
    Examples,
    HiddenSettings,
    InjectSettings,
    MixSettings,
    MixStages,
    MixStats,
    Mixup,
    Mixup2,
    Plan,
    Schedule,
    build_mix_stages,
)
from birdmix.mix.post_scaling import peaks
from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.hidden_mix import HiddenMix
from birdmix.model.loss_settings import LossSettings
from birdmix.model.losses import build_loss
from birdmix.random_keys import StepKeys
from birdmix.training.out_of_memory import first_examples
from birdmix.training.training_step import (
    PreparedBatch,
    TrainingStep,
    draw_hidden_layer,
    mix_batch,
    will_mix_batch,
)
from tests.conftest import SMALL, make_config, train

FRONT_END = LogMelSettings(n_fft=64, hop_length=64, n_mels=4)
AUGMENTED = build_augment_stages(
    AugmentSettings(
        gain=GainSettings(prob=1.0, gain_db=[-30, 0]), freq_mix_style=FreqMixStyleSettings(prob=1.0)
    ),
    FRONT_END,
)


class Classifier(nn.Module):
    """Logits of four classes are the means of the four mel bins, of which any layer is a copy."""

    def forward(self, mel: Tensor, hidden_mix: HiddenMix | None = None) -> ClassifierOutput:
        logits = mel.mean(dim=(1, 3))
        return ClassifierOutput(logits if hidden_mix is None else hidden_mix.mix(logits))


def step(settings: MixSettings) -> TrainingStep:
    return TrainingStep(
        mix_stages=build_mix_stages(settings),
        log_mel=LogMel(FRONT_END),
        masking=MaskingSettings(),
        attenuation=AttenuationSettings(),
        classifier=Classifier(),
        loss=build_loss(LossSettings(), np.ones(4), 1, has_frames=False),
    )


def batch_of(x: Tensor) -> Batch:
    known = torch.ones(len(x), 4, dtype=torch.bool)
    target = torch.eye(4).repeat(len(x) // 4, 1)
    return Batch(
        Examples(x, target, torch.ones(len(x)), known), DrawContext.from_targets(target.numpy())
    )


def waveforms(batch_size: int = 4) -> Tensor:
    return 0.1 * torch.randn(batch_size, 256, generator=torch.Generator().manual_seed(0))


def keys(batch: int = 0, progress: float = 0.0) -> StepKeys:
    return StepKeys(seed=0, epoch=0, batch=batch, progress=progress)


def loss_of(
    training_step: TrainingStep, batch: Batch, index: int = 0, stats: MixStats | None = None
) -> Tensor:
    """Return the loss of the only view of a batch."""
    (view,) = training_step(
        batch, keys(index), stats or MixStats(training_step.mix_stages.operator_names)
    )
    assert view.view_weight == 1
    return view.loss


def mix_metrics(settings: MixSettings, batch: Batch, num_batches: int = 1) -> dict[str, float]:
    training_step = step(settings)
    stats = MixStats(training_step.mix_stages.operator_names)
    for index in range(num_batches):
        assert loss_of(training_step, batch, index, stats).isfinite()
    return stats.compute()


ALL = MixSettings(
    mixup_prob=1.0,
    cutmix=CutMixSettings(prob=1.0),
    mixup2_prob=1.0,
    hidden=HiddenSettings(mix_beta2=2.0, mixup2_prob=1.0),
)


def test_decisions_of_all_operators_to_mix_are_independent():
    half = MixSettings(
        mixup_prob=0.5, cutmix=CutMixSettings(prob=0.5), mixup2_prob=0.5, mix_beta2=1.0
    )
    stages = build_mix_stages(half)
    batch = batch_of(waveforms()[:, None, None, :16])

    def plans(index: int) -> list[Plan]:
        operators = {**stages.waveform, **stages.spectrogram}
        return list(mix_batch(operators, batch, keys(index))[1].values())

    mixed = np.array([[not plan.is_identity for plan in plans(index)] for index in range(700)])
    assert mixed.shape == (700, 3)
    assert np.abs(mixed.mean(axis=0) - 0.5).max() < 0.06
    correlation = np.corrcoef(mixed.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.1


def test_high_frequencies_are_attenuated():
    plain = step(MixSettings())
    attenuated = replace(plain, attenuation=AttenuationSettings(prob=1.0))
    before, after = (
        each.prepare_batch(batch_of(waveforms()), keys()).batch.examples.x
        for each in (plain, attenuated)
    )
    assert torch.equal(before[:, :, 0], after[:, :, 0])  # the lowest mel bin
    assert (before[:, :, -1] - after[:, :, -1]).amax() > 0 and (after <= before).all()


def test_examples_without_known_labels_do_not_change_the_loss():
    batch = batch_of(waveforms())
    known = batch.examples.known & torch.tensor([1, 1, 0, 0], dtype=torch.bool)[:, None]
    partly_known = batch._replace(examples=batch.examples._replace(known=known))
    known = first_examples(batch, 2)
    (view,), (expected,) = (
        step(MixSettings())(each, keys(), MixStats([])) for each in (partly_known, known)
    )
    assert view.sum_of_weights == 2
    torch.testing.assert_close(view.loss, expected.loss)


def test_operators_have_a_fixed_order():
    assert build_mix_stages(ALL).operator_names == ["mixup", "cutmix", "mixup2", "hidden"]
    assert build_mix_stages(MixSettings()).operator_names == []


def test_whether_a_batch_is_mixed_is_known_without_its_data():
    settings = MixSettings(mixup_prob=0.2, mixup2_prob=0.2)
    stages = build_mix_stages(settings)
    predicted, mixed = [], []
    for index in range(20):
        plans = step(settings).prepare_batch(batch_of(waveforms()), keys(index)).plans
        mixed.append(not all(plan.is_identity for plan in plans.values()))
        operators = {**stages.waveform, **stages.spectrogram}
        predicted.append(will_mix_batch(operators, DrawContext(4), keys(index)))
    assert predicted == mixed and 0 < sum(mixed) < 20


def test_the_mix_pool_is_added_to_summed_waveforms_with_its_labels():
    settings = MixSettings(
        mixup_prob=1.0,
        mixup_double=1.0,
        injectors=[InjectSettings(prob=1.0, gain=[0.5, 0.5], label_cap=0.6)],
    )
    assert build_mix_stages(settings).operator_names == [
        "mixup",
        "inject",
    ]
    batch = batch_of(waveforms())
    pool = batch_of(10 * waveforms()).examples._replace(target=torch.ones(4, 4))
    context = DrawContext.from_targets(np.eye(4), {"pool": np.ones((4, 4))})
    batch = batch._replace(context=context, pool=pool)
    injected, plain = (
        step(each).prepare_batch(batch, keys())
        for each in (settings, replace(settings, injectors=[]))
    )
    assert (injected.peak > 2 * plain.peak).all()
    expected = torch.maximum(plain.batch.examples.target, torch.tensor(0.6 / 4))
    assert torch.allclose(injected.batch.examples.target, expected)
    assert mix_metrics(settings, batch)["mix_inject_rate"] == 1
    with pytest.raises(ValueError, match="there is no pool to draw from"):
        step(settings).prepare_batch(batch_of(waveforms()), keys())


def test_augmentation_of_mixed_waveforms_is_a_function_of_the_batch_keys():
    augmented = replace(step(MixSettings()), augment_stages=AUGMENTED)
    batch = batch_of(waveforms())
    first, repeated, other = (augmented.prepare_batch(batch, keys(at)).peak for at in (0, 0, 1))
    assert torch.equal(first, repeated) and not torch.equal(first, other)
    assert len(set((first / peaks(batch.examples.x)).tolist())) == 4  # a gain for each example


def test_a_schedule_switches_all_operators():
    late = MixSettings(**{**vars(ALL), "schedule": Schedule(1.0, off_from=0.8)})
    training_step, batch = step(late), batch_of(waveforms())

    def are_identities(progress: float) -> set[bool]:
        inputs = training_step.prepare_batch(batch, keys(progress=progress))
        return {plan.is_identity for plan in inputs.plans.values()}

    assert are_identities(0.79) == {False} and are_identities(0.8) == {True}


def hidden(*layers: str, **options) -> MixSettings:
    return MixSettings(
        hidden=HiddenSettings(mix_beta2=2.0, mixup2_prob=1.0, layers=list(layers), **options)
    )


@pytest.mark.parametrize("layer", ["input", "layer1", "features", "pooled"])
def test_a_mixed_layer_has_the_loss_of_its_mixed_targets(layer: str):
    settings = hidden(layer, fixed_lambda=0.25)
    training_step = step(settings)
    batch = batch_of(waveforms())
    stats = MixStats(["hidden"])
    loss = loss_of(training_step, batch, stats=stats)
    mel = training_step.prepare_batch(batch, keys()).batch.examples.x
    rng = keys().rng("mix.hidden")
    mixed = Mixup2(2.0, 1.0, fixed_lambda=0.25)(mel, batch.examples.target, rng=rng)
    logits = mixed.x.mean(dim=(1, 3))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, mixed.target)
    torch.testing.assert_close(loss, expected)
    assert stats.compute()["mix_hidden_rate"] == 1


def test_label_rules_by_loudness_use_the_levels_of_the_sound_at_every_layer():
    training_step = step(hidden("pooled", fixed_lambda=0.5, mixup2_rule="amplitude"))
    x = waveforms()
    x[:2] *= 100  # features [B, D] look like waveforms; their own level is another one
    inputs = training_step.prepare_batch(batch_of(x), keys())
    mix = training_step.mix_stages.hidden
    mixed, plans = mix_batch(mix, inputs.batch.replace_x(torch.ones(4, 8)), keys())
    source = plans["hidden"].source
    loudness = x.square().mean(dim=1).sqrt()[torch.from_numpy(source)]
    share = loudness / loudness.sum(dim=1, keepdim=True)
    target = torch.eye(4)[torch.from_numpy(source)]
    expected = (share[..., None] * target).sum(dim=1)  # levels are means over 50 unequal intervals
    torch.testing.assert_close(mixed.examples.target, expected, rtol=0, atol=1e-3)


def test_the_layer_of_a_batch_is_the_same_in_all_processes():
    stages = build_mix_stages(hidden("input", "layer1", "pooled"))
    draws = [
        [draw_hidden_layer(stages, StepKeys(0, epoch, batch, rank)) for rank in range(3)]
        for epoch in range(2)
        for batch in range(20)
    ]
    assert all(len(set(of_ranks)) == 1 for of_ranks in draws)
    assert {of_ranks[0] for of_ranks in draws} == {"input", "layer1", "pooled"}
    assert draw_hidden_layer(build_mix_stages(MixSettings()), keys()) is None


@pytest.mark.slow
def test_layers_are_drawn_with_equal_probability():
    stages = build_mix_stages(hidden("input", "layer1", "pooled"))
    drawn = [draw_hidden_layer(stages, keys(batch)) for batch in range(6000)]
    counts = np.array([drawn.count(layer) for layer in stages.hidden_layers])
    assert np.abs(counts - 2000).max() < 4 * np.sqrt(6000 * 1 / 3 * 2 / 3)  # standard deviations
    is_first = np.array(drawn) == "input"
    assert abs(np.corrcoef(is_first[1:], is_first[:-1])[0, 1]) < 4 / np.sqrt(6000)


@pytest.mark.parametrize("rule", ["convex", "union", "max", "noisy_or", "amplitude"])
def test_every_label_rule_works_on_log_mels(rule: str):
    settings = MixSettings(
        mixup2_prob=1.0,
        cutmix=CutMixSettings(prob=1.0, rule=rule),
        mixup2_rule=rule,
        min_snr_db=-30.0,
    )
    x = waveforms()
    x[1] = 0  # silent, so its label must not be added
    inputs = step(settings).prepare_batch(batch_of(x), keys())
    assert inputs.batch.examples.target[:, 1].max() == 0
    assert inputs.batch.examples.level is not None and inputs.batch.examples.level.shape == (4, 50)


def test_levels_are_computed_only_if_an_operator_needs_them():
    assert step(ALL).prepare_batch(batch_of(waveforms()), keys()).batch.examples.level is None


def test_examples_with_nan_are_blanked_and_have_weight_zero():
    x = waveforms(8)
    x[3, 10] = float("nan")
    batch = batch_of(x)
    inputs: PreparedBatch = step(MixSettings(mixup_prob=1.0)).prepare_batch(batch, keys())
    plan = inputs.plans["mixup"]
    contains_nan = torch.from_numpy(((plan.source == 3) & plan.used_mask).any(axis=1))
    assert torch.equal(~inputs.finite, contains_nan)
    assert inputs.batch.examples.x.isfinite().all()
    assert (inputs.batch.examples.weight == 0).tolist() == contains_nan.tolist()
    metrics = mix_metrics(MixSettings(mixup_prob=1.0), batch)
    assert metrics["mix_nonfinite"] == contains_nan.sum()


# The clean view


def test_the_clean_view_is_the_input_of_a_run_without_mixing():
    mixing, plain = (
        replace(
            step(settings),
            augment_stages=AUGMENTED,
            masking=MaskingSettings(prob=1.0),
            attenuation=AttenuationSettings(prob=1.0),
        )
        for settings in (replace(ALL, clean_weight=0.5), MixSettings())
    )
    batch = batch_of(waveforms())
    clean = mixing.prepare_clean_view(batch, keys()).examples
    expected = plain.prepare_batch(batch, keys()).batch.examples
    assert torch.equal(clean.x, expected.x) and torch.equal(clean.target, batch.examples.target)
    assert not torch.equal(clean.x, mixing.prepare_batch(batch, keys()).batch.examples.x)


@pytest.mark.parametrize("layer", ["input", "pooled"])
def test_mixed_and_clean_view_have_the_losses_of_runs_with_and_without_mixing(layer: str):
    settings = replace(hidden(layer), mixup_prob=1.0, mixup2_prob=1.0)
    mixing, plain, both = map(step, (settings, MixSettings(), replace(settings, clean_weight=0.25)))
    shapes = []
    both.classifier.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    batch = batch_of(waveforms())
    names = both.mix_stages.operator_names
    stats, expected_stats = MixStats(names), MixStats(names)
    mixed, clean = both(batch, keys(), stats)
    assert (mixed.view_weight, clean.view_weight) == (0.75, 0.25)
    torch.testing.assert_close(mixed.loss, loss_of(mixing, batch, stats=expected_stats))
    torch.testing.assert_close(clean.loss, loss_of(plain, batch))
    assert mixed.loss != clean.loss
    assert stats.state_dict() == expected_stats.state_dict()
    assert [shape[0] for shape in shapes] == [8]  # one pass over both views


def test_a_corrupt_example_is_blanked_in_the_clean_view_alone():
    x = waveforms(8)
    x[3, 10] = float("nan")
    batch = batch_of(x)
    both = step(MixSettings(mixup_prob=1.0, clean_weight=0.5))
    stats = MixStats(["mixup"])
    mixed, clean = both(batch, keys(), stats)
    assert mixed.loss.isfinite() and clean.loss.isfinite()
    assert clean.sum_of_weights == 7
    assert stats.compute()["mix_nonfinite"] == 8 - mixed.sum_of_weights > 1


# Mix statistics


def test_mix_statistics_of_all_operators():
    metrics = mix_metrics(ALL, batch_of(waveforms()), num_batches=30)
    for name in ("mixup", "cutmix", "mixup2", "hidden"):
        assert metrics[f"mix_{name}_rate"] == 1
    assert 2 < metrics["mix_mixup_sources"] < 3
    assert metrics["mix_mixup2_sources"] == 2
    assert metrics["mix_self_pairs"] == 0 and metrics["mix_nonfinite"] == 0
    low, median, high = (metrics[f"mix_mixup2_lambda_p{p}"] for p in (10, 50, 90))
    assert 0.1 < low < 0.35 < median < 0.65 < high < 0.9  # Beta(2, 2): .196, .5, .804
    assert metrics["mix_label_mass_in"] == 1
    assert 1.5 < metrics["mix_label_mass_out"] <= 3


def test_mix_statistics_count_the_layers_if_there_are_several():
    batch = batch_of(waveforms())
    training_step = step(hidden("input", "pooled"))
    assert training_step.mix_stages.counted_layers == ("input", "pooled")
    stats, second = (MixStats(["hidden"], ["input", "pooled"]) for _ in range(2))
    for index in range(8):
        training_step(batch, keys(index), stats)
    second.load_state_dict(stats.state_dict(), torch.device("cpu"))
    for metrics in (second.compute(), MixStats.merge([stats.state_dict()] * 2).compute()):
        rates = [metrics[f"mix_hidden_{layer}_rate"] for layer in ("input", "pooled")]
        assert sum(rates) == metrics["mix_hidden_rate"] == 1 and 0 < rates[0] < 1
    assert not step(hidden("input")).mix_stages.counted_layers
    assert not step(MixSettings()).mix_stages.counted_layers


def test_mix_statistics_count_examples_if_mixing_is_decided_per_example():
    metrics = mix_metrics(
        MixSettings(mixup_prob=0.25, scope="sample"), batch_of(waveforms(16)), num_batches=100
    )
    assert metrics["mix_mixup_rate"] == pytest.approx(0.25, abs=0.04)


def test_mix_statistics_count_clipped_waveforms():
    loud = waveforms()
    loud[0, 5] = 1.5
    assert mix_metrics(MixSettings(), batch_of(loud))["mix_clipped"] == 1


def test_mix_statistics_count_pairs_of_an_example_with_itself():
    stats = MixStats(["mixup"])
    plan = Plan(np.array([[0, 0], [1, 0]]), np.ones((2, 2), np.float32))
    flags = torch.ones(2, dtype=torch.bool)
    stats.update({"mixup": plan}, torch.eye(2), torch.eye(2), (2, 9), torch.ones(2), flags)
    assert stats.compute()["mix_self_pairs"] == 1


def test_quantiles_without_mixes_are_nan():
    metrics = mix_metrics(MixSettings(mixup_prob=0.001), batch_of(waveforms()))
    assert metrics["mix_mixup_rate"] == 0 and np.isnan(metrics["mix_mixup_lambda_p50"])


def test_mix_statistics_resume_from_their_state():
    batch = batch_of(waveforms())
    training_step = step(ALL)
    uninterrupted, first, second = (
        MixStats(training_step.mix_stages.operator_names) for _ in range(3)
    )
    for index in range(6):
        training_step(batch, keys(index), uninterrupted)
        training_step(batch, keys(index), first if index < 3 else second)
        if index == 2:
            second.load_state_dict(first.state_dict(), torch.device("cpu"))
    assert second.compute() == uninterrupted.compute()
    assert second.state_dict() == uninterrupted.state_dict()


def test_quantiles_follow_the_drawn_lambdas():
    stats = MixStats(["mixup2"])
    operator = Mixup2(0.5, 1.0)
    lambdas = []
    for seed in range(50):
        plan = operator.draw(DrawContext(16), np.random.default_rng(seed))
        flags = torch.ones(16, dtype=torch.bool)
        eye = torch.eye(16)
        stats.update({"mixup2": plan}, eye, eye, (16, 9), torch.ones(16), flags)
        lambdas.extend(plan.gain[:, 0])
    metrics = stats.compute()
    for quantile in (10, 50, 90):
        expected = np.quantile(lambdas, quantile / 100)
        assert metrics[f"mix_mixup2_lambda_p{quantile}"] == pytest.approx(expected, abs=0.011)


def test_the_smallest_batch_is_the_largest_number_of_sources():
    assert build_mix_stages(MixSettings()).min_batch_size == 1
    assert build_mix_stages(MixSettings(mixup2_prob=0.1)).min_batch_size == 2
    assert build_mix_stages(MixSettings(mixup_prob=0.1)).min_batch_size == 3
    assert build_mix_stages(MixSettings(mixup_prob=0.1, mixup_double=1.0)).min_batch_size == 2
    five = MixSettings(mixup_prob=0.1, num_sources=[0.5, 0.0, 0.0, 0.5])
    assert build_mix_stages(five).min_batch_size == 5
    assert isinstance(
        MixStages({"a": Mixup(1.0)}, {"b": CutMix(1.0)}, {}, (), 0.0).operator_names, list
    )


def test_a_run_with_a_corrupt_recording_finishes_and_counts_it(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = make_config(*SMALL, f"data.root={demo}", "trainer.max_epochs=2", "run_dir=.")
    data = open_data(config.data, config.frontend.log_mel.sample_rate)
    load_segment = SegmentDataset._draw_segment

    def corrupt(segments: SegmentDataset, row: int, rng: np.random.Generator) -> tuple:
        waveform, span = load_segment(segments, row, rng)
        return waveform * (np.nan if row == 0 else 1), span

    monkeypatch.setattr(SegmentDataset, "_draw_segment", corrupt)
    training = train(config, data, tmp_path)
    with (tmp_path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert all(float(row["mix_nonfinite"]) > 0 for row in rows)
    assert all(weight.isfinite().all() for weight in training.model.state_dict().values())

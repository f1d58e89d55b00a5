"""The training step: batches meet operators, and the books say what happened."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from birdmix.app.data import open_data
from birdmix.audio.augment import Augmentation
from birdmix.batch import Batch
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import AttenuationSettings, LogMelSettings, MaskingSettings
from birdmix.keys import StepKeys
from birdmix.loading.batches import Segments
from birdmix.mix import Audit, CutMix, MixSettings, Mixup, Mixup2, Plan, Stages, build_stages
from birdmix.mix.post import peaks
from birdmix.mix.settings import (
    CutMixSettings,
    HiddenSettings,
    InjectSettings,
    ScheduleSettings,
)
from birdmix.model.logits import Logits
from birdmix.model.losses import build_loss
from birdmix.model.settings import LossSettings
from birdmix.training.step import Seen, TrainingStep, is_mixed, mix_batch
from tests.conftest import SMALL, configured, train

FRONT_END = LogMelSettings(n_fft=64, hop_length=64, n_mels=4)


class Classifier(nn.Module):
    """Four numbers of a mel are its features, and the logits of four classes."""

    def forward(self, mel: Tensor, mix_features=None) -> Logits:
        features = mel.mean(dim=-1).transpose(1, 2)[..., None]  # [B, 4, 1, 1]
        return Logits((features if mix_features is None else mix_features(features))[..., 0, 0])


def step(settings: MixSettings) -> TrainingStep:
    return TrainingStep(
        stages=build_stages(settings),
        log_mel=LogMel(FRONT_END),
        masking=MaskingSettings(),
        attenuation=AttenuationSettings(),
        classifier=Classifier(),
        loss=build_loss(LossSettings(), np.ones(4), 1, has_frames=False),
    )


def batch_of(x: Tensor) -> Batch:
    known = torch.ones(len(x), 4, dtype=torch.bool)
    target = torch.eye(4).repeat(len(x) // 4, 1)
    return Batch(x, target, torch.ones(len(x)), known, torch.arange(len(x)))


def waveforms(batch_size: int = 4) -> Tensor:
    return 0.1 * torch.randn(batch_size, 256, generator=torch.Generator().manual_seed(0))


def keys(batch: int = 0, progress: float = 0.0) -> StepKeys:
    return StepKeys(seed=0, epoch=0, batch=batch, progress=progress)


def audited(settings: MixSettings, batch: Batch, num_batches: int = 1) -> dict[str, float]:
    training_step = step(settings)
    audit = Audit(training_step.stages.slots)
    for index in range(num_batches):
        assert training_step(batch, keys(index), audit)[0].isfinite()
    return audit.report()


ALL = MixSettings(
    mixup_prob=1.0,
    cutmix=CutMixSettings(prob=1.0),
    mixup2_prob=1.0,
    hidden=HiddenSettings(prob=1.0),
)


def test_gates_of_all_slots_are_independent():
    half = MixSettings(
        mixup_prob=0.5, cutmix=CutMixSettings(prob=0.5), mixup2_prob=0.5, mix_beta2=1.0
    )
    stages = build_stages(half)
    batch = batch_of(waveforms()[:, None, None, :16])

    def plans(index: int) -> list[Plan]:
        slots = (stages.waveform, stages.spectrogram)
        return [p for slot in slots for p in mix_batch(slot, batch, keys(index))[1].values()]

    fired = np.array([[not plan.is_identity for plan in plans(index)] for index in range(700)])
    assert fired.shape == (700, 3)
    assert np.abs(fired.mean(axis=0) - 0.5).max() < 0.06
    correlation = np.corrcoef(fired.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.1


def test_upper_frequencies_are_attenuated():
    plain = step(MixSettings())
    attenuated = replace(plain, attenuation=AttenuationSettings(prob=1.0))
    before, after = (
        each.see(batch_of(waveforms()), keys()).batch.x for each in (plain, attenuated)
    )
    assert torch.equal(before[:, :, 0], after[:, :, 0])  # the lowest mel bin
    assert (before[:, :, -1] - after[:, :, -1]).amax() > 0 and (after <= before).all()


def test_samples_of_which_nothing_is_known_do_not_dilute_the_loss():
    whole = batch_of(waveforms())
    spoilt = whole._replace(
        known=whole.known & torch.tensor([1, 1, 0, 0], dtype=torch.bool)[:, None]
    )
    known = Batch(*(None if each is None else each[:2] for each in whole))
    plain, audit = step(MixSettings()), Audit([])
    loss, weight = plain(spoilt, keys(), audit)
    expected, _ = plain(known, keys(), audit)
    assert weight == 2
    torch.testing.assert_close(loss, expected)


def test_slots_stand_in_a_fixed_order():
    assert build_stages(ALL).slots == ["mixup", "cutmix", "mixup2", "hidden"]
    assert build_stages(MixSettings()).slots == []


def test_which_batches_are_mixed_is_known_without_their_data():
    settings = MixSettings(mixup_prob=0.2, mixup2_prob=0.2)
    stages = build_stages(settings)
    foreseen, mixed = [], []
    for index in range(20):
        plans = step(settings).see(batch_of(waveforms()), keys(index)).plans
        mixed.append(not all(plan.is_identity for plan in plans.values()))
        operators = {**stages.waveform, **stages.spectrogram}
        foreseen.append(is_mixed(operators, 4, 0, keys(index)))
    assert foreseen == mixed and 0 < sum(mixed) < 20


def test_the_pool_is_laid_over_sums_of_waveforms_and_brings_its_labels():
    settings = MixSettings(
        mixup_prob=1.0,
        mixup_double=1.0,
        inject=InjectSettings(prob=1.0, gain=[0.5, 0.5], label_cap=0.6),
    )
    assert build_stages(settings).slots == ["mixup", "inject"]
    batch = batch_of(waveforms())
    pool = batch_of(10 * waveforms())._replace(target=torch.ones(4, 4))
    (seen, alone) = (
        step(each).see(batch._replace(pool=pool), keys())
        for each in (settings, replace(settings, inject=InjectSettings()))
    )
    assert (seen.peak > 2 * alone.peak).all()
    expected = torch.maximum(alone.batch.target, torch.tensor(0.6 / 4))
    assert torch.allclose(seen.batch.target, expected)
    assert audited(settings, batch._replace(pool=pool))["mix_inject_fired"] == 1
    with pytest.raises(ValueError, match="there is no pool to inject from"):
        step(settings).see(batch, keys())


def test_mixed_waveforms_are_augmented_by_epoch_and_batch():
    gain = {"_target_": "audiomentations.Gain", "min_gain_db": -30, "max_gain_db": 0, "p": 1.0}
    augmented = replace(step(MixSettings()), augmentation=Augmentation([gain], 8000))
    batch = batch_of(waveforms())
    one, again, other = (augmented.see(batch, keys(at)).peak for at in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len(set((one / peaks(batch.x)).tolist())) == 4  # each its own


def test_a_schedule_turns_all_slots():
    late = MixSettings(**{**vars(ALL), "schedule": ScheduleSettings(off_from=0.8)})
    training_step, batch = step(late), batch_of(waveforms())

    def resting(progress: float) -> set[bool]:
        seen = training_step.see(batch, keys(progress=progress))
        return {plan.is_identity for plan in seen.plans.values()}

    assert resting(0.79) == {False} and resting(0.8) == {True}


def test_hidden_features_are_blended_with_their_targets():
    training_step = step(MixSettings(hidden=HiddenSettings(prob=1.0)))
    assert list(training_step.stages.hidden) == ["hidden"]
    batch = batch_of(waveforms())
    audit = Audit(["hidden"])
    loss, weight = training_step(batch, keys(), audit)
    assert loss != step(MixSettings())(batch, keys(), Audit([]))[0]
    assert weight == batch.weight.sum()
    assert audit.report()["mix_hidden_fired"] == 1


@pytest.mark.parametrize("rule", ["convex", "union", "max", "noisy_or", "amplitude"])
def test_every_rule_works_on_mels_too(rule: str):
    settings = MixSettings(
        mixup2_prob=1.0,
        cutmix=CutMixSettings(prob=1.0, rule=rule),
        mixup2_rule=rule,
        min_snr_db=-30.0,
    )
    x = waveforms()
    x[1] = 0  # silent: nobody may be told that its bird is there
    seen = step(settings).see(batch_of(x), keys())
    assert seen.batch.target[:, 1].max() == 0
    assert seen.batch.level is not None and seen.batch.level.shape == (4, 50)


def test_levels_are_carried_only_where_someone_asks():
    assert step(ALL).see(batch_of(waveforms()), keys()).batch.level is None


def test_a_broken_recording_ends_no_step_and_counts_for_nothing():
    x = waveforms(8)
    x[3, 10] = float("nan")
    batch = batch_of(x)
    seen: Seen = step(MixSettings(mixup_prob=1.0)).see(batch, keys())
    plan = seen.plans["mixup"]
    holds_it = torch.from_numpy(((plan.source == 3) & plan.used).any(axis=1))
    assert torch.equal(~seen.finite, holds_it)
    assert seen.batch.x.isfinite().all()
    assert (seen.batch.weight == 0).tolist() == holds_it.tolist()
    figures = audited(MixSettings(mixup_prob=1.0), batch)
    assert figures["mix_nonfinite"] == holds_it.sum()


# The books


def test_the_books_say_what_fired_and_how():
    figures = audited(ALL, batch_of(waveforms()), num_batches=30)
    for slot in ("mixup", "cutmix", "mixup2", "hidden"):
        assert figures[f"mix_{slot}_fired"] == 1
    assert 2 < figures["mix_mixup_sources"] < 3
    assert figures["mix_mixup2_sources"] == 2
    assert figures["mix_self_pairs"] == 0 and figures["mix_nonfinite"] == 0
    low, median, high = (figures[f"mix_mixup2_lambda_p{p}"] for p in (10, 50, 90))
    assert 0.1 < low < 0.35 < median < 0.65 < high < 0.9  # Beta(2, 2): .196, .5, .804
    assert figures["mix_label_mass_in"] == 1
    assert 1.5 < figures["mix_label_mass_out"] <= 3


def test_the_books_count_gates_by_sample():
    figures = audited(
        MixSettings(mixup_prob=0.25, scope="sample"), batch_of(waveforms(16)), num_batches=100
    )
    assert figures["mix_mixup_fired"] == pytest.approx(0.25, abs=0.04)


def test_the_books_count_what_clips():
    loud = waveforms()
    loud[0, 5] = 1.5
    assert audited(MixSettings(), batch_of(loud))["mix_clipped"] == 1


def test_the_books_would_show_a_self_pair():
    audit = Audit(["mixup"])
    plan = Plan(np.array([[0, 0], [1, 0]]), np.ones((2, 2), np.float32))
    flags = torch.ones(2, dtype=torch.bool)
    audit.enter({"mixup": plan}, torch.eye(2), torch.eye(2), (2, 9), torch.ones(2), flags)
    assert audit.report()["mix_self_pairs"] == 1


def test_quantiles_of_nothing_are_no_number():
    figures = audited(MixSettings(mixup_prob=0.001), batch_of(waveforms()))
    assert figures["mix_mixup_fired"] == 0 and np.isnan(figures["mix_mixup_lambda_p50"])


def test_books_go_on_where_they_were():
    batch = batch_of(waveforms())
    training_step = step(ALL)
    whole, first, second = (Audit(training_step.stages.slots) for _ in range(3))
    for index in range(6):
        training_step(batch, keys(index), whole)
        training_step(batch, keys(index), first if index < 3 else second)
        if index == 2:
            second.load_state_dict(first.state_dict(), torch.device("cpu"))
    assert second.report() == whole.report()
    assert second.state_dict() == whole.state_dict()


def test_quantiles_follow_the_drawn_lambdas():
    audit = Audit(["mixup2"])
    operator = Mixup2(0.5, 1.0)
    lambdas = []
    for seed in range(50):
        plan = operator.draw(16, np.random.default_rng(seed))
        flags = torch.ones(16, dtype=torch.bool)
        eye = torch.eye(16)
        audit.enter({"mixup2": plan}, eye, eye, (16, 9), torch.ones(16), flags)
        lambdas.extend(plan.gain[:, 0])
    figures = audit.report()
    for quantile in (10, 50, 90):
        expected = np.quantile(lambdas, quantile / 100)
        assert figures[f"mix_mixup2_lambda_p{quantile}"] == pytest.approx(expected, abs=0.011)


def test_stages_know_their_largest_draw():
    assert build_stages(MixSettings()).num_batch_sources == 1
    assert build_stages(MixSettings(mixup2_prob=0.1)).num_batch_sources == 2
    assert build_stages(MixSettings(mixup_prob=0.1)).num_batch_sources == 3
    assert build_stages(MixSettings(mixup_prob=0.1, mixup_double=1.0)).num_batch_sources == 2
    five = MixSettings(mixup_prob=0.1, num_sources=[0.5, 0.0, 0.0, 0.5])
    assert build_stages(five).num_batch_sources == 5
    assert isinstance(Stages({"a": Mixup(1.0)}, {"b": CutMix(1.0)}, {}).slots, list)


def test_a_run_with_a_broken_recording_finishes_and_counts_it(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = configured(*SMALL, f"data.root={demo}", "trainer.max_epochs=2", "run_dir=.")
    data = open_data(config.data, config.frontend.log_mel.sample_rate)
    whole = Segments._segment

    def broken(segments: Segments, row: int, rng: np.random.Generator) -> tuple:
        waveform, span = whole(segments, row, rng)
        return waveform * (np.nan if row == 0 else 1), span

    monkeypatch.setattr(Segments, "_segment", broken)
    training = train(config, data, tmp_path)
    with (tmp_path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert all(float(row["mix_nonfinite"]) > 0 for row in rows)
    assert all(weight.isfinite().all() for weight in training.model.state_dict().values())

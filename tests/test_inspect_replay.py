"""Replayed batches of a run, and the sources of its mixes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from birdmix.config.run_config_file import write_config
from birdmix.config.schema import Config
from birdmix.experiments.inspection.batch_replay import BatchReplay, ReplayedBatch
from birdmix.experiments.inspection.example_views import BatchViews
from birdmix.experiments.inspection.inspected_run import parse_position, read_inspected_config
from birdmix.experiments.inspection.mix_observations import MixObservations
from birdmix.experiments.inspection.source_tracing import (
    Term,
    TermPowers,
    TracedOperator,
    sound_of_term,
    trace_operators,
)
from birdmix.loading.batch import Batch
from birdmix.loading.run_data import open_data
from birdmix.mix import DrawContext, Examples
from birdmix.training.distributed_processes import connect_processes
from birdmix.training.training_step import TrainingStep
from tests.child_processes import finish, start_many
from tests.conftest import SMALL, TOY, make_config, train
from tests.test_exact_runs import RANDOM_LOADING


def config_with_pools(demo: Path, *overrides: str) -> Config:
    return make_config(
        *overrides,
        "trainer.accelerator=cpu",
        f"data.root={demo}",
        f"data.pools={{noise: {{source: background, root: {demo}/test_soundscapes, size: 4}}, "
        "balanced: {source: recordings, draw: class, size: 4}}",
    )


def open_replay(config: Config, rank: int = 0, size: int = 1) -> BatchReplay:
    data = open_data(config.data, config.frontend.log_mel.sample_rate)
    processes = replace(connect_processes(config.trainer), rank=rank, size=size)
    return BatchReplay.of_run(config, data, processes)


# Exactness


@pytest.fixture(scope="module")
def config(demo: Path) -> Config:
    return config_with_pools(demo, *TOY, *RANDOM_LOADING, "mix.clean_weight=0.25")


@pytest.fixture(scope="module")
def recorded(
    config: Config, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[tuple[int, int], list[torch.Tensor]]]:
    """A run, and what the loss got of each of its batches: log-mels, targets, weights, known."""
    got: dict[tuple[int, int], list[torch.Tensor]] = {}
    directory = tmp_path_factory.mktemp("recorded")
    data = open_data(config.data, config.frontend.log_mel.sample_rate)
    with pytest.MonkeyPatch.context() as monkeypatch:
        record_batches(monkeypatch, got)
        train(config, data, directory)
    write_config(directory, config)
    return directory, got


def record_batches(
    monkeypatch: pytest.MonkeyPatch, got: dict[tuple[int, int], list[torch.Tensor]]
) -> None:
    """Record the log-mels and labels that each training step computes."""
    prepare, view_loss = TrainingStep.prepare_batch, TrainingStep._view_loss

    def prepare_batch(step: TrainingStep, batch: Batch, keys):
        prepared = prepare(step, batch, keys)
        if step.mix_stages.operator_names:  # not the clean view
            got[keys.epoch, keys.batch] = [prepared.batch.examples.x]
        return prepared

    def compute_view_loss(step: TrainingStep, output, examples: Examples, weight: float):
        labels = got[max(got)]
        if len(labels) == 1:  # the mixed view comes first
            labels += [examples.target, examples.sample_weights(), examples.known_mask()]
        return view_loss(step, output, examples, weight)

    monkeypatch.setattr(TrainingStep, "prepare_batch", prepare_batch)
    monkeypatch.setattr(TrainingStep, "_view_loss", compute_view_loss)


def assert_replayed(replayed: ReplayedBatch, recorded: Sequence[torch.Tensor]) -> None:
    examples = replayed.examples
    got = (examples.x, examples.target, examples.sample_weights(), examples.known_mask())
    assert len(got) == len(recorded)
    assert all(torch.equal(a, b) for a, b in zip(got, recorded, strict=True)), replayed.name


@pytest.mark.parametrize(("num_workers", "start"), [(0, (0, 0)), (2, (1, 2))])
def test_a_replay_is_what_the_run_trained_on(recorded, num_workers: int, start: tuple[int, int]):
    directory, batches = recorded
    config = read_inspected_config([f"run={directory}", f"data.num_workers={num_workers}"])
    replay = open_replay(config)
    replayed = list(replay.replay(start))
    assert [each.position for each in replayed] == sorted(at for at in batches if at >= start)
    for each in replayed:
        assert_replayed(each, batches[each.position])
    assert {name for each in replayed for name in [a.name for a in each.applied]} == {
        *("mixup", "inject_noise", "inject_balanced", "inject_noise_2"),
        *("cutmix", "mixup2", "hidden"),
    }


def save_batches() -> None:
    """Let each process of a run save what its steps compute."""
    prepare = TrainingStep.prepare_batch

    def prepare_batch(step: TrainingStep, batch: Batch, keys):
        prepared = prepare(step, batch, keys)
        name = f"{keys.epoch}-{keys.batch}-{keys.rank}.pt"
        torch.save(prepared.batch.examples.x, Path("batches") / name)
        return prepared

    TrainingStep.prepare_batch = prepare_batch


@pytest.mark.slow
def test_a_replay_of_one_of_two_processes_is_its_share(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = config_with_pools(demo, *TOY, "data.batch_size=8", *RANDOM_LOADING)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batches").mkdir()
    finish(tmp_path, *start_many(config, tmp_path, 2, save_batches))
    for rank in (0, 1):
        for each in open_replay(config, rank, 2).replay((0, 0)):
            epoch, batch = each.position
            saved = torch.load(tmp_path / "batches" / f"{epoch}-{batch}-{rank}.pt")
            assert torch.equal(each.prepared.batch.examples.x, saved)


def test_positions_are_counted_from_1():
    assert parse_position("1:1", 40) == (0, 0)
    assert parse_position("40:9", 40) == (39, 8)


@pytest.mark.parametrize("text", ["0:1", "1:0", "41:1"])
def test_a_position_in_no_epoch_is_refused(text: str):
    with pytest.raises(ValueError, match=f"--at={text}: the run has epochs 1 to 40"):
        parse_position(text, 40)


@pytest.mark.parametrize("text", ["3", "a:b", "1:2:3", "-1:2", "1:1e3"])
def test_a_position_of_another_form_is_refused(text: str):
    with pytest.raises(ValueError, match="write EPOCH:BATCH, both counted from 1"):
        parse_position(text, 40)


def test_overrides_that_change_the_batches_of_a_run_are_refused(finished_run: Path):
    with pytest.raises(ValueError, match=r"batches of another run: mix.mixup_prob 0.7 -> 0.1"):
        read_inspected_config([f"run={finished_run}", "mix.mixup_prob=0.1"])


def test_settings_of_a_run_before_it_was_resumed_are_read_from_their_file(
    finished_run: Path, tmp_path: Path
):
    config = read_inspected_config([f"run={finished_run}"])
    write_config(tmp_path, replace(config, seed=7), "config.until-step-4.yaml")
    assert read_inspected_config([f"run={tmp_path}/config.until-step-4.yaml"]).seed == 7


def test_resume_is_refused_with_the_word_to_use(tmp_path: Path):
    with pytest.raises(ValueError, match="write run= to inspect"):
        read_inspected_config([f"resume={tmp_path}"])


def test_rates_and_labels_are_those_of_metrics_csv(finished_run: Path):
    config = read_inspected_config([f"run={finished_run}"])
    replay = open_replay(config)
    stages = replay.step.mix_stages
    observations = MixObservations.of_stages(stages, config.mix.min_snr_db)
    for replayed in replay.replay((1, 0)):
        num_samples = replayed.batch.examples.x.shape[1]
        observations.add(replayed, trace_operators(replayed.applied, num_samples))
    logged = pd.read_csv(finished_run / "metrics.csv").set_index("epoch").loc[2]
    assert observations.operators.keys() == {"mixup", "mixup2"}
    for name, each in observations.operators.items():
        assert each.num_mixed / observations.num_examples == logged[f"mix_{name}_rate"]
    assert np.mean(observations.label_mass_in) == pytest.approx(logged["mix_label_mass_in"])
    assert np.mean(observations.label_mass_out) == pytest.approx(logged["mix_label_mass_out"])
    assert observations.num_clipped == logged["mix_clipped"]


# Sources


@pytest.fixture(scope="module")
def mixed(demo: Path) -> tuple[BatchReplay, ReplayedBatch, Sequence[TracedOperator]]:
    """A batch in which four operators mix waveforms and log-mels, labels by parts."""
    config = config_with_pools(
        demo,
        *SMALL,
        "data.batch_size=8",
        "run_dir=.",
        "mix.mixup_prob=1",
        "mix.mixup_rule=convex",
        "mix.mix_beta=1",
        "mix.time_shift=random",
        "mix.match_level=rms",
        "mix.post=peak_normalise",
        "mix.mixup2_prob=1",
        "mix.cutmix.prob=1",
        "mix.hidden.mixup2_prob=1",
        "mix.hidden.layers=[layer2]",
        "mix.clean_weight=0.25",
        "mix.injectors=[{pool: noise, prob: 0.9, snr_db: [0, 10], rule: convex, post: peak_guard}, "
        "{pool: balanced, prob: 0.5, blend: [0.3, 0.6], rule: convex}]",
    )
    replay = open_replay(config)
    replayed = next(replay.replay((0, 0)))
    return replay, replayed, trace_operators(replayed.applied, replayed.batch.examples.x.shape[1])


def test_the_sounds_of_the_traced_terms_add_up_to_the_mix(mixed):
    replay, replayed, traced = mixed
    on_waveforms = [each for each in traced if each.applied.name in replay.step.mix_stages.waveform]
    waveforms = replay.waveforms(replayed)
    for example, terms in enumerate(on_waveforms[-1].after):
        total = sum(sound_of_term(replayed.batch, term) for term in terms)
        # Seven rounding errors of float32 of a peak of 1.
        torch.testing.assert_close(total, waveforms[example], rtol=0, atol=1e-6)
    assert {len(terms) for terms in on_waveforms[-1].after} >= {3, 4}


def test_parts_and_shares_of_the_traced_terms_add_up(mixed):
    _, replayed, traced = mixed
    segments = torch.cat([replayed.batch.examples.target, replayed.batch.pool.target]).numpy()
    for example, terms in enumerate(traced[-1].after):
        assert sum(term.part for term in terms) == pytest.approx(1, abs=1e-5)
        target = sum(term.share * segments[term.segment] for term in terms)
        np.testing.assert_allclose(target, replayed.examples.target[example], atol=1e-5)


def test_the_view_of_an_example_shows_all_that_was_mixed_into_it(mixed):
    replay, replayed, traced = mixed
    views = BatchViews.of_batch(replay, replayed, traced)
    injected = next(
        b for b in range(8) if traced[1].mixes(b) and traced[1].applied.name == "inject_noise"
    )
    view = views.view(injected)
    assert [step.split(":")[0] for step in view.steps] == [
        each.applied.name for each in traced if each.mixes(injected)
    ]
    assert "examples at layer layer2" in view.steps[-1]
    (noise,) = [each for each in view.sources if each.name.startswith("pool noise: ")]
    assert dict(noise.numbers)["added by"] == "inject_noise"
    added_by = [dict(each.numbers)["added by"] for each in view.sources]
    assert added_by[0] == "itself"
    assert added_by[-3:] == ["cutmix", "mixup2", "hidden"]
    parts = [float(dict(each.numbers)["part"]) for each in view.sources]
    assert sum(parts) == pytest.approx(1, abs=0.01 * len(parts))
    assert view.clean_image is not None
    # All labels are shared out by parts, so what the sources bring adds up to the targets.
    assert view.targets
    for row in view.targets:
        assert sum(row.brought) == pytest.approx(row.target, abs=1e-4)
    cutmix = next(each for each in traced if each.applied.name == "cutmix").applied
    (box,) = view.boxes
    num_frames = cutmix.before.examples.x.shape[-1]
    begin, end = cutmix.plan.boxes.time[injected]
    assert box.time == pytest.approx((begin, end), abs=0.5 / num_frames)
    assert box.mel == (0, 1)


def test_a_box_of_the_view_is_where_the_partner_is_in_the_log_mel(demo: Path):
    config = make_config(
        *SMALL, f"data.root={demo}", "mix=cutmix", "mix.cutmix.prob=1", "mix.cutmix.axis=box"
    )
    replay = open_replay(config)
    replayed = next(replay.replay((0, 0)))
    traced = trace_operators(replayed.applied, replayed.batch.examples.x.shape[1])
    views = BatchViews.of_batch(replay, replayed, traced)
    before = traced[0].applied.before.examples.x[:, 0]
    for example in range(8):
        partner = before[traced[0].details.source[example, 1]]
        mixed, (num_mels, num_frames) = replayed.examples.x[example, 0], before.shape[1:]
        (box,) = views.view(example).boxes
        mel = slice(*(round(bound * num_mels) for bound in box.mel))
        time = slice(*(round(bound * num_frames) for bound in box.time))
        assert torch.equal(mixed[mel, time], partner[mel, time])
        expected = before[example].clone()
        expected[mel, time] = partner[mel, time]
        assert torch.equal(mixed, expected)


def test_unknown_labels_are_named_beside_targets_and_sources(demo: Path):
    config = make_config(*SMALL, f"data.root={demo}", "mix.mixup_prob=1", "data.secondary=unknown")
    replay = open_replay(config)
    for replayed in replay.replay((0, 0)):
        traced = trace_operators(replayed.applied, replayed.batch.examples.x.shape[1])
        views = BatchViews.of_batch(replay, replayed, traced)
        known = replayed.examples.known_mask().numpy()
        for example in np.flatnonzero(~known.all(axis=1)).tolist():
            view = views.view(example)
            named = [row.name for row in view.targets if not row.is_known] + list(view.unknown)
            names = replay.data.labels.names
            unknown = [names[c] for c in np.flatnonzero(~known[example])]
            assert sorted(named) == sorted(unknown)
            lines = " ".join(line for source in view.sources for line in source.lines)
            assert all(name in lines.split("unknown: ", 1)[1] for name in unknown)
            return
    raise AssertionError("no batch has an unknown label")


def test_an_example_without_a_mix_is_its_only_term(demo: Path):
    replay = open_replay(make_config(*SMALL, f"data.root={demo}", "mix=mixup", "mix.scope=sample"))
    replayed = next(replay.replay((0, 0)))
    (traced,) = trace_operators(replayed.applied, replayed.batch.examples.x.shape[1])
    alone = np.flatnonzero(traced.applied.plan.source_counts == 1)
    assert len(alone)
    assert all(list(traced.after[example]) == [Term(example)] for example in alone)


def test_an_example_that_a_control_replaced_is_the_partner(demo: Path):
    overrides = ("mix=mixup", "mix.mixup_prob=1", "mix.control=resampling", "data.batch_size=8")
    config = make_config(*SMALL, *overrides, f"data.root={demo}", "run_dir=.")
    replayed = next(open_replay(config).replay((0, 0)))
    traced = trace_operators(replayed.applied, replayed.batch.examples.x.shape[1])
    kept = [term.segment for (term,) in traced[-1].after]
    assert kept != list(range(8))
    targets = replayed.batch.examples.target[kept]
    torch.testing.assert_close(replayed.examples.target, targets)


def tones(*amplitudes: float) -> Batch:
    """Return a batch of tones of different frequencies, which are orthogonal."""
    time = torch.arange(16_000) / 16_000
    x = torch.stack(
        [a * torch.sin(2 * torch.pi * 100 * (n + 1) * time) for n, a in enumerate(amplitudes)]
    )
    return Batch(Examples(x, torch.eye(len(x))), DrawContext(len(x)))


def test_the_measured_snr_of_tones_is_that_of_their_amplitudes():
    powers = TermPowers.measure(tones(1, 0.1), [Term(0), Term(1)])
    np.testing.assert_allclose(powers.snr_db_of_each(), [20, -20], atol=1e-3)
    powers = TermPowers.measure(tones(1, 1, 1), [Term(0), Term(1, gain=0.1), Term(2, gain=0.1)])
    one_of_three = 10 * np.log10(0.01 / 1.01)
    np.testing.assert_allclose(
        powers.snr_db_of_each(), [10 * np.log10(1 / 0.02), one_of_three, one_of_three], atol=1e-3
    )


def test_the_snr_of_sounds_that_cancel_counts_their_sum():
    powers = TermPowers.measure(tones(1, 1), [Term(0), Term(1), Term(1, offset=40)])
    assert powers.snr_db(np.array([True, False, False])) > 60  # 200 Hz, half a period later


def test_a_source_beside_silence_has_an_infinite_snr():
    powers = TermPowers.measure(tones(1, 0), [Term(0), Term(1)])
    assert powers.snr_db_of_each().tolist() == [np.inf, -np.inf]


def test_processes_of_a_run_need_no_others_for_a_replay(demo: Path):
    config = make_config(*SMALL, f"data.root={demo}")
    shares = [next(open_replay(config, rank, 2).replay((0, 0))).batch for rank in (0, 1)]
    whole = next(open_replay(config).replay((0, 0))).batch
    for rank, share in enumerate(shares):
        assert torch.equal(share.examples.x, whole.examples.x[rank::2])

"""Runs of several processes: shares of batches, combined gradients, lost processes, torchrun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from lightning.fabric import Fabric

from birdmix.config.schema import Config
from birdmix.experiments.builders import build_model, build_training_run
from birdmix.labels import Labels
from birdmix.loading.run_data import RunData, open_data
from birdmix.loading.sampler import SegmentBatchSampler
from birdmix.mix import DrawContext, MixStats, Mixup, Plan
from birdmix.model.losses.logit_loss import weighted_mean
from birdmix.training import training_loop, training_step
from birdmix.training.checkpoint import load_checkpoint
from birdmix.training.distributed_processes import Processes, connect_processes
from birdmix.training.view_loss import ViewLoss
from tests.child_processes import OUTPUT_FILE, finish, start, start_many
from tests.conftest import ROOT, SMALL, TOY, assert_equal_runs, make_config, train

#: Only the order is random, and no batch statistics: equal gradients on any number of processes.
PLAIN = (
    *SMALL,
    "data.batch_size=5",
    "data.segments_per_recording=2",
    "data.drop_last=false",
    "trainer.max_epochs=2",
    "trainer.accumulate=2",
    "+model.backbone_args.norm_layer=layernorm2d",
    "model.dropout=0",
    "mix=none",
    "optim.name=sgd",
    "optim.lr=0.1",
    "loggers=[]",
    "run_dir=.",
)


@pytest.fixture
def config(demo: Path) -> Config:
    return make_config(
        *TOY,
        f"data.root={demo}",
        "checkpoint.every_steps=1",
        "data.batch_size=10",
        "mix.clean_weight=0.25",
    )


def data_of(config: Config) -> RunData:
    return open_data(config.data, config.frontend.log_mel.sample_rate)


@pytest.mark.parametrize("num_processes", [2, 3, 7])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_position_is_in_exactly_one_process(num_processes: int, drop_last: bool):
    def shares(rank: int, count: int, start: tuple[int, int] = (0, 0)) -> list[list]:
        order = SegmentBatchSampler(
            np.ones(23), 8, seed=1, num_epochs=2, drop_last=drop_last, start=start, rank=rank,
            num_processes=count,
        )  # fmt: skip
        return list(order)

    single = shares(0, 1)
    multiple = [shares(rank, num_processes) for rank in range(num_processes)]
    for batch, *parts in zip(single, *multiple, strict=True):
        assert sorted(key for part in parts for key in part) == batch
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shares(1, num_processes, start=(0, 2)) == multiple[1][2:]


def test_the_plan_is_a_function_of_epoch_batch_and_process(config: Config, tmp_path: Path):
    training = build_training_run(
        config, data_of(config), tmp_path, connect_processes(config.trainer)
    )

    def plan(rank: int, epoch: int = 0, batch: int = 0) -> Plan:
        training.processes = Processes(training.fabric, rank, size=2)
        return Mixup(1.0).draw(
            DrawContext(8), rng=training.batch_random_keys(epoch, batch).rng("mix.mixup")
        )

    def are_equal(one: Plan, two: Plan) -> bool:
        return np.array_equal(one.source, two.source) and np.array_equal(one.gain, two.gain)

    assert are_equal(plan(1), plan(1))
    for other in (plan(0), plan(1, batch=1), plan(1, epoch=1)):
        assert not are_equal(plan(1), other)


def test_two_processes_train_the_weights_of_a_single_one(demo: Path, tmp_path: Path):
    config = make_config(*PLAIN, f"data.root={demo}")
    one = train(config, data_of(config), tmp_path / "one")
    assert (
        len(set(data_of(config).train.numeric_column("weight"))) > 1
    )  # the shares of a batch have unequal weights
    two = tmp_path / "two"
    two.mkdir()
    finish(two, *start_many(config, two))
    other = load_checkpoint(two)
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(other["model"][name], weight, rtol=1e-4, atol=1e-5)
    losses = ["train_loss", "validation_soundscape_loss"]
    expected, actual = (
        pd.read_csv(each / "metrics.csv")[losses] for each in (tmp_path / "one", two)
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    output = (two / OUTPUT_FILE).read_text()
    assert output.count("recordings of 12 classes to train on") == output.count("epoch 2/2") == 1


@pytest.mark.parametrize("view_weights", [(1.0,), (0.75, 0.25)])
def test_losses_of_shares_combine_to_that_of_the_whole_batch(
    view_weights: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
):
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(len(view_weights), 7, generator=generator).requires_grad_()
    weights = torch.rand(len(view_weights), 7, generator=generator)
    weights[0, :3] = 0  # the first share of the mixed view has no known labels

    def views(share: slice) -> list[ViewLoss]:
        return [
            ViewLoss(weighted_mean(value[share], weight[share]), weight[share].sum(), factor)
            for value, weight, factor in zip(values, weights, view_weights, strict=True)
        ]

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, values)[0]

    fabric = Fabric(accelerator="cpu")
    expected, _ = Processes(fabric).combine_losses(views(slice(7)))
    shares, sums = [slice(3), slice(3, 7)], []
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: sums.append(tensor.clone()))
    for rank, share in enumerate(shares):
        Processes(fabric, rank, 2).combine_losses(views(share))
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.copy_(sums[0] + sums[1]))
    gradients = []
    for rank, share in enumerate(shares):
        own, whole = Processes(fabric, rank, 2).combine_losses(views(share))
        torch.testing.assert_close(whole, expected.detach())
        gradients.append(gradient(own))
    torch.testing.assert_close(torch.stack(gradients).mean(dim=0), gradient(expected))


def record_hidden_layers() -> None:
    draw = training_step.draw_hidden_layer

    def draw_and_record(*arguments):
        layer = draw(*arguments)
        with Path(f"layers-{os.environ['RANK']}").open("a") as file:
            file.write(f"{layer}\n")
        return layer

    training_step.draw_hidden_layer = draw_and_record


@pytest.mark.slow
def test_two_processes_mix_the_same_layers(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    config.mix.hidden.layers = ["input", "layer2", "pooled"]
    config.mix.hidden.mixup2_prob = 1.0
    finish(tmp_path, *start_many(config, tmp_path, act=record_hidden_layers))
    layers = [(tmp_path / f"layers-{rank}").read_text().split() for rank in range(2)]
    assert layers[0] == layers[1] and len(set(layers[0])) > 1
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    rates = metrics[[f"mix_hidden_{layer}_rate" for layer in config.mix.hidden.layers]]
    np.testing.assert_allclose(rates.sum(axis=1), metrics["mix_hidden_rate"])


@pytest.mark.parametrize("num_workers", [pytest.param(2, marks=pytest.mark.slow), 0])
def test_a_run_that_lost_a_process_resumes_exactly(
    config: Config, tmp_path: Path, num_workers: int
):
    config.data.num_workers = num_workers
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    for directory in (uninterrupted, killed):
        directory.mkdir()
    finish(uninterrupted, *start_many(config, uninterrupted))
    first, second = start_many(config, killed, act=kill_second_process)
    for process in (first, second):
        process.join(60)
    output = (killed / OUTPUT_FILE).read_text()
    assert second.exitcode == -signal.SIGKILL and first.exitcode == 2, output
    assert "process 0: error: process 0 of 0 .. 1 lost the connection to another one" in output
    assert load_checkpoint(killed)["position"]["step"] == 1
    finish(killed, *start_many(config, killed))
    assert_equal_runs(uninterrupted, killed)
    assert len(load_checkpoint(uninterrupted)["mix_stats"]) == 2


def kill_second_process() -> None:
    backward = training_loop._backward

    def kill_at_fourth_call(*arguments):
        kill_at_fourth_call.calls += 1
        if kill_at_fourth_call.calls == 4 and os.environ["RANK"] == "1":
            os.killpg(0, signal.SIGKILL)
        return backward(*arguments)

    kill_at_fourth_call.calls = 0
    training_loop._backward = kill_at_fourth_call


@pytest.mark.slow
def test_a_run_of_two_processes_resumes_with_one(config: Config, tmp_path: Path):
    first, second = start_many(config, tmp_path, act=kill_second_process)
    first.join(60)
    second.join(60)
    finish(tmp_path, start(config, tmp_path))
    output = (tmp_path / OUTPUT_FILE).read_text()
    assert "may differ from that of an uninterrupted run: processes 2 -> 1" in output
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2]


def test_mix_statistics_of_several_processes_add_up():
    def stats_of(rank: int) -> MixStats:
        stats = MixStats(["mixup"])
        x, rng = torch.rand(4, 100), np.random.default_rng(rank)
        mixed = Mixup(0.8)(x, torch.eye(4), rng=rng)
        peak = mixed.x.abs().amax(dim=1)
        stats.update(
            {"mixup": mixed.plan}, torch.eye(4), mixed.target, (4, 100), peak, peak.isfinite()
        )
        return stats

    parts = [stats_of(rank) for rank in range(3)]
    merged = MixStats.merge([stats.state_dict() for stats in parts])
    assert merged.num_examples == 12
    for name in ("mix_mixup_rate", "mix_mixup_sources", "mix_label_mass_out"):
        mean = np.mean([stats.compute()[name] for stats in parts])
        assert merged.compute()[name] == pytest.approx(mean)
    clipped = sum(stats.compute()["mix_clipped"] for stats in parts)
    assert merged.compute()["mix_clipped"] == clipped


def test_synchronised_batch_norms_need_gpus(config: Config, tmp_path: Path):
    config.trainer.sync_batch_norm = True
    with pytest.raises(ValueError, match="trainer.sync_batch_norm=true needs GPUs"):
        build_model(config, Labels(("a", "b", "c")), torch.device("cpu"))
    plain = make_config("run_dir=.", "model=efficientnet_b0")
    torch.manual_seed(0)
    model = build_model(plain, Labels(("a", "b", "c")), torch.device("cuda"))
    plain.trainer.sync_batch_norm = True
    torch.manual_seed(0)
    synchronised = build_model(plain, Labels(("a", "b", "c")), torch.device("cuda"))
    assert any(isinstance(each, torch.nn.SyncBatchNorm) for each in synchronised.modules())
    mel = torch.rand(2, 1, 64, 64)
    with torch.no_grad():  # equal weights, names and activations
        torch.testing.assert_close(model.eval()(mel), synchronised.eval()(mel))
    assert model.state_dict().keys() == synchronised.state_dict().keys()


def torchrun(*overrides: str) -> subprocess.Popen:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [*launcher, str(ROOT / "train.py"), *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_torchrun_writes_one_run_directory_and_sigterm_saves_it(demo: Path, tmp_path: Path):
    run = tmp_path / "run"
    settings = (*SMALL, f"data.root={demo}", "loggers=[]")
    process = torchrun(*settings, f"run_dir={run}", "trainer.max_epochs=5000")
    give_up_at = time.monotonic() + 90
    while not (run / "last.ckpt").exists() and time.monotonic() < give_up_at:
        time.sleep(0.1)
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert f"(SIGTERM) and saved; resume with: python train.py resume={run}" in output
    stopped = load_checkpoint(run)["position"]
    assert stopped["epoch"] >= 1
    assert len(pd.read_csv(run / "metrics.csv")) == stopped["epoch"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

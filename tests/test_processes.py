"""Several processes: each position once, one run directory, the gradients of the whole batch."""

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

from birdmix.app.build import build_model, build_training
from birdmix.app.data import Data, open_data
from birdmix.app.schema import Config
from birdmix.labels import Labels
from birdmix.loading.sampler import EpochBatches
from birdmix.mix import Audit, Mixup, Plan
from birdmix.training import loop
from birdmix.training.checkpoint import load_checkpoint
from birdmix.training.processes import Processes, open_processes
from tests.children import SAID, finish, start, start_many
from tests.conftest import ROOT, SMALL, TOY, assert_equal_runs, configured, train

#: Nothing random but the order, no batch statistics: the same gradients on any number of processes.
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
    return configured(*TOY, f"data.root={demo}", "checkpoint.every_steps=1", "data.batch_size=10")


def data_of(config: Config) -> Data:
    return open_data(config.data, config.frontend.log_mel.sample_rate)


@pytest.mark.parametrize("num_processes", [2, 3, 7])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_position_comes_up_in_one_process(num_processes: int, drop_last: bool):
    def shares(rank: int, count: int, start: tuple[int, int] = (0, 0)) -> list[list]:
        order = EpochBatches(
            np.ones(23), 8, seed=1, num_epochs=2, drop_last=drop_last, start=start, rank=rank,
            num_processes=count,
        )  # fmt: skip
        return list(order)

    whole = shares(0, 1)
    dealt = [shares(rank, num_processes) for rank in range(num_processes)]
    for batch, *hands in zip(whole, *dealt, strict=True):
        assert sorted(key for hand in hands for key in hand) == batch
        assert max(map(len, hands)) - min(map(len, hands)) <= 1
    assert shares(1, num_processes, start=(0, 2)) == dealt[1][2:]


def test_the_plan_is_a_function_of_epoch_batch_and_process(config: Config, tmp_path: Path):
    training = build_training(config, data_of(config), tmp_path, open_processes(config.trainer))

    def plan(rank: int, epoch: int = 0, batch: int = 0) -> Plan:
        training.processes = Processes(training.fabric, rank, size=2)
        return Mixup(1.0).draw(8, rng=training.keys(epoch, batch).rng("mix.mixup"))

    def same(one: Plan, two: Plan) -> bool:
        return np.array_equal(one.source, two.source) and np.array_equal(one.gain, two.gain)

    assert same(plan(1), plan(1))
    for other in (plan(0), plan(1, batch=1), plan(1, epoch=1)):
        assert not same(plan(1), other)


def test_two_processes_take_the_steps_that_one_takes(demo: Path, tmp_path: Path):
    config = configured(*PLAIN, f"data.root={demo}")
    one = train(config, data_of(config), tmp_path / "one")
    assert len(set(data_of(config).train.column("weight"))) > 1  # shares weigh unequally
    two = tmp_path / "two"
    two.mkdir()
    finish(two, *start_many(config, two))
    other = load_checkpoint(two)
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(other["model"][name], weight, rtol=1e-4, atol=1e-5)
    losses = ["train_loss", "validation_soundscape_loss"]
    figures, others = (
        pd.read_csv(each / "metrics.csv")[losses] for each in (tmp_path / "one", two)
    )
    np.testing.assert_allclose(others, figures, rtol=1e-5)
    said = (two / SAID).read_text()
    assert said.count("recordings of 12 classes to train on") == said.count("epoch 2/2") == 1


@pytest.mark.parametrize("num_workers", [pytest.param(2, marks=pytest.mark.slow), 0])
def test_a_lost_process_ends_the_run_and_it_goes_on_to_the_same_end(
    config: Config, tmp_path: Path, num_workers: int
):
    config.data.num_workers = num_workers
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for directory in (whole, killed):
        directory.mkdir()
    finish(whole, *start_many(config, whole))
    first, second = start_many(config, killed, act=die_in_the_second_process)
    for process in (first, second):
        process.join(60)
    said = (killed / SAID).read_text()
    assert second.exitcode == -signal.SIGKILL and first.exitcode == 2, said
    assert "process 0: error: process 0 of 0 .. 1 lost another one, which was killed" in said
    assert load_checkpoint(killed)["position"]["step"] == 1
    finish(killed, *start_many(config, killed))
    assert_equal_runs(whole, killed)
    books = load_checkpoint(whole)["audit"]
    assert len(books) == 2


def die_in_the_second_process() -> None:
    whole = loop._backward

    def fourth(*arguments):
        fourth.calls += 1
        if fourth.calls == 4 and os.environ["RANK"] == "1":
            os.killpg(0, signal.SIGKILL)
        return whole(*arguments)

    fourth.calls = 0
    loop._backward = fourth


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one(config: Config, tmp_path: Path):
    first, second = start_many(config, tmp_path, act=die_in_the_second_process)
    first.join(60)
    second.join(60)
    finish(tmp_path, start(config, tmp_path))
    said = (tmp_path / SAID).read_text()
    assert "may differ from that of an uninterrupted run: processes 2 -> 1" in said
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2]


def test_books_of_several_processes_add_up():
    def books(rank: int) -> Audit:
        audit = Audit(["mixup"])
        x, rng = torch.rand(4, 100), np.random.default_rng(rank)
        mixed = Mixup(0.8)(x, torch.eye(4), rng=rng)
        peak = mixed.x.abs().amax(dim=1)
        audit.enter(
            {"mixup": mixed.plan}, torch.eye(4), mixed.target, (4, 100), peak, peak.isfinite()
        )
        return audit

    each = [books(rank) for rank in range(3)]
    whole = Audit.merged([audit.state_dict() for audit in each])
    assert whole.samples == 12
    for name in ("mix_mixup_fired", "mix_mixup_sources", "mix_label_mass_out"):
        mean = np.mean([audit.report()[name] for audit in each])
        assert whole.report()[name] == pytest.approx(mean)
    clipped = sum(audit.report()["mix_clipped"] for audit in each)
    assert whole.report()["mix_clipped"] == clipped


def test_synchronised_batch_norms_need_gpus(config: Config, tmp_path: Path):
    config.trainer.sync_batch_norm = True
    with pytest.raises(ValueError, match="trainer.sync_batch_norm=true needs GPUs"):
        build_model(config, Labels(("a", "b", "c")), torch.device("cpu"))
    plain = configured("run_dir=.", "model=efficientnet_b0")
    torch.manual_seed(0)
    model = build_model(plain, Labels(("a", "b", "c")), torch.device("cuda"))
    plain.trainer.sync_batch_norm = True
    torch.manual_seed(0)
    synchronised = build_model(plain, Labels(("a", "b", "c")), torch.device("cuda"))
    assert any(isinstance(each, torch.nn.SyncBatchNorm) for each in synchronised.modules())
    mel = torch.rand(2, 1, 64, 64)
    with torch.no_grad():  # the same network: weights, names and activations
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


def test_torchrun_leaves_one_run_and_sigterm_loses_nothing(demo: Path, tmp_path: Path):
    run = tmp_path / "run"
    settings = (*SMALL, f"data.root={demo}", "loggers=[]")
    process = torchrun(*settings, f"run_dir={run}", "trainer.max_epochs=5000")
    give_up_at = time.monotonic() + 90
    while not (run / "last.ckpt").exists() and time.monotonic() < give_up_at:
        time.sleep(0.1)
    process.terminate()
    said = process.communicate(timeout=60)[0]
    assert f"(SIGTERM) and saved; go on with: python train.py resume={run}" in said
    stopped = load_checkpoint(run)["position"]
    assert stopped["epoch"] >= 1
    assert len(pd.read_csv(run / "metrics.csv")) == stopped["epoch"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

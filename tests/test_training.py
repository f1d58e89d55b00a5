"""The loop: exact for any number of workers, and after a resume in the middle of an epoch."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from birdmix.app.build import Data, build_training, open_data
from birdmix.app.schema import Config
from birdmix.training import loop
from birdmix.training.checkpoint import LAST, load_checkpoint, save_checkpoint
from birdmix.training.log import MetricsLog
from birdmix.training.loop import Position, Training, fit
from birdmix.training.settings import TrainerSettings
from tests.conftest import SMALL, configured

#: Two epochs of five steps (accumulation 2), dropout, average, a mix in every slot.
TOY = (
    *SMALL,
    "data.batch_size=5",
    "data.segments_per_recording=2",
    "data.drop_last=false",
    "trainer.max_epochs=2",
    "trainer.accumulate=2",
    "model.dropout=0.3",
    "frontend.masking.prob=0.5",
    "mix.cutmix.prob=0.5",
    "mix.mixup2_rule=amplitude",
    "mix.hidden.prob=0.5",
    "mix.schedule.warm_up=0.5",
    "loggers=[]",
    "run_dir=.",
)


@pytest.fixture(scope="module")
def config(demo: Path) -> Config:
    return configured(*TOY, f"data.root={demo}")


@pytest.fixture(scope="module")
def data(config: Config) -> Data:
    return open_data(config.data, config.frontend.log_mel.sample_rate)


def train(config: Config, data: Data, run: Path, state: dict | None = None) -> Training:
    run.mkdir(exist_ok=True)
    training = build_training(config, data, run, state)
    fit(training)
    return training


@pytest.fixture(scope="module")
def uninterrupted(config: Config, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted")
    train(config, data, run)
    return run


def assert_equal_runs(one: Path, two: Path) -> None:
    def flat(value: object, name: str = "") -> dict[str, object]:
        if isinstance(value, dict):
            return {k: v for n in value for k, v in flat(value[n], f"{name}.{n}").items()}
        if isinstance(value, list):
            return flat(dict(enumerate(value)), name)
        return {name: value}

    a, b = flat(load_checkpoint(one)), flat(load_checkpoint(two))
    assert a.keys() == b.keys()
    for name in a:
        same = torch.equal(a[name], b[name]) if torch.is_tensor(a[name]) else a[name] == b[name]
        assert same, name
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()


def test_two_workers_train_the_same_weights_as_none(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    config.data.num_workers = 2
    try:
        train(config, data, tmp_path)
    finally:
        config.data.num_workers = 0
    assert_equal_runs(uninterrupted, tmp_path)


class Killed(Exception):
    pass


@pytest.mark.parametrize(("kill_at", "num_workers"), [(2, 0), (5, 0), (7, 2)])
def test_a_run_killed_in_an_epoch_goes_on_to_the_same_weights(
    config: Config,
    data: Data,
    uninterrupted: Path,
    tmp_path: Path,
    kill_at: int,
    num_workers: int,
    monkeypatch,
):
    monkeypatch.setattr(config.data, "num_workers", num_workers)
    steps = 0
    whole_step = loop._optimizer_step

    def step_and_die(run: Training, batches: object) -> None:
        nonlocal steps
        whole_step(run, batches)
        steps += 1
        if steps == kill_at:
            save_checkpoint(run.run_dir, run.state())
        if steps == kill_at + 1:  # what was done since the checkpoint is lost
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_optimizer_step", step_and_die)
        with pytest.raises(Killed):
            train(config, data, tmp_path)
    (tmp_path / "metrics.csv").open("a").write("a torn row")
    train(config, data, tmp_path, load_checkpoint(tmp_path))
    assert_equal_runs(uninterrupted, tmp_path)


def test_seeds_train_other_weights(config: Config, data: Data, uninterrupted: Path, tmp_path: Path):
    config.seed = 1
    try:
        train(config, data, tmp_path)
    finally:
        config.seed = 0
    name = "head.weight"
    assert not torch.equal(
        load_checkpoint(uninterrupted)["model"][name], load_checkpoint(tmp_path)["model"][name]
    )


def test_the_number_of_steps_counts_accumulation(config: Config, data: Data, tmp_path: Path):
    training = build_training(config, data, tmp_path)
    assert training.batches_per_epoch == 10  # 48 segments in batches of 5, the last one short
    assert training.num_steps == 10


def test_a_batch_too_small_for_the_mix_is_refused_before_work(
    config: Config, data: Data, tmp_path: Path
):
    config.data.batch_size = 47  # leaves a last batch of one
    try:
        with pytest.raises(ValueError, match=r"joins 3 samples.*holds only 1.*data.drop_last=true"):
            build_training(config, data, tmp_path)
    finally:
        config.data.batch_size = 5


def test_a_loss_that_is_no_number_stops_the_run():
    with pytest.raises(ValueError, match="epoch 1, batch 4 is nan; lower optim.lr"):
        loop._finite(torch.tensor(float("nan")), Position(), 3)


def test_a_checkpoint_goes_on_with_its_own_data_only(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    fewer = replace(
        data, train=replace(data.train, recordings=data.train.recordings.take(range(20)))
    )
    shutil.copytree(uninterrupted, tmp_path / "run")
    with pytest.raises(ValueError, match="the recordings or their labels changed"):
        train(config, fewer, tmp_path / "run", load_checkpoint(uninterrupted))


def test_a_metrics_file_that_was_cut_is_refused(uninterrupted: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="shorter than the checkpoint knows it"):
        MetricsLog(tmp_path, length=10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="trainer.accelerator=gpu is not to be had here"):
        loop.open_fabric(TrainerSettings(accelerator="gpu"))


def test_a_torn_checkpoint_is_refused(tmp_path: Path):
    save_checkpoint(tmp_path, {"model": {"w": torch.ones(3)}})
    whole = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)


def test_a_crafted_pickle_is_refused(tmp_path: Path):
    class Crafted:
        def __reduce__(self):
            return (print, ("a checkpoint must not run code",))

    torch.save({"format": 1, "model": Crafted()}, tmp_path / LAST)
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)

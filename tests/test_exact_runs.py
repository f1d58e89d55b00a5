"""A run is a function of its configuration: for any workers, killed at any moment and resumed."""

import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from birdmix.app.build import build_training
from birdmix.app.data import Data, open_data
from birdmix.app.schema import Config
from birdmix.training import checkpoint, loop, validate
from birdmix.training.checkpoint import LAST, PREVIOUS, load_checkpoint, save_checkpoint
from birdmix.training.log import MetricsLog
from birdmix.training.position import Position
from birdmix.training.processes import open_processes
from tests.children import SAID, finish, start
from tests.conftest import TOY, assert_equal_runs, configured, train

#: All that is drawn on the way to a batch.
DRAWN = (
    "checkpoint.every_steps=2",
    "data.sampler=sqrt",
    "data.segment=energy",
    "data.short=gaps",
    "data.secondary=unknown",
    "data.augment=[{_target_: audiomentations.Gain, p: 0.5}]",
    "data.augment_mixed=[{_target_: audiomentations.PolarityInversion, p: 0.5}]",
    "data.pool.sources=[background]",
    "data.pool.size=3",
    "mix.inject.prob=0.5",
)


@pytest.fixture(scope="module")
def config(demo: Path) -> Config:
    return configured(
        *TOY, *DRAWN, f"data.root={demo}", f"data.pool.background={demo}/test_soundscapes"
    )


@pytest.fixture(scope="module")
def data(config: Config) -> Data:
    return open_data(config.data, config.frontend.log_mel.sample_rate)


@pytest.fixture(scope="module")
def uninterrupted(config: Config, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(config, data, directory)
    return directory


def with_workers(config: Config, num_workers: int) -> Config:
    return replace(config, data=replace(config.data, num_workers=num_workers))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_any_number_of_workers_trains_the_same_weights(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path, num_workers: int
):
    train(with_workers(config, num_workers), data, tmp_path)
    assert_equal_runs(uninterrupted, tmp_path)


def test_a_run_goes_on_from_each_of_its_checkpoints(
    config: Config,
    data: Data,
    uninterrupted: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
):
    every_step = replace(config, checkpoint=replace(config.checkpoint, every_steps=1))
    training = build_training(every_step, data, tmp_path, open_processes(config.trainer))
    training.saves.cheap = lambda: True
    whole, copies = training.saves.save, []

    def save(directory: Path, state: dict, step: int, write: bool) -> None:
        whole(directory, state, step, write)
        copies.append(tmp_path / f"copy-{len(copies)}")
        copies[-1].mkdir()
        for name in (LAST, "metrics.csv"):
            shutil.copy(directory / name, copies[-1])

    training.saves.save = save
    loop.fit(training)
    assert len(copies) == 12  # ten steps, and twice the end of an epoch
    # The short form takes one in the midst of an epoch, the end of one, and one of the last.
    for copy in copies if request.config.getoption("--slow") else copies[2::4]:
        (copy / "metrics.csv").open("a").write("a torn row")
        train(config, data, copy, load_checkpoint(copy))
        assert_equal_runs(uninterrupted, copy)


# ---- kill -9


def kill_own_group(*_: object, **__: object) -> None:
    os.killpg(0, signal.SIGKILL)


def between_the_renames() -> None:
    whole = os.replace

    def replace_or_die(source: Path, target: Path) -> None:
        if Path(target).name == LAST and (Path(target).parent / PREVIOUS).exists():
            kill_own_group()
        whole(source, target)

    checkpoint.os.replace = replace_or_die  # type: ignore[attr-defined]


def in_the_middle_of_writing() -> None:
    whole = checkpoint.torch.save

    def save_a_part(state: dict, stream: Any) -> None:
        whole(state, stream)
        if state["position"]["step"] >= 4:
            checkpoint.os.fsync = kill_own_group  # type: ignore[attr-defined]

    checkpoint.torch.save = save_a_part  # type: ignore[attr-defined]


def while_validating() -> None:
    validate._hear = kill_own_group


def in_a_step() -> None:
    whole = loop._backward

    def third(*arguments: Any) -> torch.Tensor:
        third.calls += 1  # type: ignore[attr-defined]
        return whole(*arguments) if third.calls < 6 else kill_own_group()  # type: ignore

    third.calls = 0  # type: ignore[attr-defined]
    loop._backward = third


@pytest.mark.parametrize(
    ("die", "num_workers"),
    [
        (between_the_renames, 0),
        pytest.param(while_validating, 2, marks=pytest.mark.slow),
        pytest.param(in_the_middle_of_writing, 2, marks=pytest.mark.slow),
        pytest.param(in_a_step, 3, marks=pytest.mark.slow),
    ],
)
def test_killed_at_a_chosen_moment_a_run_goes_on_to_the_same_end(
    config: Config, uninterrupted: Path, tmp_path: Path, die: Callable, num_workers: int
):
    config = with_workers(config, num_workers)
    process = start(config, tmp_path, die)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / SAID).read_text()
    if die is between_the_renames:
        assert not (tmp_path / LAST).exists() and (tmp_path / PREVIOUS).exists()
    finish(tmp_path, start(config, tmp_path))
    assert_equal_runs(uninterrupted, tmp_path)


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments_a_run_goes_on_to_the_same_end(
    config: Config, uninterrupted: Path, tmp_path: Path
):
    rng = random.Random(0)
    kills = 0
    for number in range(20):
        if kills >= 20:
            break
        directory = tmp_path / str(number)
        directory.mkdir()
        while kills < 20:
            process = start(with_workers(config, rng.choice([0, 1, 3])), directory)
            while not (directory / "metrics.csv").exists():  # reading recordings is not training
                time.sleep(0.01)
            process.join(rng.uniform(0.0, 4.0))
            if process.exitcode is not None:
                assert process.exitcode == 0, (directory / SAID).read_text()
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            finish(directory, start(config, directory))
        assert_equal_runs(uninterrupted, directory)
    assert kills == 20


# ---- checkpoints that are not whole


def test_a_torn_or_missing_checkpoint_falls_back_to_the_one_before(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    last = tmp_path / "run" / LAST
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"last.ckpt: damaged.*going on from previous.ckpt"):
        state = load_checkpoint(tmp_path / "run")
    assert state["position"]["step"] < 10 or state["position"]["epoch"] < 2
    train(config, data, tmp_path / "run", state)
    assert_equal_runs(uninterrupted, tmp_path / "run")
    last.unlink()
    with pytest.warns(UserWarning, match=r"no such checkpoint; going on from previous.ckpt"):
        load_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("damage", ["empty", "flipped"])
def test_no_damage_goes_unseen(uninterrupted: Path, tmp_path: Path, damage: str):
    for name in (LAST, PREVIOUS):
        shutil.copy(uninterrupted / name, tmp_path)
    content = bytearray((tmp_path / LAST).read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of some weights
    (tmp_path / LAST).write_bytes(b"" if damage == "empty" else bytes(content))
    with pytest.warns(UserWarning, match=r"last.ckpt: damaged.*going on from previous.ckpt"):
        load_checkpoint(tmp_path)


def test_a_torn_checkpoint_does_not_replace_the_one_before(uninterrupted: Path, tmp_path: Path):
    shutil.copy(uninterrupted / PREVIOUS, tmp_path)
    (tmp_path / LAST).write_bytes(b"torn")
    save_checkpoint(tmp_path, {"position": {"step": 1}})
    assert (tmp_path / PREVIOUS).read_bytes() == (uninterrupted / PREVIOUS).read_bytes()
    save_checkpoint(tmp_path, {"position": {"step": 2}})
    assert torch.load(tmp_path / PREVIOUS)["position"]["step"] == 1


def test_a_torn_checkpoint_alone_is_refused(tmp_path: Path):
    save_checkpoint(tmp_path, {"model": {"w": torch.ones(3)}})
    whole = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, "no position, data, made_on, ... in it"),
        ({"model": [1]}, "no model in it"),
        ({"average": 3}, "no average in it"),
        ({"position": {}}, "no position in it"),
        ({"position": {"epoch": "1"}}, "no position in it"),
        ({"format": 2}, "a checkpoint of another birdmix"),
    ],
)
def test_a_checkpoint_that_holds_something_else_is_refused(
    uninterrupted: Path, tmp_path: Path, change: dict | None, expected: str
):
    state = {"format": 3} if change is None else load_checkpoint(uninterrupted) | change
    if change and change.get("position"):
        state["position"] = vars(Position()) | change["position"]
    torch.save(state, tmp_path / LAST)
    with pytest.raises(ValueError, match=f"last.ckpt: .*{re.escape(expected)}"):
        load_checkpoint(tmp_path)


def test_parts_of_a_checkpoint_that_do_not_fit_are_told_in_a_line(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    for name in ("model", "optimizer", "average"):
        state = load_checkpoint(uninterrupted) | {name: {}}
        with pytest.raises(ValueError, match="does not fit this model or optimizer"):
            train(config, data, tmp_path / "run", state)
    with pytest.raises(ValueError, match="does not fit this model or optimizer"):
        train(config, data, tmp_path / "run", load_checkpoint(uninterrupted) | {"audit": [3]})


def test_a_crafted_pickle_is_refused_and_not_run(tmp_path: Path):
    class Crafted:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"format": 3, "model": Crafted()}, tmp_path / LAST)
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def with_a_full_disk() -> None:
    whole = checkpoint.save_checkpoint

    def save(directory: Path, state: dict) -> None:
        if state["position"]["step"] >= 4:  # no file may grow beyond this any more
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        whole(directory, state)

    checkpoint.save_checkpoint = save


def test_a_full_disk_ends_the_run_with_the_last_checkpoint_whole(
    config: Config, uninterrupted: Path, tmp_path: Path
):
    process = start(config, tmp_path, with_a_full_disk)
    process.join(120)
    said = (tmp_path / SAID).read_text()
    assert process.exitcode == 2, said
    assert re.search(
        r"^error: \[Errno 27\] File too large.*; the last checkpoint stands as it was: mend that "
        rf"and go on with resume={tmp_path}$",
        said,
        re.MULTILINE,
    )
    assert load_checkpoint(tmp_path)["position"]["step"] == 2
    assert not list(tmp_path.glob(".*partial*"))
    finish(tmp_path, start(config, tmp_path))
    assert_equal_runs(uninterrupted, tmp_path)


# ---- a checkpoint goes on with its own run only


def test_a_checkpoint_goes_on_with_its_own_recordings_only(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    turned = data.train.take(np.arange(len(data.train))[::-1])
    shutil.copytree(uninterrupted, tmp_path / "run")
    state = load_checkpoint(uninterrupted)
    with pytest.raises(ValueError, match="the recordings changed since the checkpoint"):
        train(config, replace(data, train=turned), tmp_path / "run", state)
    train(replace(config, resume_force=True), replace(data, train=turned), tmp_path / "run", state)


def test_another_label_set_is_refused_even_by_force(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    state, forced = load_checkpoint(uninterrupted), replace(config, resume_force=True)
    first, *others = data.labels.codes
    state["data"]["labels"] = ";".join(others)
    expected = (
        rf"changed since the checkpoint, 11 -> 12 classes \(1 new: {first}\); put it back, or "
        rf"start a new run from these weights with init_from={tmp_path}/run$"
    )
    with pytest.raises(ValueError, match=expected):
        train(forced, data, tmp_path / "run", state)
    state["data"]["labels"] = ";".join([*others, first])
    with pytest.raises(ValueError, match="in another order"):
        train(forced, data, tmp_path / "run", state)


def test_a_checkpoint_of_another_model_is_refused(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    other = replace(config, model=replace(config.model, head="average"))
    with pytest.raises(ValueError, match="does not fit this model or optimizer"):
        train(other, data, tmp_path / "run", load_checkpoint(uninterrupted))


def test_other_columns_are_refused_even_by_force(
    config: Config, data: Data, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    other = replace(config, mix=replace(config.mix, mixup_prob=0.0), resume_force=True)
    with pytest.raises(ValueError, match="would give metrics.csv other columns"):
        train(other, data, tmp_path / "run", load_checkpoint(uninterrupted))
    log = "metrics.csv"
    assert (tmp_path / "run" / log).read_bytes() == (uninterrupted / log).read_bytes()


def test_an_average_that_was_off_begins_with_the_weights(
    config: Config, data: Data, tmp_path: Path
):
    off = replace(config, optim=replace(config.optim, ema_decay=0.0))
    ended = train(off, data, tmp_path)
    forced, state = replace(config, resume_force=True), load_checkpoint(tmp_path)
    training = build_training(forced, data, tmp_path, ended.processes, state)
    assert training.average is not None
    for name, weight in training.average.module.state_dict().items():
        assert torch.equal(weight, ended.model.state_dict()[name])


def test_another_machine_is_told(config: Config, data: Data, uninterrupted: Path, tmp_path: Path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    state = load_checkpoint(uninterrupted)
    state["made_on"]["threads"] = 64
    with pytest.warns(UserWarning, match=f"threads 64 -> {torch.get_num_threads()}"):
        train(config, data, tmp_path / "run", state)


def test_a_metrics_file_that_was_cut_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="shorter than the checkpoint knows it"):
        MetricsLog(tmp_path, length=10)

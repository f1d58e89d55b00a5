"""Exact runs: equal results for any number of workers, and after kills at any moment."""

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

from birdmix.config.schema import Config
from birdmix.experiments.builders import build_training_run
from birdmix.loading.run_data import RunData, open_data
from birdmix.training import checkpoint, training_loop, validation
from birdmix.training.checkpoint import (
    LAST_CHECKPOINT,
    PREVIOUS_CHECKPOINT,
    load_checkpoint,
    save_checkpoint,
)
from birdmix.training.distributed_processes import connect_processes
from birdmix.training.metrics_log import MetricsLog
from birdmix.training.run_position import RunPosition
from tests.child_processes import OUTPUT_FILE, finish, start
from tests.conftest import TOY, assert_equal_runs, make_config, train

#: Settings with random draws in every step of loading a batch.
RANDOM_LOADING = (
    "checkpoint.every_steps=2",
    "data.sampler=sqrt",
    "data.segment=energy",
    "data.short=gaps",
    "data.secondary=unknown",
    "data.augment=[{_target_: audiomentations.Gain, p: 0.5}]",
    *(
        f"augment.{name}.prob=0.5"
        for name in ("speed", "pitch_shift", "coloured_noise", "freq_mix_style")
    ),
    "data.substitution.prob=0.5",
    "data.substitution.pool=balanced",
    "data.batch_shares={balanced: 0.2}",
    "mix.partner_pool=balanced",
    "mix.partners=no_common_class",
    "mix.time_shift=random",
    "mix.injectors=[{pool: noise, prob: 0.4, snr_db: [0, 20], group: a}, "
    "{pool: balanced, prob: 0.4, blend: [0.5, 0.5], label_sum: 0.5, group: a}, "
    "{pool: noise, prob: 0.3, gain_db: [-20, 0], time_shift: aligned}]",
)


@pytest.fixture(scope="module")
def config(demo: Path) -> Config:
    return make_config(
        *TOY,
        *RANDOM_LOADING,
        "mix.clean_weight=0.25",
        f"data.root={demo}",
        f"data.pools={{noise: {{source: background, root: {demo}/test_soundscapes, size: 3}}, "
        "balanced: {source: recordings, draw: class, size: 4}}",
    )


@pytest.fixture(scope="module")
def data(config: Config) -> RunData:
    return open_data(config.data, config.frontend.log_mel.sample_rate)


@pytest.fixture(scope="module")
def uninterrupted(config: Config, data: RunData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(config, data, directory)
    return directory


def with_workers(config: Config, num_workers: int) -> Config:
    return replace(config, data=replace(config.data, num_workers=num_workers))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_weights_do_not_depend_on_the_number_of_workers(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path, num_workers: int
):
    train(with_workers(config, num_workers), data, tmp_path)
    assert_equal_runs(uninterrupted, tmp_path)


def test_a_run_resumes_exactly_from_each_of_its_checkpoints(
    config: Config,
    data: RunData,
    uninterrupted: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
):
    every_step = replace(config, checkpoint=replace(config.checkpoint, every_steps=1))
    training = build_training_run(every_step, data, tmp_path, connect_processes(config.trainer))
    training.checkpoint_schedule.is_saving_cheap = lambda: True
    save_original, copies = training.checkpoint_schedule.save, []

    def save(directory: Path, state: dict, step: int, write: bool) -> None:
        save_original(directory, state, step, write)
        copies.append(tmp_path / f"copy-{len(copies)}")
        copies[-1].mkdir()
        for name in (LAST_CHECKPOINT, "metrics.csv"):
            shutil.copy(directory / name, copies[-1])

    training.checkpoint_schedule.save = save
    training_loop.fit(training)
    assert len(copies) == 14  # twelve steps, and twice the end of an epoch
    # The short form uses one within an epoch, the end of an epoch, and one of the last epoch.
    for copy in copies if request.config.getoption("--slow") else copies[2::4]:
        (copy / "metrics.csv").open("a").write("an incomplete row")
        train(config, data, copy, load_checkpoint(copy))
        assert_equal_runs(uninterrupted, copy)


# ---- kill -9


def kill_own_group(*_: object, **__: object) -> None:
    os.killpg(0, signal.SIGKILL)


def kill_between_renames() -> None:
    replace_original = os.replace

    def replace_or_kill(source: Path, target: Path) -> None:
        if (
            Path(target).name == LAST_CHECKPOINT
            and (Path(target).parent / PREVIOUS_CHECKPOINT).exists()
        ):
            kill_own_group()
        replace_original(source, target)

    checkpoint.os.replace = replace_or_kill  # type: ignore[attr-defined]


def kill_while_writing() -> None:
    save_original = checkpoint.torch.save

    def save_and_arm(state: dict, stream: Any) -> None:
        save_original(state, stream)
        if state["position"]["step"] >= 4:
            checkpoint.os.fsync = kill_own_group  # type: ignore[attr-defined]

    checkpoint.torch.save = save_and_arm  # type: ignore[attr-defined]


def kill_while_validating() -> None:
    validation._predict_batch = kill_own_group


def kill_in_a_step() -> None:
    backward = training_loop._backward

    def kill_at_sixth_call(*arguments: Any) -> torch.Tensor:
        kill_at_sixth_call.calls += 1  # type: ignore[attr-defined]
        return backward(*arguments) if kill_at_sixth_call.calls < 6 else kill_own_group()  # type: ignore

    kill_at_sixth_call.calls = 0  # type: ignore[attr-defined]
    training_loop._backward = kill_at_sixth_call


@pytest.mark.parametrize(
    ("kill", "num_workers"),
    [
        (kill_between_renames, 0),
        pytest.param(kill_while_validating, 2, marks=pytest.mark.slow),
        pytest.param(kill_while_writing, 2, marks=pytest.mark.slow),
        pytest.param(kill_in_a_step, 3, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_a_chosen_moment_resumes_exactly(
    config: Config, uninterrupted: Path, tmp_path: Path, kill: Callable, num_workers: int
):
    config = with_workers(config, num_workers)
    process = start(config, tmp_path, kill)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / OUTPUT_FILE).read_text()
    if kill is kill_between_renames:
        assert (
            not (tmp_path / LAST_CHECKPOINT).exists() and (tmp_path / PREVIOUS_CHECKPOINT).exists()
        )
    finish(tmp_path, start(config, tmp_path))
    assert_equal_runs(uninterrupted, tmp_path)


@pytest.mark.slow
def test_runs_killed_twenty_times_at_random_moments_resume_exactly(
    config: Config, uninterrupted: Path, tmp_path: Path
):
    rng = random.Random(0)
    kills = 0
    for number in range(100):  # on a fast machine many runs end before they are killed
        if kills >= 20:
            break
        directory = tmp_path / str(number)
        directory.mkdir()
        while kills < 20:
            process = start(with_workers(config, rng.choice([0, 1, 3])), directory)
            while not (directory / "metrics.csv").exists():  # reading recordings comes first
                time.sleep(0.01)
            process.join(rng.uniform(0.0, 4.0))
            if process.exitcode is not None:
                assert process.exitcode == 0, (directory / OUTPUT_FILE).read_text()
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            finish(directory, start(config, directory))
        assert_equal_runs(uninterrupted, directory)
    assert kills == 20


# ---- damaged checkpoints


def test_an_incomplete_or_missing_checkpoint_falls_back_to_the_one_before(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    last = tmp_path / "run" / LAST_CHECKPOINT
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"last.ckpt: damaged.*resuming from previous.ckpt"):
        state = load_checkpoint(tmp_path / "run")
    assert state["position"]["step"] < 12 or state["position"]["epoch"] < 2
    train(config, data, tmp_path / "run", state)
    assert_equal_runs(uninterrupted, tmp_path / "run")
    last.unlink()
    with pytest.warns(UserWarning, match=r"no such checkpoint; resuming from previous.ckpt"):
        load_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("damage", ["empty", "flipped"])
def test_a_damaged_checkpoint_is_detected(uninterrupted: Path, tmp_path: Path, damage: str):
    for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT):
        shutil.copy(uninterrupted / name, tmp_path)
    content = bytearray((tmp_path / LAST_CHECKPOINT).read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of some weights
    (tmp_path / LAST_CHECKPOINT).write_bytes(b"" if damage == "empty" else bytes(content))
    with pytest.warns(UserWarning, match=r"last.ckpt: damaged.*resuming from previous.ckpt"):
        load_checkpoint(tmp_path)


def test_an_incomplete_checkpoint_does_not_replace_the_one_before(
    uninterrupted: Path, tmp_path: Path
):
    shutil.copy(uninterrupted / PREVIOUS_CHECKPOINT, tmp_path)
    (tmp_path / LAST_CHECKPOINT).write_bytes(b"incomplete")
    save_checkpoint(tmp_path, {"position": {"step": 1}})
    assert (tmp_path / PREVIOUS_CHECKPOINT).read_bytes() == (
        uninterrupted / PREVIOUS_CHECKPOINT
    ).read_bytes()
    save_checkpoint(tmp_path, {"position": {"step": 2}})
    assert torch.load(tmp_path / PREVIOUS_CHECKPOINT)["position"]["step"] == 1


def test_a_single_incomplete_checkpoint_is_refused(tmp_path: Path):
    save_checkpoint(tmp_path, {"model": {"w": torch.ones(3)}})
    content = (tmp_path / LAST_CHECKPOINT).read_bytes()
    (tmp_path / LAST_CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, "(missing or invalid: position, data, environment, ...)"),
        ({"model": [1]}, "(missing or invalid: model)"),
        ({"average": 3}, "(missing or invalid: average)"),
        ({"position": {}}, "(missing or invalid: position)"),
        ({"position": {"epoch": "1"}}, "(missing or invalid: position)"),
        ({"format": 3}, "written by another version of birdmix"),
    ],
)
def test_a_checkpoint_with_other_content_is_refused(
    uninterrupted: Path, tmp_path: Path, change: dict | None, expected: str
):
    state = {"format": 4} if change is None else load_checkpoint(uninterrupted) | change
    if change and change.get("position"):
        state["position"] = vars(RunPosition()) | change["position"]
    torch.save(state, tmp_path / LAST_CHECKPOINT)
    with pytest.raises(ValueError, match=f"last.ckpt: .*{re.escape(expected)}"):
        load_checkpoint(tmp_path)


def test_entries_of_a_checkpoint_that_do_not_fit_are_a_one_line_error(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    for name in ("model", "optimizer", "average"):
        state = load_checkpoint(uninterrupted) | {name: {}}
        with pytest.raises(ValueError, match="does not fit this model or optimizer"):
            train(config, data, tmp_path / "run", state)
    with pytest.raises(ValueError, match="does not fit this model or optimizer"):
        train(config, data, tmp_path / "run", load_checkpoint(uninterrupted) | {"mix_stats": [3]})


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path):
    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"format": 4, "model": Malicious()}, tmp_path / LAST_CHECKPOINT)
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def simulate_full_disk() -> None:
    save_original = checkpoint.save_checkpoint

    def save(directory: Path, state: dict) -> None:
        if state["position"]["step"] >= 4:  # no file may grow any more
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        save_original(directory, state)

    checkpoint.save_checkpoint = save


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(
    config: Config, uninterrupted: Path, tmp_path: Path
):
    process = start(config, tmp_path, simulate_full_disk)
    process.join(120)
    output = (tmp_path / OUTPUT_FILE).read_text()
    assert process.exitcode == 2, output
    assert re.search(
        r"^error: \[Errno 27\] File too large.*; the last checkpoint is intact: fix the cause "
        rf"and resume with resume={tmp_path}$",
        output,
        re.MULTILINE,
    )
    assert load_checkpoint(tmp_path)["position"]["step"] == 2
    assert not list(tmp_path.glob(".*partial*"))
    finish(tmp_path, start(config, tmp_path))
    assert_equal_runs(uninterrupted, tmp_path)


# ---- checkpoints of other runs


def test_resuming_with_other_recordings_is_refused_unless_forced(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    reversed_order = data.train.take(np.arange(len(data.train))[::-1])
    shutil.copytree(uninterrupted, tmp_path / "run")
    state = load_checkpoint(uninterrupted)
    with pytest.raises(ValueError, match="the recordings changed since the checkpoint"):
        train(config, replace(data, train=reversed_order), tmp_path / "run", state)
    train(
        replace(config, resume_force=True),
        replace(data, train=reversed_order),
        tmp_path / "run",
        state,
    )


def test_another_label_set_is_refused_even_if_forced(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    state, forced = load_checkpoint(uninterrupted), replace(config, resume_force=True)
    first, *others = data.labels.codes
    state["data"]["labels"] = ";".join(others)
    expected = (
        rf"changed since the checkpoint, 11 -> 12 classes \(1 added: {first}\); restore it, or "
        rf"start a new run from these weights with init_from={tmp_path}/run$"
    )
    with pytest.raises(ValueError, match=expected):
        train(forced, data, tmp_path / "run", state)
    state["data"]["labels"] = ";".join([*others, first])
    with pytest.raises(ValueError, match="in another order"):
        train(forced, data, tmp_path / "run", state)


def test_a_checkpoint_of_another_model_is_refused(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    other = replace(config, model=replace(config.model, head="average"))
    with pytest.raises(ValueError, match="does not fit this model or optimizer"):
        train(other, data, tmp_path / "run", load_checkpoint(uninterrupted))


def test_other_columns_of_the_metrics_file_are_refused_even_if_forced(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    other = replace(config, mix=replace(config.mix, mixup_prob=0.0), resume_force=True)
    with pytest.raises(ValueError, match="would change the columns of metrics.csv"):
        train(other, data, tmp_path / "run", load_checkpoint(uninterrupted))
    log = "metrics.csv"
    assert (tmp_path / "run" / log).read_bytes() == (uninterrupted / log).read_bytes()


def test_an_average_missing_from_the_checkpoint_starts_from_the_weights(
    config: Config, data: RunData, tmp_path: Path
):
    off = replace(config, optim=replace(config.optim, ema_decay=0.0))
    ended = train(off, data, tmp_path)
    forced, state = replace(config, resume_force=True), load_checkpoint(tmp_path)
    training = build_training_run(forced, data, tmp_path, ended.processes, state)
    assert training.average is not None
    for name, weight in training.average.module.state_dict().items():
        assert torch.equal(weight, ended.model.state_dict()[name])


def test_resuming_in_another_environment_is_a_warning(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    shutil.copytree(uninterrupted, tmp_path / "run")
    state = load_checkpoint(uninterrupted)
    state["environment"]["threads"] = 64
    with pytest.warns(UserWarning, match=f"threads 64 -> {torch.get_num_threads()}"):
        train(config, data, tmp_path / "run", state)


def test_a_truncated_metrics_file_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="shorter than when the checkpoint was written"):
        MetricsLog(tmp_path, length=10)

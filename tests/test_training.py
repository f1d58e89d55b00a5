"""The loop: what ends it, what it keeps, and what it says when it cannot go on."""

import math
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric import Fabric

from birdmix.app.build import build_model, build_training
from birdmix.app.data import Data, open_data
from birdmix.app.schema import Config
from birdmix.batch import Batch
from birdmix.duration import seconds_of
from birdmix.labels import Labels
from birdmix.loading.sampler import EpochBatches
from birdmix.training import loop, processes
from birdmix.training.checkpoint import load_checkpoint
from birdmix.training.memory import first_samples
from birdmix.training.monitor import best_epochs, is_stalled
from birdmix.training.position import Position
from birdmix.training.processes import open_processes
from birdmix.training.run import Training
from birdmix.training.settings import CheckpointSettings, TrainerSettings
from birdmix.training.stops import TIME_IS_OVER, Stopped, Stops
from birdmix.training.validate import judge, monitored_figure
from tests.conftest import TOY, assert_equal_runs, configured, train


@pytest.fixture
def config(demo: Path) -> Config:
    return configured(*TOY, f"data.root={demo}")


@pytest.fixture(scope="module")
def data(demo: Path) -> Data:
    config = configured(*TOY, f"data.root={demo}")
    return open_data(config.data, config.frontend.log_mel.sample_rate)


@pytest.fixture(scope="module")
def uninterrupted(demo: Path, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted")
    train(configured(*TOY, f"data.root={demo}"), data, run)
    return run


def build(config: Config, data: Data, run: Path) -> Training:
    return build_training(config, data, run, open_processes(config.trainer))


class Listener:
    """A hook that acts on a batch."""

    def __init__(self, act, at: int) -> None:
        self.act, self.at, self.batches = act, at, 0

    def on_batch(self, position: Position, num_samples: int) -> None:
        self.batches += 1
        if self.batches == self.at:
            self.act()

    def on_validation(self) -> None:
        pass

    def on_epoch(self, metrics: dict, seconds: dict) -> None:
        self.seconds = seconds


def test_seeds_train_other_weights(config: Config, data: Data, uninterrupted: Path, tmp_path: Path):
    other = train(replace(config, seed=1), data, tmp_path)
    weight = load_checkpoint(uninterrupted)["model"]["head.classes.weight"]
    assert not torch.equal(other.model.head.classes.weight, weight)


def test_the_number_of_steps_counts_accumulation(config: Config, data: Data, tmp_path: Path):
    training = build(config, data, tmp_path)
    assert training.batches_per_epoch == 10  # 48 segments in batches of 5, the last one short
    assert training.num_steps == 10


def test_a_batch_too_small_for_the_mix_is_refused_before_work(
    config: Config, data: Data, tmp_path: Path
):
    config.data.batch_size = 47  # leaves a last batch of one
    with pytest.raises(ValueError, match=r"joins 3 samples.*may hold only 1.*data.drop_last=true"):
        build(config, data, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="trainer.accelerator=gpu is not to be had here"):
        open_processes(TrainerSettings(accelerator="gpu"))


# ---- ends that somebody asks for


@pytest.mark.parametrize(("number", "num_workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_a_signal_saves_at_the_next_safe_point_and_loses_nothing(
    config: Config,
    data: Data,
    uninterrupted: Path,
    tmp_path: Path,
    number: signal.Signals,
    num_workers: int,
):
    config.data.num_workers = num_workers
    stopped = build(config, data, tmp_path)
    # In the middle of an accumulation; loader processes are in the same group.
    stopped.hooks = [Listener(lambda: os.kill(os.getpid(), number), at=13)]
    with pytest.raises(Stopped, match=f"batch 4 of epoch 2 .{number.name}. and saved") as ended:
        loop.fit(stopped)
    assert ended.value.status == 128 + number
    assert f"resume={tmp_path}" in str(ended.value)
    train(config, data, tmp_path, load_checkpoint(tmp_path))
    assert_equal_runs(tmp_path, uninterrupted)


def test_a_signal_while_validating_does_not_wait_for_its_end(
    config: Config,
    data: Data,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    stopped = build(config, data, tmp_path)
    heard = []

    def signalled(*_: object, between) -> None:
        heard.append(1)
        stopped.stops._note(signal.SIGTERM, None)
        between()

    monkeypatch.setattr(loop, "judge", signalled)
    with pytest.raises(Stopped, match="batch 10 of epoch 1"):
        loop.fit(stopped)
    assert heard == [1] and (tmp_path / "metrics.csv").read_text() == ""
    monkeypatch.undo()
    train(config, data, tmp_path, load_checkpoint(tmp_path))
    assert_equal_runs(tmp_path, uninterrupted)


def test_a_second_signal_acts_at_once():
    before = signal.getsignal(signal.SIGINT)
    with Stops() as stops:
        os.kill(os.getpid(), signal.SIGINT)
        assert stops.status() == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_end_of_the_time_saves_and_ends(config: Config, data: Data, tmp_path: Path):
    training = build(config, data, tmp_path)
    training.stops.ends_at = time.monotonic()
    with pytest.raises(Stopped, match="its time is over") as ended:
        loop.fit(training)
    assert ended.value.status == TIME_IS_OVER
    assert load_checkpoint(tmp_path)["position"]["step"] == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("8h30m", 30600), ("1d", 86400), ("45s", 45), ("00:01:30", 90),
     ("01:00:00:01", 86401)],
)  # fmt: skip
def test_durations_are_read(text: str, seconds: int):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "m", "5x", "0s", "1:2", "30m1h", "-5m"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ValueError, match="is no duration; write it like 90m"):
        seconds_of(text)


# ---- saving


def test_saves_are_due_by_time_or_by_steps(config: Config, data: Data, tmp_path: Path):
    steps = []

    def saved_steps(**settings) -> list[int]:
        config.checkpoint = CheckpointSettings(**settings)
        training = build(config, data, tmp_path)
        whole = training.saves.save
        training.saves.save = lambda run, state, step, write: (
            steps.append(step),
            whole(run, state, step, False),
        )
        steps.clear()
        loop.fit(training)
        return steps

    assert saved_steps(every_steps=2)[:3] == [2, 4, 5]  # and at the end of the epoch
    assert set(saved_steps(every_minutes=1e-9)) == set(range(1, 11))
    assert saved_steps(every_minutes=60)[-1] == 10


def test_an_epochs_end_is_not_saved_where_that_costs_much(config: Config):
    saves = loop.Training.__dataclass_fields__["saves"].type(config.checkpoint)
    assert saves.cheap()
    saves.cost, saves.at = 2.0, time.monotonic() - 100
    assert not saves.cheap()
    saves.at -= 200
    assert saves.cheap()


# ---- what cannot go on


def spoilt(training: Training, at: int) -> Training:
    """Let a weight become nan after a batch."""

    def spoil() -> None:
        with torch.no_grad():
            training.model.head.classes.bias.fill_(math.nan)

    training.hooks = [Listener(spoil, at)]
    return training


def test_a_loss_that_is_no_number_names_the_recordings_and_keeps_the_checkpoint(
    config: Config, data: Data, tmp_path: Path
):
    config.checkpoint.every_steps = 1
    training = spoilt(build(config, data, tmp_path), at=3)
    with pytest.raises(ValueError, match="the loss is nan in epoch 1, batch 4; lower") as error:
        loop.fit(training)
    order = EpochBatches(np.full(24, 2.0), 5, seed=0, num_epochs=1, drop_last=False)
    paths = data.train.paths
    named = str(error.value).split("\n  ")[1:]
    assert named == list(dict.fromkeys(paths[row] for row in order.rows(0)[15:20]))
    assert load_checkpoint(tmp_path)["position"]["step"] == 1


def test_weights_that_are_no_numbers_are_never_saved(config: Config, data: Data, tmp_path: Path):
    config.checkpoint.every_steps = 1
    training = spoilt(build(config, data, tmp_path), at=4)  # the step's losses were fine
    with pytest.raises(ValueError, match="weights became infinite or nan in epoch 1, batch 4"):
        loop.fit(training)
    assert load_checkpoint(tmp_path)["position"]["step"] == 1


def test_validation_logits_that_are_no_numbers_end_it_with_the_recordings(
    config: Config, data: Data, tmp_path: Path
):
    training = build(config, data, tmp_path)
    validation = training.validation[0]
    training.model.register_forward_hook(  # a model that judges one window of each batch as nan
        lambda module, inputs, logits: logits._replace(
            clip=torch.cat([torch.full_like(logits.clip[:1], math.nan), logits.clip[1:]])
        )
    )
    with pytest.raises(ValueError, match=f"{validation.name}: logits of .* rows are not finite"):
        judge(training.processes.alone(), training.model, training.step.log_mel, validation)


def test_out_of_memory_says_what_fits(config: Config, data: Data, tmp_path: Path):
    config.data.batch_size = 16
    training = build(config, data, tmp_path)

    def short_of_memory(module: torch.nn.Module, inputs: tuple) -> None:
        if len(inputs[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")

    training.model.backbone.register_forward_pre_hook(short_of_memory)
    with pytest.raises(
        ValueError,
        match=r"CUDA out of memory: 16 segments at a time do not fit, 4 do; use "
        r"data.batch_size=4 trainer.accumulate=8 for",
    ):
        loop.fit(training)


def test_out_of_memory_for_a_single_segment_names_what_else_would_help(
    config: Config, data: Data, tmp_path: Path
):
    training = build(config, data, tmp_path)

    def out_of_memory(module: torch.nn.Module, inputs: tuple) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    training.model.backbone.register_forward_pre_hook(out_of_memory)
    with pytest.raises(ValueError, match="not even 3 at a time fit; take a smaller"):
        loop.fit(training)


def test_the_first_samples_of_a_batch_keep_its_pool():
    x = torch.zeros(4, 8)
    pool = Batch(x, x, x[:, 0], x > 0, x[:, 0])
    few = first_samples(pool._replace(pool=pool), 3)
    assert len(few.x) == len(few.weight) == 3 and few.frames is None
    assert few.pool is not None and len(few.pool.x) == 4


# ---- better and worse epochs


def test_the_best_epochs_are_told_by_the_figure():
    values = [0.5, math.nan, 0.7, 0.7, 0.6]
    assert best_epochs(values, "validation_macro_roc_auc", 2) == [2, 3]
    assert best_epochs(values, "validation_loss", 2) == [0, 4]
    assert best_epochs([math.nan], "validation_loss", 2) == []


def test_hope_is_given_up_after_patience_epochs_without_a_better_one():
    def stalls(values: list[float], patience: int | None = 2) -> bool:
        return is_stalled(values, "validation_macro_roc_auc", patience)

    assert not stalls([]) and not stalls([0.5]) and not stalls([0.5, 0.4])
    assert stalls([0.5, 0.4, 0.5])  # as good is not better
    assert not stalls([0.5, 0.4, 0.6]) and not stalls([0.5, 0.4, 0.4], patience=None)
    assert stalls([math.nan, math.nan])


def test_a_run_without_hope_ends_early(config: Config, data: Data, tmp_path: Path):
    config.trainer.max_epochs = 6
    config.validation.patience = 1
    config.validation.monitor = "train_loss"
    training = build(config, data, tmp_path)
    training.optim = replace(training.optim, lr=1e-12)  # nothing improves but by chance
    loop.fit(training)
    losses = pd.read_csv(tmp_path / "metrics.csv")["train_loss"].tolist()
    assert len(losses) < 6 and np.argmin(losses) == len(losses) - 2
    resumed = build_training(
        config, data, tmp_path, training.processes, load_checkpoint(tmp_path)
    )  # and a resume knows
    assert resumed.is_done


def test_a_figure_that_no_epoch_has_is_refused_before_work(
    config: Config, data: Data, tmp_path: Path
):
    config.validation.monitor = "validation_soundscape_rocauc"
    with pytest.raises(ValueError, match="did you mean 'validation_soundscape_macro_roc_auc'"):
        build(config, data, tmp_path)
    assert monitored_figure([], None) is None
    config.validation.monitor, config.validation.patience = None, 2
    with pytest.raises(ValueError, match="need something to validate on"):
        build(config, replace(data, validation={}), tmp_path)


# ---- devices, precision, time


class ScalingFabric(Fabric):
    """Scales losses as 16-mixed does on a GPU; on a CPU Fabric itself takes bf16 instead."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.strategy.precision.scaler = torch.amp.GradScaler("cpu", growth_interval=3)


@pytest.mark.parametrize("scaled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_low_precision_resumes_exactly_with_the_state_of_its_scaler(
    config: Config, data: Data, tmp_path: Path, scaled: bool, monkeypatch: pytest.MonkeyPatch
):
    config.trainer.precision = "bf16-mixed"
    if scaled:
        monkeypatch.setattr(processes, "Fabric", ScalingFabric)
    stopped = build(config, data, tmp_path)
    stopped.hooks = [Listener(lambda: os.kill(os.getpid(), signal.SIGTERM), at=13)]
    with pytest.raises(Stopped):
        loop.fit(stopped)
    state = load_checkpoint(tmp_path)
    assert state["precision"].get("_growth_tracker") == (1 if scaled else None)
    train(config, data, tmp_path, state)
    train(config, data, tmp_path / "whole")
    assert_equal_runs(tmp_path, tmp_path / "whole")


def test_gradients_that_overflow_skip_a_step_and_nothing_else(
    config: Config, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config.trainer.precision = "bf16-mixed"
    monkeypatch.setattr(processes, "Fabric", ScalingFabric)
    training = build(config, data, tmp_path)
    scaler = training.fabric.strategy.precision.scaler
    calls = []

    def overflow_once(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * (math.inf if len(calls) == 3 else 1)

    training.model.head.classes.bias.register_hook(overflow_once)
    loop.fit(training)
    steps = [int(state["step"]) for state in training.optimizer.state.values()]
    assert set(steps) == {9} and training.position.step == 10
    assert scaler.get_scale() == 2.0**16 / 2 * 2**2  # halved once, doubled after 3 and 3 good steps
    assert all(weight.isfinite().all() for weight in training.model.parameters())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_run_resumes_exactly_and_its_weights_keep_their_names(
    config: Config, data: Data, tmp_path: Path
):
    plain = build_model(config, Labels(tuple("abcdefghijkl")), torch.device("cpu"))
    config.trainer.compile = True
    stopped = build(config, data, tmp_path)
    assert stopped.model.state_dict().keys() == plain.state_dict().keys()
    stopped.hooks = [Listener(lambda: os.kill(os.getpid(), signal.SIGTERM), at=13)]
    with pytest.raises(Stopped):
        loop.fit(stopped)
    train(config, data, tmp_path, load_checkpoint(tmp_path))
    train(config, data, tmp_path / "whole")
    assert_equal_runs(tmp_path, tmp_path / "whole")


def test_time_is_booked_to_its_part(config: Config, data: Data, tmp_path: Path):
    training = build(config, data, tmp_path)
    listener = Listener(lambda: time.sleep(0.3), at=15)
    training.hooks = [listener]
    began = time.perf_counter()
    loop.fit(training)
    elapsed = time.perf_counter() - began
    seconds = listener.seconds
    assert set(seconds) == {
        "loading", "transfer", "mixing", "mel", "model", "validation", "saving",
    }  # fmt: skip
    assert all(value >= 0 for value in seconds.values()) and sum(seconds.values()) <= elapsed
    assert min(seconds["model"], seconds["mel"], seconds["validation"]) > 0
    assert seconds["loading"] > 0.3  # hooks are waited for like recordings


def test_settings_that_make_no_sense_are_refused():
    for settings, message in (
        (lambda: TrainerSettings(max_time="soon"), "max_time='soon' is no duration"),
        (lambda: CheckpointSettings(every_steps=0), "every_steps=0: at least 1"),
        (lambda: CheckpointSettings(bundle="best"), "set checkpoint.best_k=1"),
        (lambda: CheckpointSettings(best_k=-1), "best_k=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            settings()

"""The training loop: stop requests, checkpoints, errors, early stopping, precision and timing."""

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

from birdmix.config.schema import Config
from birdmix.duration import parse_duration
from birdmix.experiments.builders import build_model, build_training_run
from birdmix.labels import Labels
from birdmix.loading.batch import Batch
from birdmix.loading.run_data import RunData, open_data
from birdmix.loading.sampler import SegmentBatchSampler
from birdmix.mix import DrawContext, Examples
from birdmix.training import distributed_processes, training_loop
from birdmix.training.checkpoint import CheckpointSchedule, load_checkpoint
from birdmix.training.distributed_processes import connect_processes
from birdmix.training.monitor import best_epochs, is_stalled
from birdmix.training.out_of_memory import first_examples
from birdmix.training.run_position import RunPosition
from birdmix.training.settings import CheckpointSettings, TrainerSettings
from birdmix.training.stop_requests import EXIT_TIME_LIMIT, RunStopped, StopRequests
from birdmix.training.training_run import TrainingRun
from birdmix.training.validation import choose_monitor, evaluate
from tests.conftest import ROOT, SMALL, TOY, assert_equal_runs, make_config, train


@pytest.fixture
def config(demo: Path) -> Config:
    return make_config(*TOY, f"data.root={demo}")


@pytest.fixture(scope="module")
def data(demo: Path) -> RunData:
    config = make_config(*TOY, f"data.root={demo}")
    return open_data(config.data, config.frontend.log_mel.sample_rate)


@pytest.fixture(scope="module")
def uninterrupted(demo: Path, data: RunData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted")
    train(make_config(*TOY, f"data.root={demo}"), data, run)
    return run


def build(config: Config, data: RunData, run: Path) -> TrainingRun:
    return build_training_run(config, data, run, connect_processes(config.trainer))


class ActingHook:
    """A hook that calls a function after a given number of batches."""

    def __init__(self, act, at: int) -> None:
        self.act, self.at, self.batches = act, at, 0

    def on_batch(self, position: RunPosition, num_examples: int) -> None:
        self.batches += 1
        if self.batches == self.at:
            self.act()

    def before_validation(self) -> None:
        pass

    def on_epoch(self, metrics: dict, seconds: dict) -> None:
        self.seconds = seconds


def test_another_seed_gives_other_weights(
    config: Config, data: RunData, uninterrupted: Path, tmp_path: Path
):
    other = train(replace(config, seed=1), data, tmp_path)
    weight = load_checkpoint(uninterrupted)["model"]["head.classes.weight"]
    assert not torch.equal(other.model.head.classes.weight, weight)


def test_the_number_of_optimizer_steps_accounts_for_accumulation(
    config: Config, data: RunData, tmp_path: Path
):
    training = build(config, data, tmp_path)
    assert training.batches_per_epoch == 10  # 48 segments in batches of 5, the last one short
    assert training.total_steps == 10


def test_a_batch_too_small_for_the_mix_is_refused_at_the_start(
    config: Config, data: RunData, tmp_path: Path
):
    config.data.batch_size = 47  # leaves a last batch of one
    with pytest.raises(ValueError, match=r"joins 3 examples.*may hold only 1.*data.drop_last=true"):
        build(config, data, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_device_is_a_one_line_error():
    with pytest.raises(ValueError, match="trainer.accelerator=gpu is not available here"):
        connect_processes(TrainerSettings(accelerator="gpu"))


# ---- stop requests


@pytest.mark.parametrize(("number", "num_workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_a_signal_saves_at_the_next_safe_point_and_the_run_resumes_exactly(
    config: Config,
    data: RunData,
    uninterrupted: Path,
    tmp_path: Path,
    number: signal.Signals,
    num_workers: int,
):
    config.data.num_workers = num_workers
    stopped = build(config, data, tmp_path)
    # During accumulation; loader processes get the signal too.
    stopped.hooks = [ActingHook(lambda: os.kill(os.getpid(), number), at=13)]
    with pytest.raises(RunStopped, match=f"batch 4 of epoch 2 .{number.name}. and saved") as ended:
        training_loop.fit(stopped)
    assert ended.value.status == 128 + number
    assert f"resume={tmp_path}" in str(ended.value)
    train(config, data, tmp_path, load_checkpoint(tmp_path))
    assert_equal_runs(tmp_path, uninterrupted)


def test_a_signal_during_validation_stops_before_its_end(
    config: Config,
    data: RunData,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    stopped = build(config, data, tmp_path)
    calls = []

    def interrupted(*_: object, after_batch) -> None:
        calls.append(1)
        stopped.stop_requests._record_signal(signal.SIGTERM, None)
        after_batch()

    monkeypatch.setattr(training_loop, "evaluate", interrupted)
    with pytest.raises(RunStopped, match="batch 10 of epoch 1"):
        training_loop.fit(stopped)
    assert calls == [1] and (tmp_path / "metrics.csv").read_text() == ""
    monkeypatch.undo()
    train(config, data, tmp_path, load_checkpoint(tmp_path))
    assert_equal_runs(tmp_path, uninterrupted)


def test_a_second_signal_acts_at_once():
    before = signal.getsignal(signal.SIGINT)
    with StopRequests() as requests:
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.exit_status() == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_time_limit_saves_and_stops(config: Config, data: RunData, tmp_path: Path):
    training = build(config, data, tmp_path)
    training.stop_requests.ends_at = time.monotonic()
    with pytest.raises(RunStopped, match="time limit reached") as ended:
        training_loop.fit(training)
    assert ended.value.status == EXIT_TIME_LIMIT
    assert load_checkpoint(tmp_path)["position"]["step"] == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("8h30m", 30600), ("1d", 86400), ("45s", 45), ("00:01:30", 90),
     ("01:00:00:01", 86401)],
)  # fmt: skip
def test_durations_are_parsed(text: str, seconds: int):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "m", "5x", "0s", "1:2", "30m1h", "-5m"])
def test_invalid_durations_are_refused(text: str):
    with pytest.raises(ValueError, match="is not a duration above 0; write it like 90m"):
        parse_duration(text)


# ---- checkpoints


def test_checkpoints_are_due_by_time_or_by_steps(config: Config, data: RunData, tmp_path: Path):
    steps = []

    def saved_steps(**settings) -> list[int]:
        config.checkpoint = CheckpointSettings(**settings)
        training = build(config, data, tmp_path)
        save = training.checkpoint_schedule.save
        training.checkpoint_schedule.save = lambda run, state, step, write: (
            steps.append(step),
            save(run, state, step, False),
        )
        steps.clear()
        training_loop.fit(training)
        return steps

    assert saved_steps(every_steps=2)[:3] == [2, 4, 5]  # and at the end of the epoch
    assert set(saved_steps(every_minutes=1e-9)) == set(range(1, 11))
    assert saved_steps(every_minutes=60)[-1] == 10


def test_the_end_of_an_epoch_is_not_saved_if_saving_is_slow(config: Config):
    schedule = CheckpointSchedule(config.checkpoint)
    assert schedule.is_saving_cheap()
    schedule.last_duration_seconds, schedule.last_time = 2.0, time.monotonic() - 100
    assert not schedule.is_saving_cheap()
    schedule.last_time -= 200
    assert schedule.is_saving_cheap()


# ---- errors


def with_nan_weights(training: TrainingRun, at: int) -> TrainingRun:
    """Set a weight to nan after a batch."""

    def set_nan() -> None:
        with torch.no_grad():
            training.model.head.classes.bias.fill_(math.nan)

    training.hooks = [ActingHook(set_nan, at)]
    return training


def test_a_loss_of_nan_is_an_error_with_the_recordings_and_keeps_the_checkpoint(
    config: Config, data: RunData, tmp_path: Path
):
    config.checkpoint.every_steps = 1
    training = with_nan_weights(build(config, data, tmp_path), at=3)
    with pytest.raises(ValueError, match="the loss is nan in epoch 1, batch 4; lower") as error:
        training_loop.fit(training)
    order = SegmentBatchSampler(np.full(24, 2.0), 5, seed=0, num_epochs=1, drop_last=False)
    paths = data.train.paths
    named = str(error.value).split("\n  ")[1:]
    assert named == list(dict.fromkeys(paths[row] for row in order.rows_of_epoch(0)[15:20]))
    assert load_checkpoint(tmp_path)["position"]["step"] == 1


def test_nonfinite_weights_are_not_saved(config: Config, data: RunData, tmp_path: Path):
    config.checkpoint.every_steps = 1
    training = with_nan_weights(
        build(config, data, tmp_path), at=4
    )  # the losses of this step were finite
    with pytest.raises(ValueError, match="weights became infinite or nan in epoch 1, batch 4"):
        training_loop.fit(training)
    assert load_checkpoint(tmp_path)["position"]["step"] == 1


def test_nonfinite_validation_logits_are_an_error_with_the_recordings(
    config: Config, data: RunData, tmp_path: Path
):
    training = build(config, data, tmp_path)
    validation = training.validation[0]
    training.model.register_forward_hook(  # a logit of nan for one window of each batch
        lambda module, inputs, output: output._replace(
            logits=torch.cat([torch.full_like(output.logits[:1], math.nan), output.logits[1:]])
        )
    )
    with pytest.raises(ValueError, match=f"{validation.name}: logits of .* are not finite"):
        evaluate(
            training.processes.as_single_process(),
            training.model,
            training.step.log_mel,
            validation,
        )


@pytest.mark.parametrize(("clean_weight", "limit"), [(0.0, 5), (0.5, 10)])
def test_out_of_memory_is_an_error_with_a_batch_size_that_fits(
    config: Config, data: RunData, tmp_path: Path, clean_weight: float, limit: int
):
    config.data.batch_size, config.mix.clean_weight = 16, clean_weight
    training = build(config, data, tmp_path)

    def limit_memory(module: torch.nn.Module, inputs: tuple) -> None:
        if len(inputs[0]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")

    training.model.backbone.register_forward_pre_hook(limit_memory)
    with pytest.raises(
        ValueError,
        match=r"CUDA out of memory: a batch of 16 segments does not fit, one of 4 does; use "
        r"data.batch_size=4 trainer.accumulate=8 for",
    ):
        training_loop.fit(training)


def test_out_of_memory_for_the_smallest_batch_is_an_error_with_other_remedies(
    config: Config, data: RunData, tmp_path: Path
):
    training = build(config, data, tmp_path)

    def out_of_memory(module: torch.nn.Module, inputs: tuple) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    training.model.backbone.register_forward_pre_hook(out_of_memory)
    with pytest.raises(
        ValueError, match="a batch of 3 segments does not fit either; use a smaller"
    ):
        training_loop.fit(training)


def test_the_first_examples_of_a_batch_keep_its_mix_pool():
    x = torch.zeros(4, 8)
    examples = Examples(x, x, x[:, 0], x > 0)
    context = DrawContext(4, {"noise": 4}, row=np.arange(8))
    few = first_examples(Batch(examples, context, examples), 3)
    assert len(few.examples.x) == len(few.examples.weight) == few.context.batch_size == 3
    assert few.context.row is not None and few.context.row.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert few.examples.frames is None
    assert few.pool is not None and len(few.pool.x) == 4


# ---- the monitored metric


def test_the_best_epochs_are_ranked_by_the_metric():
    values = [0.5, math.nan, 0.7, 0.7, 0.6]
    assert best_epochs(values, "validation_macro_roc_auc", 2) == [2, 3]
    assert best_epochs(values, "validation_loss", 2) == [0, 4]
    assert best_epochs([math.nan], "validation_loss", 2) == []


def test_training_stalls_after_patience_epochs_without_improvement():
    def is_run_stalled(values: list[float], patience: int | None = 2) -> bool:
        return is_stalled(values, "validation_macro_roc_auc", patience)

    assert not is_run_stalled([]) and not is_run_stalled([0.5]) and not is_run_stalled([0.5, 0.4])
    assert is_run_stalled([0.5, 0.4, 0.5])  # an equal value is no improvement
    assert not is_run_stalled([0.5, 0.4, 0.6]) and not is_run_stalled(
        [0.5, 0.4, 0.4], patience=None
    )
    assert is_run_stalled([math.nan, math.nan])


def test_a_stalled_run_stops_early(config: Config, data: RunData, tmp_path: Path):
    config.trainer.max_epochs = 30
    config.validation.patience = 1
    config.validation.monitor = "train_loss"
    training = build(config, data, tmp_path)
    training.optim = replace(training.optim, lr=1e-12)  # the loss changes by chance only
    training_loop.fit(training)
    losses = pd.read_csv(tmp_path / "metrics.csv")["train_loss"].tolist()
    assert len(losses) < 30 and np.argmin(losses) == len(losses) - 2
    resumed = build_training_run(
        config, data, tmp_path, training.processes, load_checkpoint(tmp_path)
    )
    assert resumed.is_done


def test_an_unknown_monitored_metric_is_refused_at_the_start(
    config: Config, data: RunData, tmp_path: Path
):
    config.validation.monitor = "validation_soundscape_rocauc"
    with pytest.raises(ValueError, match="did you mean 'validation_soundscape_macro_roc_auc'"):
        build(config, data, tmp_path)
    assert choose_monitor([], None) is None
    config.validation.monitor, config.validation.patience = None, 2
    with pytest.raises(ValueError, match="need a validation set"):
        build(config, replace(data, validation={}), tmp_path)


# ---- devices, precision, time


class ScalingFabric(Fabric):
    """Scales losses as 16-mixed does on a GPU; on a CPU Fabric uses bf16 instead."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.strategy.precision.scaler = torch.amp.GradScaler("cpu", growth_interval=3)


@pytest.mark.parametrize("scaled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_low_precision_resumes_exactly_with_the_state_of_the_gradient_scaler(
    config: Config, data: RunData, tmp_path: Path, scaled: bool, monkeypatch: pytest.MonkeyPatch
):
    config.trainer.precision = "bf16-mixed"
    if scaled:
        monkeypatch.setattr(distributed_processes, "Fabric", ScalingFabric)
    stopped = build(config, data, tmp_path)
    stopped.hooks = [ActingHook(lambda: os.kill(os.getpid(), signal.SIGTERM), at=13)]
    with pytest.raises(RunStopped):
        training_loop.fit(stopped)
    state = load_checkpoint(tmp_path)
    assert state["precision"].get("_growth_tracker") == (1 if scaled else None)
    train(config, data, tmp_path, state)
    train(config, data, tmp_path / "uninterrupted")
    assert_equal_runs(tmp_path, tmp_path / "uninterrupted")


def test_an_overflow_of_gradients_skips_one_optimizer_step(
    config: Config, data: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config.trainer.precision = "bf16-mixed"
    monkeypatch.setattr(distributed_processes, "Fabric", ScalingFabric)
    training = build(config, data, tmp_path)
    scaler = training.fabric.strategy.precision.scaler
    calls = []

    def overflow_once(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * (math.inf if len(calls) == 3 else 1)

    training.model.head.classes.bias.register_hook(overflow_once)
    training_loop.fit(training)
    steps = [int(state["step"]) for state in training.optimizer.state.values()]
    assert set(steps) == {9} and training.position.step == 10
    assert scaler.get_scale() == 2.0**16 / 2 * 2**2  # halved once, doubled after 3 and 3 good steps
    assert all(weight.isfinite().all() for weight in training.model.parameters())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_run_resumes_exactly_and_its_weights_keep_their_names(
    config: Config, data: RunData, tmp_path: Path
):
    plain = build_model(config, Labels(tuple("abcdefghijkl")), torch.device("cpu"))
    config.trainer.compile = True
    stopped = build(config, data, tmp_path)
    assert stopped.model.state_dict().keys() == plain.state_dict().keys()
    stopped.hooks = [ActingHook(lambda: os.kill(os.getpid(), signal.SIGTERM), at=13)]
    with pytest.raises(RunStopped):
        training_loop.fit(stopped)
    train(config, data, tmp_path, load_checkpoint(tmp_path))
    train(config, data, tmp_path / "uninterrupted")
    assert_equal_runs(tmp_path, tmp_path / "uninterrupted")


def test_time_is_measured_per_phase(config: Config, data: RunData, tmp_path: Path):
    training = build(config, data, tmp_path)
    hook = ActingHook(lambda: time.sleep(0.3), at=15)
    training.hooks = [hook]
    began = time.perf_counter()
    training_loop.fit(training)
    elapsed = time.perf_counter() - began
    seconds = hook.seconds
    assert set(seconds) == {
        "loading", "transfer", "mixing", "mel", "model", "validation", "saving",
    }  # fmt: skip
    assert all(value >= 0 for value in seconds.values()) and sum(seconds.values()) <= elapsed
    assert min(seconds["model"], seconds["mel"], seconds["validation"]) > 0
    assert seconds["loading"] > 0.3  # time in hooks counts as waiting for data


def test_invalid_settings_are_refused():
    for settings, message in (
        (lambda: TrainerSettings(max_time="soon"), "max_time='soon' is not a duration"),
        (lambda: CheckpointSettings(every_steps=0), "every_steps=0: at least 1"),
        (lambda: CheckpointSettings(bundle="best"), "set checkpoint.best_k=1"),
        (lambda: CheckpointSettings(best_k=-1), "best_k=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            settings()


# ---- the words of the configuration


@pytest.mark.parametrize("option", sorted(file.stem for file in (ROOT / "conf/mix").iterdir()))
def test_the_demo_trains_with_each_option_of_the_mix_group(
    demo: Path, tmp_path: Path, data: RunData, option: str
):
    config = make_config(
        *SMALL, f"data.root={demo}", f"mix={option}", "trainer.max_epochs=1", "data.batch_size=4",
        "loggers=[]", "run_dir=.",
    )  # fmt: skip
    training = train(config, data, tmp_path)
    metrics = pd.read_csv(tmp_path / "metrics.csv").iloc[0]
    assert np.isfinite(metrics["train_loss"])
    for name in training.step.mix_stages.operator_names:
        assert metrics[f"mix_{name}_rate"] > 0

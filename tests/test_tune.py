"""Hyper-parameter search: search spaces, suggestions, pruning, and resuming after interruption."""

import copy
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from birdmix.cli.main import app
from birdmix.config.composition import compose_config
from birdmix.config.run_config_file import read_config, write_config
from birdmix.config.schema import Config
from birdmix.experiments import run_series
from birdmix.experiments.run import MakeHook
from birdmix.experiments.run_directory import register_run_output_files
from birdmix.experiments.run_series import lock_folder
from birdmix.experiments.tuning import trial_loop
from birdmix.experiments.tuning.optuna_study import Pruned, PruningHook, build_study
from birdmix.experiments.tuning.search_space import (
    covering_points,
    read_search_space,
    to_distributions,
    to_overrides,
)
from birdmix.experiments.tuning.trial_loop import tune
from birdmix.experiments.tuning.trials import Trial, read_trials
from birdmix.training.stop_requests import RunStopped
from tests.conftest import ROOT, SMALL, assert_equal_runs

METRIC = "validation_macro_roc_auc"
SPACE = {"optim.lr": {"low": 1e-3, "high": 1e-1, "log": True}, "mix": ["none", "both"]}


def write_space(
    folder: Path, text: str = "optim.lr: {low: 1e-3, high: 1}\nmix: [none, both]"
) -> Path:
    file = folder / "space.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr: 3", "optim.lr: 3: write {low: NUMBER, high: NUMBER}, or a list of choices"),
        ("optim.lr: {low: 1, hihg: 2}", "write {low: NUMBER, high: NUMBER}"),
        ("optim.lr: {low: 1, high: 2, steps: 1}", "steps is unknown; did you mean 'step'?"),
        ("optim.lr: {low: 2, high: 1}", "low=2 must be below high=1"),
        ("optim.lr: {low: 0, high: 1, log: true}", "log needs low above 0"),
        ("mix: [none]", "a list of choices needs at least two"),
        ("- optim.lr", "a search space is a mapping with a line per setting"),
        (
            "optim.lr: {low: 1e-3, high: 1}\nmix.mixup_porb: [0, 1]",
            "did you mean 'mix.mixup_prob'?",
        ),
        ("mix.mixup_prob: {low: 0, high: 2}", "mix.mixup_prob=2.0: a probability lies in [0, 1]"),
        ("mix: [none, boht]", "mix=boht is unknown; did you mean 'both'?"),
        ("seed: [1, 2]", "seed is in the overrides and in the search space; remove it"),
    ],
)
def test_a_wrong_search_space_is_refused_before_any_trial(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ValueError) as error:
        tune(write_space(tmp_path, text), ["seed=1"], tmp_path / "out", 2)
    assert expected in str(error.value) and not (tmp_path / "out").exists()


def test_every_key_and_bound_of_conf_tune_yaml_is_valid():
    for point in covering_points(read_search_space(ROOT / "conf" / "tune.yaml")):
        compose_config(to_overrides(point))


def test_without_a_search_space_the_command_uses_the_packaged_one(tmp_path: Path, set_runs):
    set_runs({0: [0.5]})
    call = ["tune", "trainer.max_epochs=4", "--out", str(tmp_path), "--trials", "1"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    packaged = read_search_space(ROOT / "conf" / "tune.yaml")
    assert read_search_space(tmp_path / "space.yaml") == packaged
    assert read_config(tmp_path, "base.yaml").trainer.max_epochs == 4


def test_a_search_may_choose_options_in_a_folder_of_the_user(tmp_path: Path, monkeypatch):
    (tmp_path / "my" / "mix").mkdir(parents=True)
    (tmp_path / "my" / "mix" / "mine.yaml").write_text("mixup_prob: 0.123\n")
    run = fake_run({0: [0.5], 1: [0.5]})
    monkeypatch.setattr(run_series, "run", run)
    space, out = write_space(tmp_path, "mix: [none, mine]"), tmp_path / "out"
    call = ["tune", str(space), "--config-dir", f"{tmp_path}/my", "--out", str(out)]
    done = CliRunner().invoke(app, [*call, "--trials", "2"])
    assert done.exit_code == 0, done.output
    drawn = {trial.params["mix"]: trial.run_directory_in(out) for trial in read_trials(out)}
    for option, folder in drawn.items():
        assert read_config(folder).mix.mixup_prob == {"none": 0, "mine": 0.123}[option]


def test_choices_of_a_text_setting_are_taken_as_typed(tmp_path: Path):
    text = "data.root: [2024_05, 1e5, /x/vögel, 'a,b']\ndata.num_folds: [2, 3]\n"
    space = read_search_space(write_space(tmp_path, text))
    assert space == {"data.root": ["2024_05", "1e5", "/x/vögel", "a,b"], "data.num_folds": [2, 3]}
    for point in covering_points(space):
        assert compose_config(to_overrides(point)).data.root == point["data.root"]


def test_the_schema_decides_whether_bounds_are_integers_or_floats(tmp_path: Path):
    text = (
        "mix.mixup_prob: {low: 0, high: 1}\ndata.batch_size: {low: 4, high: 12, step: 4}\n"
        "data.batch_shares.x: {low: 0, high: 1}\ndata.pools.x.size: {low: 1, high: 9}\n"
        "optim.weight_decay: {low: 0, high: 1}\ndata.cap: {low: 1, high: 9}"
    )
    by_key = to_distributions(read_search_space(write_space(tmp_path, text)))
    assert [type(each).__name__ for each in by_key.values()] == [
        *("FloatDistribution", "IntDistribution", "FloatDistribution"),
        *("IntDistribution", "FloatDistribution", "IntDistribution"),
    ]
    assert to_overrides({"a": 0.1, "b": True, "c": "d e"}) == ["a=0.1", "b=true", "c='d e'"]


def write_trial(folder: Path, number: int, *values: float, state: str = "complete") -> Trial:
    """Write the files of an ended trial, given its metric after each epoch."""
    params = {"optim.lr": 0.002 * (number + 1), "mix": "none"}
    trial = Trial(number, params, state, METRIC, values[-1])
    trial.write(folder)
    table = pd.DataFrame({"epoch": range(1, len(values) + 1), METRIC: values})
    table.to_csv(trial.run_directory_in(folder) / "metrics.csv", index=False)
    return trial


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"number": "1"}', '{"figures": 1}'])
def test_a_damaged_trial_file_is_reported_in_one_line(tmp_path: Path, text: str):
    write_trial(tmp_path, 0, 0.5)
    (tmp_path / "trial-000" / "trial.json").write_text(text)
    with pytest.raises(ValueError, match=r"trial-000/trial.json: damaged: .*; remove the folder"):
        read_trials(tmp_path)


def test_a_suggestion_depends_on_the_seed_and_the_earlier_trials_only(tmp_path: Path):
    trials = [write_trial(tmp_path, number, 0.1 * number) for number in range(12)]
    read = read_trials(tmp_path)
    assert read == trials

    def suggest(seed: int, trials: list[Trial]) -> dict:
        return build_study(tmp_path, SPACE, seed, trials).ask(to_distributions(SPACE)).params

    suggestion = suggest(0, trials)
    assert suggestion == suggest(0, read)
    assert suggestion != suggest(1, trials)
    assert suggestion != suggest(0, trials[:-1])


def end_epoch(study: object, *values: float, max_epochs: int = 4) -> None:
    """Call the pruning hook at the end of an epoch, given the metric of each epoch so far."""
    training = SimpleNamespace(
        trainer=SimpleNamespace(max_epochs=max_epochs),
        position=SimpleNamespace(monitored=list(values)),
        is_done=len(values) >= max_epochs,
    )
    PruningHook(study, training).on_epoch({}, {})  # type: ignore[arg-type]


def test_a_trial_below_the_median_of_the_others_is_pruned(tmp_path: Path):
    trials = [write_trial(tmp_path, number, 0.5, 0.6 + 0.01 * number, 0.9) for number in range(5)]
    study = build_study(tmp_path, SPACE, 0, trials)
    end_epoch(study, 0.1)  # no pruning in the first quarter of the epochs
    end_epoch(study, 0.1, 0.63)
    end_epoch(study, 0.63, float("nan"))
    with pytest.raises(Pruned):
        end_epoch(study, 0.1, 0.61)
    end_epoch(study, 0.1, 0.1, max_epochs=2)  # no pruning at the last epoch


@functools.cache
def compose_once(*overrides: str) -> Config:
    return compose_config(list(overrides))


@pytest.fixture
def set_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[dict[int, list[float] | Exception]], None]:
    """Return a function that replaces training runs by fake ones with the given metrics."""

    def compose(overrides: list[str]) -> Config:
        common = [text for text in overrides if not text.startswith(("optim.lr", "mix"))]
        return copy.deepcopy(compose_once(*common))

    monkeypatch.setattr(trial_loop, "compose_config", compose)
    return lambda results: monkeypatch.setattr(run_series, "run", fake_run(results))


def fake_run(results: dict[int, list[float] | Exception]) -> object:
    """Return a fake of ``run`` that calls the hook like a real run.

    Args:
        results: Metric after each epoch, or the error of the run, by trial number.
    """

    def run(config: Config, directory: Path, make_hook: MakeHook) -> dict[str, float]:
        register_run_output_files(directory, is_resumed=config.resume is not None)
        write_config(directory, config)
        result = results[int(directory.name[-3:])]
        training = SimpleNamespace(
            monitor=METRIC,
            trainer=config.trainer,
            position=SimpleNamespace(monitored=[]),
            is_done=False,
        )
        hook = make_hook(training)  # type: ignore[arg-type]
        if isinstance(result, Exception):
            raise result
        for epoch, value in enumerate(result, start=1):
            training.position.monitored.append(value)
            table = pd.DataFrame({"epoch": range(1, epoch + 1), METRIC: result[:epoch]})
            table.to_csv(directory / "metrics.csv", index=False)
            hook.on_epoch({}, {})
        return {METRIC: result[-1]}

    return run


def birdmix_error(text: str) -> Exception:
    """Return an error that birdmix raised, hence one that a user can fix."""
    try:
        read_search_space(Path(text))
    except ValueError as error:
        return error
    raise AssertionError


def test_failed_and_pruned_trials_are_rows_and_the_best_trial_is_printed(
    tmp_path: Path, set_runs, capsys
):
    complete = {number: [0.5, 0.6] for number in range(4)}
    set_runs(
        complete | {2: birdmix_error("lost"), 4: [0.7, 0.8], 5: [0.6, 0.6], 6: [0.1, 0.1, 0.9]}
    )
    out = tmp_path / "out"
    tune(write_space(tmp_path), ["trainer.max_epochs=4"], out, 7)
    table = pd.read_csv(out / "trials.csv")
    assert table["trial"].tolist() == list(range(7))
    assert table["state"].tolist() == [*["complete"] * 2, "failed", *["complete"] * 3, "pruned"]
    assert table["value"].tolist()[3:] == [0.6, 0.8, 0.6, 0.1] and "lost" in table["error"][2]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith(f"best: trial 4, {METRIC} 0.8000, in {out}")
    best = read_trials(out)[4].params
    assert lines[-1].split() == ["birdmix", "train", "trainer.max_epochs=4", *to_overrides(best)]


def test_a_search_ends_if_its_first_trials_fail_with_the_same_error(tmp_path: Path, set_runs):
    set_runs(dict.fromkeys(range(9), birdmix_error("lost")))
    with pytest.raises(ValueError, match="the first 3 trials failed with the same error: lost"):
        tune(write_space(tmp_path), [], tmp_path / "out", 9)
    assert len(read_trials(tmp_path / "out")) == 3


@pytest.mark.parametrize("name", ["space.yaml", "base.yaml", "trials.csv", "trial-000/thesis"])
def test_a_search_does_not_replace_files_of_a_user(tmp_path: Path, set_runs, name: str):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("a user's")
    (tmp_path / "out" / ".lock").write_text("a user's too")
    set_runs({0: [0.5]})
    with pytest.raises(ValueError, match="birdmix did not write it|exists and is not a trial"):
        tune(write_space(tmp_path), [], tmp_path / "out", 1)
    assert file.read_text() == "a user's"
    assert (tmp_path / "out" / ".lock").read_text() == "a user's too"


def test_an_interrupted_search_resumes_its_unfinished_trial(tmp_path: Path, set_runs, capsys):
    out, space = tmp_path / "out", write_space(tmp_path)
    stopped = RunStopped(143, "the end of epoch 1", out)
    set_runs({0: [0.5], 1: stopped})
    with pytest.raises(SystemExit) as end:
        tune(space, [], out, 3)
    assert end.value.code == 143
    assert (
        "stopped in trial 1, which is saved; the same command continues it"
        in capsys.readouterr().err
    )
    before = read_trials(out)
    assert [trial.state for trial in before] == ["complete", "running"]
    set_runs({1: [0.7], 2: [0.6]})
    tune(space, [], out, 3)
    assert read_trials(out)[0] == before[0] and read_trials(out)[1].params == before[1].params
    assert read_config(out / "trial-001").resume == str(out / "trial-001")
    assert [trial.value for trial in read_trials(out)] == [0.5, 0.7, 0.6]


def test_other_settings_or_a_second_process_in_the_folder_of_a_search_are_refused(
    tmp_path: Path, set_runs
):
    set_runs({0: [0.5], 1: [0.6]})
    out, space = tmp_path / "out", write_space(tmp_path)
    tune(space, ["data.num_workers=0"], out, 1)
    with pytest.raises(ValueError, match="holds a search with other settings: seed 0 -> 1;"):
        tune(space, ["seed=1"], out, 2)
    with lock_folder(out, "search"), pytest.raises(ValueError, match="another search is running"):
        tune(space, [], out, 2)
    write_space(tmp_path, "optim.lr: {low: 1e-3, high: 1}\nmix: [none, cutmix]")
    with pytest.raises(ValueError, match=r"mix \['none', 'both'\] -> \['none', 'cutmix'\]"):
        tune(space, [], out, 2)


def test_without_optuna_the_error_names_the_package_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'birdmix\[tune\]'"):
        tune(write_space(tmp_path), [], tmp_path, 1)


@pytest.mark.slow
def test_trials_are_complete_runs_and_contain_no_api_key_of_a_logger(
    demo: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "a-key-that-is-secret")
    out = tmp_path / "out"
    overrides = [*SMALL, f"data.root={demo}", "trainer.max_epochs=1"]
    tune(write_space(tmp_path), overrides, out, 2)
    for trial in read_trials(out):
        run = trial.run_directory_in(out)
        assert json.loads((run / "metrics.json").read_text())[trial.metric] == trial.value
        assert read_config(run).optim.lr == trial.params["optim.lr"]
        assert (run / "bundle" / "bundle.json").is_file() and (run / "tensorboard").is_dir()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"a-key-that-is-secret" in path.read_bytes()]


@pytest.mark.slow
def test_a_killed_and_resumed_search_gives_the_result_of_an_uninterrupted_one(
    demo: Path, tmp_path: Path
):
    text = "optim.lr: {low: 1e-3, high: 1e-1, log: true}\nmix.mixup_prob: {low: 0, high: 1}"
    settings = (
        *SMALL, f"data.root={demo}", "loggers=[]", "trainer.max_epochs=3",
        "checkpoint.every_steps=1",
    )  # fmt: skip
    code = "from birdmix.cli.main import main; main()"

    def start(out: Path) -> subprocess.Popen:
        command = ["tune", str(write_space(tmp_path, text)), *settings, "--trials", "3"]
        return subprocess.Popen([sys.executable, "-c", code, *command, "--out", str(out)], cwd=ROOT)

    assert start(tmp_path / "uninterrupted").wait(300) == 0
    killed = tmp_path / "killed"
    for kill_after in ("trial-000/last.ckpt", "trial-001/config.yaml", "trial-001/previous.ckpt"):
        process = start(killed)
        while not (killed / kill_after).exists() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (killed / "trial-001" / "metrics.json").exists()
    assert start(killed).wait(300) == 0
    for one, two in zip(read_trials(tmp_path / "uninterrupted"), read_trials(killed), strict=True):
        assert (one.params, one.state, one.value) == (two.params, two.state, two.value)
        assert_equal_runs(
            one.run_directory_in(tmp_path / "uninterrupted"), two.run_directory_in(killed)
        )
